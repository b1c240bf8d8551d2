"""Stored records as JSON and back: strict, so that a file that is not ours never becomes evidence."""

from __future__ import annotations

import math
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from pytest_inferforge.errors import BaselineError
from pytest_inferforge.records import Decision, RequestRecord, SessionResult

if TYPE_CHECKING:
    from collections.abc import Iterator

T = TypeVar("T")

SCHEMA = 1
_NEVER = "inf"  # JSON has no infinity: a quantile that failed requests reach
_WORDS: dict[type, str] = {SessionResult: "session", Decision: "decision"}
_ROWS = msgspec.json.Decoder(RequestRecord)


def encode_session(session: SessionResult) -> bytes:
    """Indented JSON with sorted keys and shortest floats: the same session gives the same bytes.

    Raises:
        ValueError: a metric is NaN: not measured is an absent metric.
    """
    content = msgspec.to_builtins(session)
    for where, metrics in _metrics(content):
        for metric_id, value in metrics.items():
            if math.isnan(value):
                raise ValueError(f"{where}.{metric_id} is NaN")
            metrics[metric_id] = _NEVER if value == math.inf else value
    return _indented(content)


def decode_session(data: bytes, *, where: str) -> SessionResult:
    """Read what `encode_session` wrote; `where` names the file in errors.

    Raises:
        BaselineError: not JSON, another schema, or an unknown, missing or mistyped field, with its place.
    """
    session = _decode(data, SessionResult, where=where)
    _check_time(session.started_at, where)
    return session


def encode_decision(decision: Decision) -> bytes:
    """As a session: the same decision gives the same bytes."""
    return _indented(msgspec.to_builtins(decision))


def decode_decision(data: bytes, *, where: str) -> Decision:
    """Read what `encode_decision` wrote.

    Raises:
        BaselineError: as of a session.
    """
    decision = _decode(data, Decision, where=where)
    _check_time(decision.at, where)
    return decision


def encode_row(record: RequestRecord) -> bytes:
    """One request as one line of JSON, without the line's end."""
    return msgspec.json.encode(record)


def decode_row(line: bytes, *, where: str) -> RequestRecord:
    """Read what `encode_row` wrote.

    Raises:
        BaselineError: not a request.
    """
    try:
        return _ROWS.decode(line)
    except msgspec.DecodeError as error:
        raise _broken(where, str(error)) from error


def _indented(content: object) -> bytes:
    return msgspec.json.format(msgspec.json.encode(content, order="sorted"), indent=1) + b"\n"


def _decode(data: bytes, kind: type[T], *, where: str) -> T:
    """A record with a schema, every field of which is known."""
    try:
        content = msgspec.json.decode(data)
        if not isinstance(content, dict) or "schema" not in content:
            raise _broken(where, f"not a stored {_WORDS[kind]}: it has no schema")
        if content["schema"] != SCHEMA:
            raise BaselineError(
                f"{where} has another schema",
                seen=f"schema {content['schema']!r}, this version reads {SCHEMA}",
                do="use the version that wrote it, or move the file out of the baseline",
            )
        for _, metrics in _metrics(content):
            metrics.update({k: math.inf for k, v in metrics.items() if v == _NEVER})
        record = msgspec.convert(content, kind)
    except (msgspec.DecodeError, ValueError) as error:
        raise _broken(where, str(error)) from error
    if found := _unlike(content, msgspec.to_builtins(record), "$"):
        raise _broken(where, found)
    return record


def _check_time(moment: str, where: str) -> None:
    try:
        datetime.fromisoformat(moment)
    except ValueError as error:
        raise _broken(where, str(error)) from error


def _metrics(content: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """The metrics of every boot in a session as plain JSON, where they are what they should be."""
    tests = content.get("tests")
    for i, test in enumerate(tests if isinstance(tests, list | tuple) else ()):
        boots = test.get("boots") if isinstance(test, dict) else None
        for k, boot in enumerate(boots if isinstance(boots, list | tuple) else ()):
            if isinstance(boot, dict) and isinstance(boot.get("metrics"), dict):
                yield f"$.tests[{i}].boots[{k}].metrics", boot["metrics"]


def _unlike(raw: object, known: object, path: str) -> str | None:
    """The first field that nobody knows: msgspec ignores those. One with a default may be absent."""
    if isinstance(raw, dict) and isinstance(known, dict):
        for key in sorted(raw.keys() - known.keys()):
            return f"unknown field - at `{path}.{key}`"
        pairs = [(raw[key], known[key], f"{path}.{key}") for key in raw]
    elif isinstance(raw, list | tuple) and isinstance(known, list | tuple):
        pairs = [(a, b, f"{path}[{i}]") for i, (a, b) in enumerate(zip(raw, known, strict=True))]
    else:
        return None
    return next((found for a, b, at in pairs if (found := _unlike(a, b, at))), None)


def _broken(where: str, seen: str) -> BaselineError:
    do = "restore it from version control, or move it out of the baseline; it was left as it is"
    return BaselineError(f"{where} is broken, or not ours", seen=seen, do=do)
