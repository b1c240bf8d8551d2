"""What a reply says: server-sent events and the OpenAI-style JSON inside them. Runs after the request ended.

Source: WHATWG HTML, "Server-sent events" (fields, line ends, comments); OpenAI API reference, streaming of
completions and chat completions; engines' own additions as their sources show them.
"""

from __future__ import annotations

import itertools
from array import array
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_SHORT = 16  # bytes: the end of a stream may be no longer, with spaces around it
Piece = tuple[int, bytes]  # when it arrived (ns), what arrived
Event = tuple[int, bytes, bytes]  # when its last byte arrived (ns), its type, its data


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
_decode_many = msgspec.json.Decoder(list[_Event]).decode


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
    text: list[str] | None = None  # what the user sees, when it is to be kept


def events(pieces: Iterable[Piece]) -> Iterator[Event]:
    r"""Server-sent events as (arrival of the byte that ended them, event type, data).

    Lines end in LF, CRLF or CR (the CR ends the line; a LF after it belongs to it, whenever it comes);
    comments and fields that we do not need are skipped.

    >>> list(events([(1, b"data: a"), (2, b"\n\n: ping\n\ndata: b\n\n")]))
    [(2, b'', b'a'), (2, b'', b'b')]
    """
    rest, after_cr = b"", False
    kind = b""
    data: list[bytes] = []
    for when, piece in pieces:
        if (
            # a whole event of one line of data: what most engines write, and quick to read
            piece.startswith(b"data: ")
            and piece.endswith(b"\n\n")
            and piece.find(b"\n") == len(piece) - 2
            and b"\r" not in piece
            and not (rest or after_cr or data or kind)
        ):
            yield when, b"", piece[6:-2]
            continue
        rest += piece[1:] if after_cr and piece.startswith(b"\n") else piece
        after_cr = piece.endswith(b"\r")
        if b"\r" in rest:
            rest = rest.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        lines = rest.split(b"\n")
        rest = lines.pop()
        for line in lines:
            if not line:
                if data:
                    yield when, kind, b"\n".join(data) if len(data) > 1 else data[0]
                    data = []
                kind = b""
            elif line.startswith(b"data:"):
                data.append(line[6:] if line.startswith(b"data: ") else line[5:])
            elif line.startswith(b"event:"):
                kind = line[6:].strip()


def read_stream(pieces: Iterable[Piece]) -> Reply:
    """Read a streamed reply; the first fault ends the reading, what came before it is kept."""
    reply = Reply()
    for _ in reading(pieces, reply, 1 << 30):
        pass
    return reply


def reading(pieces: Iterable[Piece], reply: Reply, events_a_step: int) -> Iterator[None]:
    """`read_stream` into an empty reply, in steps; it says what it came to when the last was taken."""
    arriving = events(pieces)
    while step := list(itertools.islice(arriving, events_a_step)):
        if reply.first_event_ns is None:
            reply.first_event_ns = step[0][0]
        if not _read_together(reply, step):
            _read_apart(reply, step)
        if reply.fault is not None:
            return
        yield
    _close(reply)


def _read_apart(reply: Reply, step: list[Event]) -> None:
    """Read a step's events one by one, up to the first fault."""
    for when, kind, data in step:
        if len(data) < _SHORT and data.strip() == b"[DONE]":
            reply.done = True
            continue
        _read_event(reply, when, kind, data)
        if reply.fault is not None:
            return


def _read_together(reply: Reply, step: list[Event]) -> bool:
    """Read a step's events by one call of the decoder; False: nothing was read, they want a look each."""
    try:
        found = _decode_many(b"[" + b",".join([data for _, _, data in step]) + b"]")
    except msgspec.DecodeError:
        return False
    if len(found) != len(step):
        return False
    stamps = reply.chunk_ns
    for event, (when, kind, data) in zip(found, step, strict=True):
        if event.error is not None or kind == b"error":
            _fault(reply, "error_event", _show(data))
            return True
        if len(event.choices) == 1 and event.usage is None and event.timings is None:
            choice = event.choices[0]
            delta = choice.delta
            text = choice.text
            if delta is not None:
                more = delta.reasoning_content or delta.reasoning or delta.tool_calls
                text = None if more else delta.content
            # what nearly all are: a piece of text and nothing else
            if text and choice.finish_reason is None and reply.text is None and reply.first_visible_ns:
                stamps.append(when)
                reply.last_token_ns = when
                continue
        _take(reply, when, event)
    return True


def read_whole(when: int, body: bytes) -> Reply:
    """Read a reply that was not streamed: one chunk, at the arrival of its last byte."""
    reply = Reply(first_event_ns=when, done=True)
    _read_event(reply, when, b"", body)
    if reply.fault is None:
        _close(reply)
    return reply


def _read_event(reply: Reply, when: int, kind: bytes, data: bytes) -> None:
    try:
        event = _decode(data)
    except msgspec.DecodeError as error:
        _fault(reply, "bad_json", f"{error}: {_show(data)}")
        return
    if event.error is not None or kind == b"error":
        _fault(reply, "error_event", _show(data))
        return
    _take(reply, when, event)


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
        if visible and reply.text is not None:
            reply.text.append(_visible(choice))
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
    tools = delta.tool_calls is not None and any(
        call.function is not None and call.function.arguments for call in delta.tool_calls
    )
    return bool(delta.content or choice.text), bool(delta.reasoning_content or delta.reasoning or tools)


def _visible(choice: _Choice) -> str:
    delta = choice.delta or choice.message
    return (delta.content if delta is not None else None) or choice.text or ""


def _opens(choice: _Choice) -> bool:
    """The chat chunk that only names the speaker: part of the protocol, not an empty chunk."""
    return choice.delta is not None and choice.delta.role is not None


def _close(reply: Reply) -> None:
    if not reply.done and not reply.finish_reason:
        _fault(reply, "cut", "the stream ended without finish_reason and without [DONE]")
    elif reply.first_token_ns is None:
        _fault(reply, "no_token", "the reply finished without any generated text")


def _fault(reply: Reply, fault: str, detail: str) -> None:
    reply.fault = fault
    reply.detail = detail


def _show(data: bytes, limit: int = 200) -> str:
    text = data[:limit].decode("utf-8", "backslashreplace")
    return text + ("..." if len(data) > limit else "")
