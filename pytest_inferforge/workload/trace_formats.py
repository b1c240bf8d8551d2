"""The formats of recorded traces, each a function from a file to columns.

All stream: a row is checked, its numbers are kept, its text is dropped.
"""

from __future__ import annotations

import hashlib
import math
import re
from array import array
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from pytest_inferforge.workload import textfiles

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

MOST_TOKENS = 2**31 - 1
MOONCAKE_BLOCK_TOKENS = 512
_MOST_CLASSES = 2**15 - 1
_NONE = -1


@dataclass(slots=True)
class Columns:
    """What has been read, one entry a row; times in seconds from anywhere, ids as they are in the file."""

    time_s: array[float] = field(default_factory=lambda: array("d"))
    prompt_tokens: array[int] = field(default_factory=lambda: array("i"))
    output_tokens: array[int] = field(default_factory=lambda: array("i"))
    block_counts: array[int] = field(default_factory=lambda: array("i"))
    blocks: array[int] = field(default_factory=lambda: array("i"))
    sessions: array[int] = field(default_factory=lambda: array("q"))  # empty: the format has none
    class_ids: array[int] = field(default_factory=lambda: array("h"))  # empty: the same
    class_numbers: dict[str, int] = field(default_factory=dict)
    block_tokens: int = 0
    skipped: int = 0

    def add(self, time_s: float, prompt_tokens: int, output_tokens: int) -> None:
        self.time_s.append(time_s)
        self.prompt_tokens.append(prompt_tokens)
        self.output_tokens.append(output_tokens)

    def add_blocks(self, ids: list[int]) -> None:
        try:
            self.blocks.fromlist(ids)
        except OverflowError:  # hashes: twice the memory from here on
            self.blocks = array("q", self.blocks)
            self.blocks.fromlist(ids)
        self.block_counts.append(len(ids))

    def add_class(self, name: str | None) -> bool:
        """False: there are too many."""
        number = _NONE if name is None else self.class_numbers.setdefault(name, len(self.class_numbers))
        if number < _MOST_CLASSES:
            self.class_ids.append(number)
        return number < _MOST_CLASSES

    def add_session(self, session: str | int | None) -> None:
        """By a digest of 63 bits: in a million sessions two are taken for one with p = 5e-8."""
        if session is None or session == "":
            self.sessions.append(_NONE)
            return
        hashed = hashlib.blake2b(str(session).encode(), digest_size=8).digest()
        self.sessions.append(int.from_bytes(hashed, "little") >> 1)


Tokens = Annotated[int, msgspec.Meta(ge=1, le=MOST_TOKENS)]
Time = Annotated[float, msgspec.Meta(ge=0)]
BlockId = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class _MooncakeRow(msgspec.Struct, gc=False):
    """`timestamp` in milliseconds; `hash_ids`: one a block of 512 prompt tokens.

    Source: kvcache-ai/Mooncake README, FAST25-release/traces/*.jsonl.
    """

    timestamp: Time
    input_length: Tokens
    output_length: Tokens
    hash_ids: list[BlockId]


class _OwnRow(msgspec.Struct, gc=False, forbid_unknown_fields=True, rename={"class_name": "class"}):
    """Of this package: docs/reference.md."""

    due_s: Time
    prompt_tokens: Tokens
    output_tokens: Tokens
    session: str | int | None = None
    class_name: Annotated[str, msgspec.Meta(min_length=1)] | None = None
    blocks: list[BlockId] | None = None


class _OwnHead(msgspec.Struct, forbid_unknown_fields=True):
    block_tokens: Tokens


def mooncake(path: Path, do: str) -> Columns:
    """Raises UsageError: a wrong row."""
    columns = Columns(block_tokens=MOONCAKE_BLOCK_TOKENS)
    for _, _, row in _json_rows(path, _MooncakeRow, do):
        columns.add(row.timestamp / 1000.0, row.input_length, row.output_length)
        columns.add_blocks(row.hash_ids)
    return columns


def inferforge(path: Path, do: str) -> Columns:
    """Raises UsageError: a wrong row, or blocks of unknown size."""
    columns = Columns()
    for line, text, row in _json_rows(path, _OwnRow, do, head=_OwnHead):
        if isinstance(row, _OwnHead):
            columns.block_tokens = row.block_tokens
            continue
        if row.blocks and not columns.block_tokens:
            what = "wrong trace row: blocks of unknown size"
            raise textfiles.wrong(path, f"line {line}", text, what, 'begin with {"block_tokens": 256}')
        columns.add(row.due_s, row.prompt_tokens, row.output_tokens)
        columns.add_blocks(row.blocks or [])
        columns.add_session(row.session)
        if not columns.add_class(row.class_name):
            what = f"wrong trace row: more than {_MOST_CLASSES:,} classes"
            raise textfiles.wrong(path, f"line {line}", text, what, "give requests of a kind one class")
    return columns


def burstgpt(path: Path, do: str) -> Columns:
    """Requests without prompt or response tokens failed when they were recorded: they are skipped.

    Columns are found by name: newer files have two more in between, and a session for some rows.

    Raises UsageError: a wrong row.

    Source: HPMLL/BurstGPT README; BurstGPT_1.csv (6 columns), BurstGPT_3.csv of release v2.0 (8 columns).
    """
    names = ("Timestamp", "Request tokens", "Response tokens")
    return _csv_columns(path, names, float, 0.0, do, session="Session ID", failures=True)


