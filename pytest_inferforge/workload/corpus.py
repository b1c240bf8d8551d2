"""Prompts and conversations from files: what users ask; answers come from the server."""

from __future__ import annotations

import csv
import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from pytest_inferforge.errors import UsageError
from pytest_inferforge.workload import textfiles

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    Row = tuple[str, str | None, object]  # where it stands, its text (None: as its value), its value

_PROMPTS = ("prompt", "text", "question", "input")
_TOKENS = ("output_tokens", "max_tokens")
_ASKED = frozenset({"human", "user"})
_SYSTEM = frozenset({"system", "developer"})
_ANSWERED = frozenset(
    {
        "gpt",
        "assistant",
        "chatgpt",
        "bing",
        "bard",
        "model",
        "tool",
        "function",
        "function_call",
        "observation",
    }
)
_LONGEST_FIELD = 2**31 - 1  # characters; the csv module stops at 131072, a prompt need not
_DO = (
    'write rows like {"prompt": "Why?", "output_tokens": 128} or {"messages": [{"role": "user", "content":'
    ' "Why?"}]}, a CSV file with a column prompt, or ShareGPT\'s [{"conversations": [...]}]'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """What a user says, turn by turn. `output_tokens`: asked for after each turn; None: not said."""

    system: str | None
    turns: tuple[str, ...]
    output_tokens: tuple[int | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """The conversations of a file, in its order.

    `digest`: sha256 of the file, first 16 hexadecimal digits. `skipped`: ShareGPT conversations in which no
    human says anything, or that cannot be asked turn by turn (an empty turn, a system message later on).
    """

    conversations: tuple[Conversation, ...]
    digest: str
    format: str
    skipped: int = 0


def read(path: Path, *, format: str | None = None) -> Corpus:  # noqa: A002 (the field's own word)
    """A file of one of FORMATS; None: seen from its beginning.

    Raises:
        UsageError: no such file, an unknown format, an empty file, or a wrong row, which is named.
    """
    textfiles.check(path, "prompts")
    if format is not None and format not in FORMATS:
        near = difflib.get_close_matches(format, FORMATS, n=1)
        do = f"did you mean {near[0]}?" if near else f"known: {', '.join(FORMATS)}"
        raise UsageError("unknown format of prompts", seen=format, do=do)
    name = format or _recognised(path)
    found: list[Conversation] = []
    skipped = 0
    for where, text, row in FORMATS[name](path):
        if not found and format is None and name == "json" and _is_sharegpt(row):
            name = "sharegpt"
        try:
            if format == "sharegpt" and not _is_sharegpt(row):
                raise ValueError("conversations is missing")
            conversation = _conversation(row)
        except ValueError as error:
            text = msgspec.json.encode(row).decode() if text is None else text
            raise textfiles.wrong(path, where, text, f"wrong prompt: {error}", _DO) from error
        if conversation is None:
            skipped += 1
        else:
            found.append(conversation)
    if not found:
        seen = (
            f"{path.name}: {f'{skipped} conversations, none of them to be asked' if skipped else 'no rows'}"
        )
        raise UsageError("there are no prompts", seen=seen, do=_DO)
    return Corpus(conversations=tuple(found), digest=textfiles.digest(path), format=name, skipped=skipped)


def _recognised(path: Path) -> str:
    line = next((line for line in textfiles.lines(path) if not line.isspace()), "{").strip()
    if line[0] in "{[":
        return "jsonl" if line[0] == "{" else "json"
    if set(_PROMPTS) & {name.strip().strip('"') for name in line.split(",")}:
        return "csv"
    raise textfiles.wrong(path, "line 1", line, "the format of the prompts is unknown", _DO)


def _json_lines(path: Path) -> Iterator[Row]:
    for number, text in enumerate(textfiles.lines(path), 1):
        if not text.isspace():
            yield f"line {number}", text, _decoded(path, f"line {number}", text)


def _json_array(path: Path) -> Iterator[Row]:
    items = _decoded(path, "the whole file", "".join(textfiles.lines(path)))
    if not isinstance(items, list):
        raise textfiles.wrong(path, "the whole file", str(items), "the file is not a JSON array", _DO)
    for number, item in enumerate(items, 1):
        yield f"item {number}", None, item


def _decoded(path: Path, where: str, text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise textfiles.wrong(path, where, text, f"wrong prompt: not JSON: {error}", _DO) from error


def _csv(path: Path) -> Iterator[Row]:
    before = csv.field_size_limit(_LONGEST_FIELD)
    try:
        rows = textfiles.csv_rows(path)
        header = [name.strip() for name in next(rows, (1, [""]))[1]]
        prompt = next((name for name in _PROMPTS if name in header), _PROMPTS[0])
        textfiles.columns(path, header, [prompt], _DO)
        for line, fields in rows:
            cells = dict(zip(header, fields, strict=False))
            row: dict[str, object] = {prompt: cells.get(prompt, "")}
            row |= {name: _number(cells[name]) for name in _TOKENS if cells.get(name, "").strip()}
            yield f"line {line}", ",".join(fields), row
    finally:
        csv.field_size_limit(before)


def _number(cell: str) -> int | str:
    try:
        return int(cell)
    except ValueError:
        return cell


FORMATS: dict[str, Callable[[Path], Iterator[Row]]] = {
    "jsonl": _json_lines,
    "csv": _csv,
    "json": _json_array,
    "sharegpt": _json_array,
}


def _is_sharegpt(row: object) -> bool:
    return isinstance(row, dict) and "conversations" in row


def _conversation(row: object) -> Conversation | None:
    """None: a conversation of a dump that cannot be asked. Raises ValueError: what is wrong with it."""
    if isinstance(row, str):
        row = {"prompt": row}
    if not isinstance(row, dict):
        raise ValueError("expected an object or a string")
    if "messages" in row:
        return _of_messages(row)
    if "conversations" in row:
        return _of_sharegpt(row)
    key = next((name for name in _PROMPTS if name in row), None)
    if key is None:
        raise ValueError(f"none of {', '.join(_PROMPTS)}, messages and conversations")
    return Conversation(system=None, turns=(_said(row[key], key),), output_tokens=_tokens(row, 1))


def _of_messages(row: dict[str, Any]) -> Conversation:
    system, turns = None, []
    for k, (role, content) in enumerate(_spoken(row, "messages", "role", "content")):
        if role in _SYSTEM:
            if k > 0:
                raise ValueError(f"messages[{k}]: a {role} message is the first or none")
            system = _said(content, f"messages[{k}].content")
        elif role in _ASKED:
            turns.append(_said(content, f"messages[{k}].content"))
    if not turns:
        raise ValueError("messages: none of a user")
    return Conversation(system=system, turns=tuple(turns), output_tokens=_tokens(row, len(turns)))


def _of_sharegpt(row: dict[str, Any]) -> Conversation | None:
    """Source: the ShareGPT dumps that vLLM's and SGLang's benchmarks read (ShareGPT_V3_unfiltered)."""
    spoken = _spoken(row, "conversations", "from", "value")
    turns = [value for who, value in spoken if who in _ASKED]
    if not turns or not all(isinstance(turn, str) and turn.strip() for turn in turns):
        return None
    if any(who in _SYSTEM for who, _ in spoken[1:]):
        return None
    who, value = spoken[0]
    system = _said(value, "conversations[0].value") if who in _SYSTEM else None
    return Conversation(system=system, turns=tuple(turns), output_tokens=_tokens(row, len(turns)))


def _spoken(row: dict[str, Any], field: str, who: str, what: str) -> Sequence[tuple[str, Any]]:
    """(who, what) of each message."""
    messages = row[field]
    if not isinstance(messages, list):
        raise ValueError(f"{field} is not an array")
    for k, message in enumerate(messages):
        if not isinstance(message, dict) or who not in message:
            raise ValueError(f"{field}[{k}]: {who} is missing")
        if str(message[who]) not in _ASKED | _SYSTEM | _ANSWERED:
            raise ValueError(f"{field}[{k}]: unknown {who} {message[who]!r}")
    return [(message[who], message.get(what)) for message in messages]


def _said(content: object, name: str) -> str:
    """The text of a prompt or message; parts of text are joined."""
    if isinstance(content, list):
        parts = [part.get("text") if isinstance(part, dict) else None for part in content]
        if not all(isinstance(part, str) for part in parts):
            raise ValueError(f"{name} has parts that are not text")
        content = "\n".join(str(part) for part in parts)
    if not isinstance(content, str):
        raise ValueError(f"{name} is not text")
    if not content.strip():
        raise ValueError(f"{name} is empty")
    return content


def _tokens(row: dict[str, Any], turns: int) -> tuple[int | None, ...]:
    """One number for every turn, or a list with one for each; null: not said."""
    name = next((name for name in _TOKENS if row.get(name) is not None), None)
    given = None if name is None else row[name]
    each = given if isinstance(given, list) else [given] * turns
    if len(each) != turns:
        raise ValueError(f"{name} has {len(each)} entries for {turns} turns")
    for value in each:
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            raise ValueError(f"{name} is not a whole number from 1")
    return tuple(each)
