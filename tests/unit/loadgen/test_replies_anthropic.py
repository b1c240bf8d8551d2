"""What replies of the messages API say."""

import json

import pytest

from pytest_inferforge.loadgen import sse
from pytest_inferforge.loadgen.reply import Reply


def event(kind, **fields):
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


def start(**usage):
    return event("message_start", message={"role": "assistant", "content": [], "usage": usage})


def delta(**fields):
    return event("content_block_delta", index=0, delta=fields)


def text(said):
    return delta(type="text_delta", text=said)


def end(reason="end_turn", **usage):
    return event("message_delta", delta={"stop_reason": reason}, usage=usage)


OPENED = start(input_tokens=16, output_tokens=1)
BLOCK = event("content_block_start", index=0, content_block={"type": "text", "text": ""})
OVER = event("content_block_stop", index=0)
STOP = event("message_stop")
PING = event("ping")


def read(*events, keep_text=False):
    """A reply that came an event at a time, each at 10, 20, 30, ..."""
    reply = Reply(text=[] if keep_text else None)
    pieces = [(10 * k, data) for k, data in enumerate(events, start=1)]
    for _ in sse.reading(pieces, reply, 64):
        pass
    return reply


def test_only_deltas_are_tokens():
    reply = read(OPENED, BLOCK, PING, text("a"), PING, text("b"), OVER, end(output_tokens=2), STOP)
    assert (reply.fault, list(reply.chunk_ns), reply.empty_chunks) == (None, [40, 60], 0)
    assert (reply.first_event_ns, reply.first_token_ns, reply.last_token_ns) == (10, 40, 60)
    assert (reply.finish_reason, reply.done) == ("end_turn", True)


def test_thoughts_and_arguments_are_tokens_that_nobody_sees():
    reply = read(
        OPENED,
        delta(type="thinking_delta", thinking="hm"),
        delta(type="signature_delta", signature="EqQB"),
        delta(type="input_json_delta", partial_json=""),
        delta(type="input_json_delta", partial_json="{}"),
        text("a"),
        end("tool_use"),
        STOP,
        keep_text=True,
    )
    assert (list(reply.chunk_ns), reply.first_visible_ns, reply.empty_chunks) == ([20, 50, 60], 60, 1)
    assert reply.text == ["a"]


@pytest.mark.parametrize(
    ("opened", "last", "prompt", "cached"),
    [
        ({"input_tokens": 16, "output_tokens": 1}, {"output_tokens": 5}, 16, None),
        ({"input_tokens": 4, "cache_read_input_tokens": 12}, {"output_tokens": 5}, 16, 12),
        ({"input_tokens": 1, "cache_read_input_tokens": 0, "cache_creation_input_tokens": 15},
         {"output_tokens": 5}, 16, 0),
        ({"input_tokens": 0, "cache_read_input_tokens": 16}, {"output_tokens": 5}, 16, 16),
        # a server that counts the prompt at the end alone
        ({"input_tokens": 0, "output_tokens": 0}, {"input_tokens": 16, "output_tokens": 5}, 16, None),
        # one that says it again, without the cache
        ({"input_tokens": 4, "cache_read_input_tokens": 12}, {"input_tokens": 4, "output_tokens": 5}, 16, 12),
    ],
)  # fmt: skip
def test_the_prompt_is_what_the_cache_had_and_the_rest(opened, last, prompt, cached):
    reply = read(start(**opened), text("a"), end(**last), STOP)
    assert (reply.prompt_tokens, reply.cached_tokens, reply.output_tokens) == (prompt, cached, 5)


def test_output_tokens_grow_and_those_of_the_beginning_do_not_count():
    assert read(OPENED, text("a"), text("b"), STOP).output_tokens is None
    grown = read(OPENED, text("a"), end(None, output_tokens=3), text("b"), end(output_tokens=7), STOP)
    assert (grown.output_tokens, grown.finish_reason) == (7, "end_turn")


@pytest.mark.parametrize(
    ("events", "fault", "detail"),
    [
        ((OPENED, text("a"), event("error", error={"type": "overloaded_error", "message": "Overloaded"})),
         "error_event", "overloaded_error"),
        ((OPENED, text("a"), b'event: error\ndata: {"message": "no memory"}\n\n'),
         "error_event", "no memory"),
        ((OPENED, text("a"), b'event: content_block_delta\ndata: {"type":\n\n'), "bad_json", '{"type":'),
        ((OPENED, text("a")), "cut", "without stop_reason and without message_stop"),
        ((OPENED, BLOCK, OVER, end(output_tokens=1), STOP), "no_token", "without any generated text"),
    ],
)  # fmt: skip
def test_what_makes_a_whole_reply_a_failure(events, fault, detail):
    reply = read(*events)
    assert reply.fault == fault
    assert detail in reply.detail
    assert list(reply.chunk_ns) == ([20] if events[1] != BLOCK else [])  # what came before is kept


@pytest.mark.parametrize("events", [(end(output_tokens=1),), (STOP,), (end(output_tokens=1), STOP)])
def test_a_reply_is_whole_when_it_says_so_in_one_way(events):
    assert read(OPENED, text("a"), *events).fault is None


def test_events_that_nobody_knows_are_nobodys_business():
    odd = event("usage_report", delta={"type": "text_delta", "text": "x"})
    cited = delta(type="citations_delta", citation={"type": "char_location"})
    reply = read(OPENED, odd, text("a"), cited, end(), STOP)
    assert (reply.fault, list(reply.chunk_ns), reply.empty_chunks) == (None, [30], 0)


@pytest.mark.parametrize(
    ("content", "visible"),
    [
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], True),
        ([{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "a"}], True),
        ([{"type": "tool_use", "name": "look", "input": {}}], False),
    ],
)
def test_a_message_that_was_not_streamed_is_one_chunk_at_its_end(content, visible):
    usage = {"input_tokens": 4, "cache_read_input_tokens": 12, "output_tokens": 9}
    body = json.dumps({"type": "message", "content": content, "stop_reason": "max_tokens", "usage": usage})
    reply = sse.read_whole(5, body.encode())
    assert (reply.fault, list(reply.chunk_ns), reply.finish_reason) == (None, [5], "max_tokens")
    assert (reply.prompt_tokens, reply.cached_tokens, reply.output_tokens) == (16, 12, 9)
    assert reply.first_visible_ns == (5 if visible else None)


def test_an_error_or_an_empty_message_that_was_not_streamed_is_a_failure():
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    assert sse.read_whole(5, json.dumps(error).encode()).fault == "error_event"
    empty = {"type": "message", "content": [], "stop_reason": "end_turn"}
    assert sse.read_whole(5, json.dumps(empty).encode()).fault == "no_token"