def azure(path: Path, do: str) -> Columns:
    """Times without a zone are UTC; digits after the microseconds are dropped.

    Raises UsageError: a wrong row.

    Source: Azure/AzurePublicDataset, AzureLLMInferenceDataset2023.md and 2024.md.
    """
    origin: list[datetime] = []  # differences of datetimes are exact, floats since 1970 are not

    def seconds(text: str) -> float:
        when = datetime.fromisoformat(text.strip())
        when = when if when.tzinfo else when.replace(tzinfo=UTC)
        if not origin:
            origin.append(when)
        return (when - origin[0]).total_seconds()

    return _csv_columns(path, ("TIMESTAMP", "ContextTokens", "GeneratedTokens"), seconds, -math.inf, do)


def _csv_columns(
    path: Path,
    names: Sequence[str],
    to_seconds: Callable[[str], float],
    earliest_s: float,
    do: str,
    *,
    session: str | None = None,
    failures: bool = False,
) -> Columns:
    """`names` of the columns of time, prompt and output tokens, and of the session if there is one."""
    columns = Columns()
    rows = textfiles.csv_rows(path)
    header = [name.strip() for name in next(rows, (1, [""]))[1]]
    time, prompt, output = textfiles.columns(path, header, names, do)
    user = header.index(session) if session in header else None
    for line, fields in rows:
        try:
            time_s, asked, answered = to_seconds(fields[time]), int(fields[prompt]), int(fields[output])
        except (ValueError, IndexError):
            time_s, asked, answered = math.nan, -1, -1
        if failures and min(asked, answered) == 0 and time_s >= earliest_s:
            columns.skipped += 1
            continue
        if not (
            earliest_s <= time_s < math.inf and 1 <= asked <= MOST_TOKENS and 1 <= answered <= MOST_TOKENS
        ):
            cells = [fields[k] if k < len(fields) else "" for k in (time, prompt, output)]
            what = _fault(names, cells, to_seconds, earliest_s)
            raise textfiles.wrong(path, f"line {line}", ",".join(fields), f"wrong trace row: {what}", do)
        columns.add(time_s, asked, answered)
        if user is not None:
            columns.add_session(fields[user].strip() if user < len(fields) else None)
    return columns


def _fault(
    names: Sequence[str], cells: Sequence[str], to_seconds: Callable[[str], float], earliest_s: float
) -> str:
    """What is wrong with a row's time, prompt or output tokens."""
    ranges = ((earliest_s, math.inf), (1, MOST_TOKENS), (1, MOST_TOKENS))
    readers: tuple[Callable[[str], float], ...] = (to_seconds, int, int)
    for name, cell, read, (least, most) in zip(names, cells, readers, ranges, strict=True):
        if not cell.strip():
            return f"{name} is missing"
        try:
            value = read(cell)
        except ValueError:
            kind = "a whole number" if read is int else "a number" if read is float else "a time"
            return f"{name} is not {kind}"
        if isinstance(value, float) and not math.isfinite(value):
            return f"{name} is not finite"
        if value < least:
            return f"{name} must be at least {least:g}"
        if value > most:
            return f"{name} must be at most {most:,}"
    raise AssertionError(cells)


def _json_rows(path: Path, row: type[Any], do: str, *, head: type[Any] | None = None) -> Iterator[Any]:
    """(line, its text, row) of each line that is not blank; the first may be a `head`.

    Raises:
        UsageError: a line that is neither.
    """
    decoder, first = msgspec.json.Decoder(row), True
    for line, text in enumerate(textfiles.lines(path), 1):
        if text.isspace():
            continue
        begins = first and head is not None and '"block_tokens"' in text
        try:
            found = msgspec.json.decode(text, type=head) if begins else decoder.decode(text)
        except msgspec.DecodeError as error:
            what = f"wrong trace row: {_unknown(text, head if head and begins else row) or _said(error)}"
            raise textfiles.wrong(path, f"line {line}", text, what, do) from error
        first = False
        yield line, text, found


def _unknown(text: str, row: type[Any]) -> str | None:
    """The fields of a line that its row does not know, when it knows its own alone; None: none."""
    known = {field.encode_name for field in msgspec.structs.fields(row)}
    try:
        found = msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.DecodeError:
        return None
    unknown = sorted(set(found) - known) if row.__struct_config__.forbid_unknown_fields else []
    return f"unknown {', '.join(unknown)}" if unknown else None


def _said(error: msgspec.DecodeError) -> str:
    """msgspec's message in the words of the other errors, the field first.

    >>> _said(msgspec.ValidationError("Expected `int` >= 1 - at `$.input_length`"))
    'input_length: expected int >= 1'
    """
    text = str(error).replace("`", "")
    if not isinstance(error, msgspec.ValidationError):
        return f"not JSON: {text}"
    if found := re.fullmatch(r"Object missing required field (.*)", text):
        return f"{found[1]} is missing"
    text, _, field = text.partition(" - at $.")
    return (f"{field}: " if field else "") + text[0].lower() + text[1:]
