"""What a reply says: server-sent events and the OpenAI-style JSON inside them. Runs after the request ended.

Source: WHATWG HTML, "Server-sent events" (fields, line ends, comments); OpenAI API reference, streaming of
completions and chat completions; engines' own additions as their sources show them.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Piece = tuple[int, bytes]  # when it arrived (ns), what arrived


class _Details(msgspec.Struct):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _Details | None = None


class _Function(msgspec.Struct):
    arguments: str | None = None


class _ToolCall(msgspec.Struct):
    function: _Function | None = None


class _Delta(msgspec.Struct):
    role: str | None = None
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[_ToolCall] | None = None


class _Choice(msgspec.Struct):
    text: str | None = None
    delta: _Delta | None = None
    message: _Delta | None = None
    finish_reason: str | None = None


class _Timings(msgspec.Struct):
    cache_n: int | None = None


class _Event(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: Any = None
    timings: _Timings | None = None


_decode = msgspec.json.Decoder(_Event).decode


class Reply(msgspec.Struct, kw_only=True):
    """What a whole reply came to. Times in ns as the pieces carry them; None = never.

    `fault`: why this reply is a failure although its transport was fine: bad_json, error_event, no_token,
    or cut (the stream ended before it said that it was finished).
    """

    first_event_ns: int | None = None
    first_token_ns: int | None = None
    first_visible_ns: int | None = None
    last_token_ns: int | None = None
    chunk_ns: array[int] = msgspec.field(default_factory=lambda: array("q"))
    empty_chunks: int = 0
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    finish_reason: str | None = None
    done: bool = False
    fault: str | None = None
    detail: str | None = None


def events(pieces: Iterable[Piece]) -> Iterator[tuple[int, bytes, bytes]]:
    r"""Server-sent events as (arrival of the last byte, event type, data).

    Lines end in LF, CRLF or CR; comments and fields that we do not need are skipped.

    >>> list(events([(1, b"data: a"), (2, b"\n\n: ping\n\ndata: b\n\n")]))
    [(2, b'', b'a'), (2, b'', b'b')]
    """
    rest = b""
    kind, data = b"", []
    for when, piece in pieces:
        rest += piece
        ends_in_cr = rest.endswith(b"\r")
        lines = (
            rest.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
            if b"\r" in rest
            else rest.split(b"\n")
        )
        if ends_in_cr:  # the LF may still come
            lines = [*lines[:-2], lines[-2] + b"\r"]
        rest = lines.pop()
        for line in lines:
            if line.startswith(b"data:"):
                data.append(line[6:] if line[5:6] == b" " else line[5:])
            elif line.startswith(b"event:"):
                kind = line[6:].strip()
            elif not line:
                if data:
                    yield when, kind, b"\n".join(data) if len(data) > 1 else data[0]
                kind, data = b"", []


def read_stream(pieces: Iterable[Piece]) -> Reply:
    """Read a streamed reply; the first fault ends the reading, what came before it is kept."""
    reply = Reply()
    for when, kind, data in events(pieces):
        if reply.first_event_ns is None:
            reply.first_event_ns = when
        if data == b"[DONE]":
            reply.done = True
            continue
        try:
            event = _decode(data)
        except msgspec.DecodeError as error:
            return _fault(reply, "bad_json", f"{error}: {_show(data)}")
        if event.error is not None or kind == b"error":
            return _fault(reply, "error_event", _show(data))
        _take(reply, when, event)
    return _close(reply)


def read_whole(when: int, body: bytes) -> Reply:
    """Read a reply that was not streamed: one chunk, at the arrival of its last byte."""
    reply = Reply(first_event_ns=when, done=True)
    try:
        event = _decode(body)
    except msgspec.DecodeError as error:
        return _fault(reply, "bad_json", f"{error}: {_show(body)}")
    if event.error is not None:
        return _fault(reply, "error_event", _show(body))
    _take(reply, when, event)
    return _close(reply)


def _take(reply: Reply, when: int, event: _Event) -> None:
    if (usage := event.usage) is not None and usage.completion_tokens:
        reply.output_tokens = usage.completion_tokens
        reply.prompt_tokens = usage.prompt_tokens
        if usage.prompt_tokens_details is not None:
            reply.cached_tokens = usage.prompt_tokens_details.cached_tokens
    if event.timings is not None and event.timings.cache_n is not None:
        reply.cached_tokens = event.timings.cache_n
    for choice in event.choices:
        if choice.finish_reason:
            reply.finish_reason = choice.finish_reason
        visible, hidden = _payload(choice)
        if visible or hidden:
            reply.chunk_ns.append(when)
            reply.last_token_ns = when
            if reply.first_token_ns is None:
                reply.first_token_ns = when
            if visible and reply.first_visible_ns is None:
                reply.first_visible_ns = when
        elif not choice.finish_reason and not _opens(choice):
            reply.empty_chunks += 1


def _payload(choice: _Choice) -> tuple[bool, bool]:
    """Whether a choice carries user-visible text, and whether it carries anything else generated."""
    delta = choice.delta or choice.message
    if delta is None:
        return bool(choice.text), False
    tools = any(call.function is not None and call.function.arguments for call in delta.tool_calls or ())
    return bool(delta.content or choice.text), bool(delta.reasoning_content or delta.reasoning or tools)


def _opens(choice: _Choice) -> bool:
    """The chat chunk that only names the speaker: part of the protocol, not an empty chunk."""
    return choice.delta is not None and choice.delta.role is not None


def _close(reply: Reply) -> Reply:
    if not reply.done and not reply.finish_reason:
        return _fault(reply, "cut", "the stream ended without finish_reason and without [DONE]")
    if reply.first_token_ns is None:
        return _fault(reply, "no_token", "the reply finished without any generated text")
    return reply


def _fault(reply: Reply, fault: str, detail: str) -> Reply:
    reply.fault = fault
    reply.detail = detail
    return reply


def _show(data: bytes, limit: int = 200) -> str:
    text = data[:limit].decode("utf-8", "backslashreplace")
    return text + ("..." if len(data) > limit else "")
