"""Replies of the messages API.

Source: Anthropic API reference, "Streaming Messages" and "Messages"; SDK 2.11.0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from pytest_inferforge.loadgen.reply import shown

if TYPE_CHECKING:
    from pytest_inferforge.loadgen.reply import Event, Reply

ENDS = "stop_reason and without message_stop"
OPENINGS = frozenset((b"message_start", b"ping"))  # types of the event that a stream may begin with


class _Usage(msgspec.Struct):
    input_tokens: int | None = None  # without those of the cache
    output_tokens: int | None = None  # so far
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None


class _Piece(msgspec.Struct):
    """A content block, or what a delta adds to one, or the end of a message."""

    type: str | None = None
    text: str | None = None
    thinking: str | None = None
    partial_json: str | None = None
    input: Any = None
    stop_reason: str | None = None


class _Opened(msgspec.Struct):
    usage: _Usage | None = None


class _Event(msgspec.Struct):
    """An event of a stream, or a whole message."""

    type: str = ""
    message: _Opened | None = None
    delta: _Piece | None = None
    content: list[_Piece] = []
    stop_reason: str | None = None
    usage: _Usage | None = None


_decode = msgspec.json.Decoder(_Event).decode
_GENERATED = ("text_delta", "thinking_delta", "input_json_delta")  # others: signatures, citations


def read(reply: Reply, step: list[Event]) -> None:
    """Read some events of a stream, up to the first fault. Those of an unknown type are skipped."""
    for when, kind, data in step:
        event = _event(reply, kind, data)
        if event is None:
            return
        match event.type:
            case "message_start" if event.message is not None:
                _take_prompt(reply, event.message.usage)
            case "content_block_delta" if event.delta is not None:
                _take_delta(reply, when, event.delta)
            case "message_delta":
                _take_end(reply, event.delta.stop_reason if event.delta else None, event.usage)
            case "message_stop":
                reply.done = True


def read_whole(reply: Reply, when: int, body: bytes) -> None:
    """Read a message that was not streamed."""
    message = _event(reply, b"", body)
    if message is None:
        return
    texts = [block.text for block in message.content if block.text]
    if reply.text is not None:
        reply.text += texts
    if texts or any(block.thinking or block.input is not None for block in message.content):
        reply.add_chunk(when, visible=bool(texts))
    _take_end(reply, message.stop_reason, message.usage)


def is_message(body: bytes) -> bool:
    """Whether a reply that was not streamed is written in this protocol."""
    try:
        return _decode(body).type == "message"
    except msgspec.DecodeError:
        return False


def _event(reply: Reply, kind: bytes, data: bytes) -> _Event | None:
    """What an event says; None: it is a fault."""
    try:
        event = None if kind == b"error" else _decode(data)
    except msgspec.DecodeError as error:
        reply.fail("bad_json", f"{error}: {shown(data)}")
        return None
    if event is None or event.type == "error":
        reply.fail("error_event", shown(data))
        return None
    return event


def _take_delta(reply: Reply, when: int, delta: _Piece) -> None:
    if delta.text:
        if reply.text is not None:
            reply.text.append(delta.text)
        reply.add_chunk(when, visible=True)
    elif delta.thinking or delta.partial_json:
        reply.add_chunk(when, visible=False)
    elif delta.type in _GENERATED:
        reply.empty_chunks += 1


def _take_prompt(reply: Reply, usage: _Usage | None) -> None:
    """How long the prompt was: what was read from the cache, written to it, and neither."""
    if usage is None:
        return
    parts = (usage.input_tokens, usage.cache_read_input_tokens, usage.cache_creation_input_tokens)
    if total := sum(part or 0 for part in parts):
        reply.prompt_tokens = total
    if usage.cache_read_input_tokens is not None:
        reply.cached_tokens = usage.cache_read_input_tokens


def _take_end(reply: Reply, stop_reason: str | None, usage: _Usage | None) -> None:
    if stop_reason:
        reply.finish_reason = stop_reason
    if usage is None:
        return
    if reply.prompt_tokens is None:  # the beginning did not tell
        _take_prompt(reply, usage)
    if usage.output_tokens:
        reply.output_tokens = usage.output_tokens
