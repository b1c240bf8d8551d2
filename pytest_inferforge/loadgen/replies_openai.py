"""Replies of completions and chat completions, in all the ways that servers write them.

Source: OpenAI API reference, streaming of completions and chat completions; engines' own additions as their
sources show them (`pytest_inferforge.dialects`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from pytest_inferforge.loadgen.reply import shown

if TYPE_CHECKING:
    from pytest_inferforge.loadgen.reply import Event, Reply

ENDS = "finish_reason and without [DONE]"
_SHORT = 16  # bytes: the end of a stream may be no longer, with spaces around it


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


class _Timings(msgspec.Struct):  # llama.cpp
    cache_n: int | None = None
    prompt_ms: float | None = None


class _Event(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: Any = None
    timings: _Timings | None = None


class _Measured(msgspec.Struct):
    """What vLLM adds to the last chunk. The name is a common one: another server may mean anything by it."""

    metrics: Any = None


_decode = msgspec.json.Decoder(_Event).decode
_decode_many = msgspec.json.Decoder(list[_Event]).decode
_decode_measured = msgspec.json.Decoder(_Measured).decode


def read(reply: Reply, step: list[Event]) -> None:
    """Read some events of a stream, up to the first fault."""
    ended = _is_end(step[-1][2])
    said = step[:-1] if ended else step
    if said and not _read_together(reply, said):
        _read_apart(reply, said)
    if ended and reply.fault is None:
        reply.done = True


def read_whole(reply: Reply, when: int, body: bytes) -> None:
    """Read a reply that was not streamed."""
    _read_event(reply, when, b"", body)
    if reply.fault is None:
        _take_metrics(reply, body)


def _read_apart(reply: Reply, step: list[Event]) -> None:
    """Read a step's events one by one."""
    for when, kind, data in step:
        if _is_end(data):
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
            reply.fail("error_event", shown(data))
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
        if not event.choices:
            _take_metrics(reply, data)
    return True


def _read_event(reply: Reply, when: int, kind: bytes, data: bytes) -> None:
    try:
        event = _decode(data)
    except msgspec.DecodeError as error:
        reply.fail("bad_json", f"{error}: {shown(data)}")
        return
    if event.error is not None or kind == b"error":
        reply.fail("error_event", shown(data))
        return
    _take(reply, when, event)
    if not event.choices:
        _take_metrics(reply, data)


def _is_end(data: bytes) -> bool:
    return len(data) < _SHORT and data.strip() == b"[DONE]"


def _take(reply: Reply, when: int, event: _Event) -> None:
    usage = event.usage
    if usage is not None and usage.completion_tokens:  # null or zeros are none
        reply.output_tokens = usage.completion_tokens
        reply.prompt_tokens = usage.prompt_tokens
        if usage.prompt_tokens_details is not None:
            reply.cached_tokens = usage.prompt_tokens_details.cached_tokens
    if event.timings is not None:
        _take_timings(reply, event.timings)
    for choice in event.choices:
        if choice.finish_reason:
            reply.finish_reason = choice.finish_reason
        visible, hidden = _payload(choice)
        if visible and reply.text is not None:
            reply.text.append(_visible(choice))
        if visible or hidden:
            if reply.first_token_ns is None and usage is not None:
                reply.first_chunk_tokens = usage.completion_tokens or None
            reply.add_chunk(when, visible=visible)
        elif not choice.finish_reason and not _opens(choice):
            reply.empty_chunks += 1


def _take_timings(reply: Reply, timings: _Timings) -> None:
    if timings.cache_n is not None:
        reply.cached_tokens = timings.cache_n
    if timings.prompt_ms is not None:
        reply.server_ttft_ns = _ns(timings.prompt_ms)


def _take_metrics(reply: Reply, data: bytes) -> None:
    """Of an event that is no piece of the answer, so that pieces are not searched for it."""
    if b'"metrics"' not in data:
        return
    metrics = _decode_measured(data).metrics
    if isinstance(metrics, dict):
        reply.server_ttft_ns = _ns(metrics.get("time_to_first_token_ms"))
        reply.server_queue_ns = _ns(metrics.get("queue_time_ms"))


def _ns(ms: object) -> int | None:
    return round(ms * 1e6) if isinstance(ms, int | float) else None


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
