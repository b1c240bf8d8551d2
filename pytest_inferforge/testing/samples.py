"""Files shaped like the public traces, of any size, from a seed.

Requests come in bursts, lengths are lognormal, and where a format knows of prefixes or sessions, half of
the requests go on from an earlier one.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np

from pytest_inferforge.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Row = tuple[float, int, int, int, bool, bool]

_CHUNK = 10_000  # rows drawn together
_RATE_PER_S = 10.0
_BURSTINESS = 0.25
_RECENT = 1000  # earlier requests that may be gone on from
_BEGAN = datetime(2023, 11, 16, 18, 17, 3, tzinfo=UTC)
_CLASSES = ("chat", "rag", "batch")


def write_trace(path: Path, format: str, rows: int, seed: int) -> None:  # noqa: A002 (as traces.read)
    """Write a trace of `rows` requests: mooncake, burstgpt, azure or inferforge.

    Equal arguments give equal files. Of the rows of burstgpt one in twenty failed.

    Raises:
        UsageError: another format.
    """
    if format not in _WRITERS:
        raise UsageError("unknown trace format", seen=format, do=f"known: {', '.join(_WRITERS)}")
    head, lines, median_tokens = _WRITERS[format]
    with path.open("w", encoding="utf-8") as file:
        file.write(head)
        file.writelines(lines(_rows(rows, median_tokens, np.random.default_rng(seed))))


def _rows(rows: int, median_tokens: int, rng: np.random.Generator) -> Iterator[Row]:
    """(time in s, prompt tokens, output tokens, which recent request, goes on from it, one in twenty)."""
    time_s = 0.0
    for start in range(0, rows, _CHUNK):
        n = min(_CHUNK, rows - start)
        times = time_s + np.cumsum(rng.gamma(_BURSTINESS, 1 / (_RATE_PER_S * _BURSTINESS), size=n))
        prompts = rng.lognormal(np.log(median_tokens), 0.8, size=n).round().clip(1, 120_000).astype(int)
        outputs = rng.lognormal(np.log(250), 0.7, size=n).round().clip(1, 4000).astype(int)
        recent = rng.integers(0, _RECENT, size=n)
        again = rng.random(n) < 0.5
        rare = rng.random(n) < 0.05
        columns = (times, prompts, outputs, recent, again, rare)
        yield from zip(*(column.tolist() for column in columns), strict=True)
        time_s = float(times[-1])


def _chains(rows: Iterator[Row], block_tokens: int) -> Iterator[tuple[Row, list[int], int]]:
    """Each row with the ids of its prefix blocks and its session; all begin with block 0."""
    chains: list[tuple[list[int], int]] = []
    blocks, sessions = 1, 0
    for k, row in enumerate(rows):
        size = -(-row[1] // block_tokens)
        shared, session = [0], sessions
        if row[4] and chains:
            shared, session = chains[row[3] % len(chains)]
        else:
            sessions += 1
        fresh = max(0, size - len(shared))
        ids = shared[:size] + list(range(blocks, blocks + fresh))
        blocks += fresh
        if len(chains) < _RECENT:
            chains.append((ids, session))
        else:
            chains[k % _RECENT] = (ids, session)
        yield row, ids, session


def _mooncake(rows: Iterator[Row]) -> Iterator[str]:
    for row, ids, _ in _chains(rows, 512):
        yield (
            f'{{"timestamp": {round(row[0] * 1000)}, "input_length": {row[1]}, "output_length": {row[2]},'
            f' "hash_ids": {ids}}}\n'
        )


def _inferforge(rows: Iterator[Row]) -> Iterator[str]:
    for row, ids, session in _chains(rows, 256):
        yield (
            f'{{"due_s": {row[0]:.6f}, "prompt_tokens": {row[1]}, "output_tokens": {row[2]},'
            f' "session": "user-{session}", "class": "{_CLASSES[row[3] % 3]}", "blocks": {ids}}}\n'
        )


def _burstgpt(rows: Iterator[Row]) -> Iterator[str]:
    for row, _, session in _chains(rows, 512):
        time_s, prompt, output, model, _, failed = row
        user = f"{session:08x}-8be6-4d9f-b4c4-2b9a5a7e6f10" if model % 2 else ""
        kind = "Conversation log" if user else "API log"
        output = 0 if failed else output
        name = "GPT-4" if model % 5 == 0 else "ChatGPT"
        yield f"{time_s:.1f},{user},{1 + output // 30},{name},{prompt},{output},{prompt + output},{kind}\n"


def _azure(rows: Iterator[Row]) -> Iterator[str]:
    for time_s, prompt, output, *_ in rows:
        when = _BEGAN + timedelta(seconds=time_s)
        yield f"{when:%Y-%m-%d %H:%M:%S.%f}0,{prompt},{output}\n"


# format -> what the file begins with, its lines, the median of prompt tokens
_WRITERS: dict[str, tuple[str, Callable[[Iterator[Row]], Iterator[str]], int]] = {
    "mooncake": ("", _mooncake, 6000),
    "burstgpt": (
        "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n",
        _burstgpt,
        400,
    ),
    "azure": ("TIMESTAMP,ContextTokens,GeneratedTokens\n", _azure, 1000),
    "inferforge": ('{"block_tokens": 256}\n', _inferforge, 1000),
}
