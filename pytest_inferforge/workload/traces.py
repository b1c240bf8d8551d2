"""Recorded traces as columns: when requests came, how long they were, what they shared."""

from __future__ import annotations

import difflib
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from pytest_inferforge.errors import UsageError
from pytest_inferforge.workload import textfiles, trace_formats, trace_ids

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from pytest_inferforge.workload.trace_formats import Columns


@dataclass(frozen=True, slots=True)
class _Format:
    """How a file of it is read, what its first row has, and how a row looks."""

    read: Callable[[Path, str], Columns]
    fields: tuple[str, ...]
    row: str


FORMATS = {
    "mooncake": _Format(
        trace_formats.mooncake,
        ("timestamp", "input_length", "output_length", "hash_ids"),
        '{"timestamp": 27482, "input_length": 6955, "output_length": 52, "hash_ids": [46, 47, 2353]}',
    ),
    "burstgpt": _Format(
        trace_formats.burstgpt,
        ("Timestamp", "Request tokens", "Response tokens"),
        "5,ChatGPT,472,18,490,Conversation log, under Timestamp,Model,Request tokens,Response tokens,...",
    ),
    "azure": _Format(
        trace_formats.azure,
        ("TIMESTAMP", "ContextTokens", "GeneratedTokens"),
        "2023-11-16 18:17:03.9799600,4808,10, under TIMESTAMP,ContextTokens,GeneratedTokens",
    ),
    "inferforge": _Format(
        trace_formats.inferforge,
        ("due_s", "prompt_tokens", "output_tokens"),
        '{"due_s": 0.25, "prompt_tokens": 256, "output_tokens": 128}, where known with "session", "class"'
        ' and "blocks"',
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TraceTable:
    """n requests in the order in which they came; the arrays are read-only.

    `due_s`: float64 (n,), ascending from 0. `prompt_tokens`, `output_tokens`: int32 (n,), from 1.
    `blocks`: int32 (k,), the ids of the prefix blocks of `block_tokens` prompt tokens each, numbered
    from 0 in order of first appearance; request i has `blocks[block_start[i]:block_start[i + 1]]`, so
    `block_start` is int64 (n + 1,). A format without blocks has none, and `block_tokens` 0.
    `session`: int32 (n,), numbered the same way, -1: none. `class_id`: int16 (n,), an index into
    `class_name`, -1: none; `class_name` None: no request has a class.
    `skipped`: rows that failed when they were recorded. `digest`: sha256 of the file, first 16 hexadecimal
    digits.
    """

    format: str
    due_s: NDArray[np.float64]
    prompt_tokens: NDArray[np.int32]
    output_tokens: NDArray[np.int32]
    block_start: NDArray[np.int64]
    blocks: NDArray[np.int32]
    block_tokens: int
    session: NDArray[np.int32]
    class_name: tuple[str, ...] | None
    class_id: NDArray[np.int16]
    skipped: int
    digest: str


def read(path: Path, *, format: str | None = None) -> TraceTable:  # noqa: A002 (the field's own word)
    """A trace of one of FORMATS; None: seen from its first line. Rows are put in the order of their times.

    A million rows of a dozen blocks take some 130 MB while they are read, and 100 MB after.

    Raises:
        UsageError: no such file, an unknown format, an empty file, or a wrong row, which is named.
    """
    textfiles.check(path, "trace")
    if format is not None and format not in FORMATS:
        near = difflib.get_close_matches(format, FORMATS, n=1)
        do = f"did you mean {near[0]}?" if near else f"known: {', '.join(FORMATS)}"
        raise UsageError("unknown trace format", seen=format, do=do)
    name = format or _recognised(path)
    columns = FORMATS[name].read(path, f"write rows like {FORMATS[name].row}")
    if not columns.time_s:
        skipped = f", {columns.skipped} failed ones skipped" if columns.skipped else ""
        raise _empty(path, f"{path.name}: no requests{skipped}")
    return _table(name, columns, textfiles.digest(path))


def _recognised(path: Path) -> str:
    text = next((line.strip() for line in textfiles.lines(path) if not line.isspace()), "")
    if not text:
        raise _empty(path, f"{path.name}: no rows")
    try:
        row = msgspec.json.decode(text)
        fields = set(row) if isinstance(row, dict) else set()
        if "block_tokens" in fields:
            return "inferforge"
    except msgspec.DecodeError:
        fields = {field.strip() for field in text.split(",")}
    found = [name for name, known in FORMATS.items() if fields.issuperset(known.fields)]
    if not found:
        do = f"name its format: {', '.join(FORMATS)}; rows of ours are like {FORMATS['inferforge'].row}"
        raise textfiles.wrong(path, "line 1", text, "the format of the trace is unknown", do)
    return found[0]


def _empty(path: Path, seen: str) -> UsageError:
    return UsageError("the trace is empty", seen=seen, do=f"check what was written to {path}")


def _table(name: str, columns: Columns, digest: str) -> TraceTable:
    n = len(columns.time_s)
    due_s = np.frombuffer(columns.time_s)
    prompts = np.frombuffer(columns.prompt_tokens, dtype=np.int32)
    outputs = np.frombuffer(columns.output_tokens, dtype=np.int32)
    classes = np.frombuffer(columns.class_ids, np.int16) if columns.class_ids else np.full(n, -1, np.int16)
    begins = np.zeros(n + 1, dtype=np.int64)
    if columns.block_counts:
        np.cumsum(columns.block_counts, out=begins[1:])
    blocks = trace_ids.numbered(columns.blocks)
    columns.blocks = columns.block_counts = array("i")  # theirs is the memory to save
    sessions = trace_ids.numbered(columns.sessions) if columns.sessions else np.full(n, -1, np.int32)
    if np.any(np.diff(due_s) < 0):
        order = np.argsort(due_s, kind="stable")
        for column in (due_s, prompts, outputs, classes, sessions):
            column[:] = column[order]
        sessions = trace_ids.renumbered(sessions)
        blocks = trace_ids.gathered(blocks, begins, order)
        blocks = trace_ids.renumbered(blocks)
        np.cumsum(np.diff(begins)[order], out=begins[1:])
    return TraceTable(
        format=name,
        due_s=_fixed(due_s - due_s[0]),
        prompt_tokens=_fixed(prompts),
        output_tokens=_fixed(outputs),
        block_start=_fixed(begins),
        blocks=_fixed(blocks),
        block_tokens=columns.block_tokens,
        session=_fixed(sessions),
        class_name=tuple(columns.class_numbers) or None,
        class_id=_fixed(classes),
        skipped=columns.skipped,
        digest=digest,
    )


def _fixed(column: NDArray[Any]) -> NDArray[Any]:
    column.flags.writeable = False
    return column
