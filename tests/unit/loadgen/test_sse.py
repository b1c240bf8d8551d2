"""Streams as servers write them; how they are cut on the way must change nothing but the stamps."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_inferforge.loadgen import sse

TOKEN = b'data: {"choices":[{"index":0,"text":" tok"}]}'
CHAT_TOKEN = b'data: {"choices":[{"index":0,"delta":{"content":" tok"}}]}'
FINISH = b'data: {"choices":[{"index":0,"text":"","finish_reason":"length"}]}'


def stream(*blocks, end=b"\n"):
    return b"".join(block.replace(b"\n", end) + end + end for block in blocks)


def read(*blocks):
    """A reply that came an event at a time, each at 10, 20, 30, ..."""
    return sse.read_stream([(10 * k, stream(block)) for k, block in enumerate(blocks, start=1)])


def event(content):
    return b"data: " + json.dumps(content).encode()


def oracle(data):
    """Server-sent events read a byte at a time: (offset of the byte that ended each, type, data)."""
    found, kind, lines, line, after_cr = [], b"", [], b"", False
    for offset, byte in enumerate(bytes([b]) for b in data):
        if byte == b"\n" and after_cr:
            after_cr = False
            continue
        after_cr = byte == b"\r"
        if byte not in (b"\n", b"\r"):
            line += byte
            continue
        if not line:
            if lines:
                found.append((offset, kind, b"\n".join(lines)))
            kind, lines = b"", []
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            lines.append(value)
        elif name == b"event":
            kind = value
        line = b""
    return found


BLOCKS = st.sampled_from(
    [b"data: a", b"data:b", b"data: one\ndata: two", b": ping", b"event: error\ndata: {}",
     b"data: caf\xc3\xa9", b"id: 7\nretry: 10\ndata: x", b"data: \xe2\x80\xa8\xc2\x85", b"data: [DONE]"]
)  # fmt: skip


@given(
    st.lists(BLOCKS, max_size=6),
    st.sampled_from([b"\n", b"\r\n", b"\r"]),
    st.sets(st.integers(0, 200)),
)
def test_wherever_a_stream_is_cut_its_events_are_the_same_and_stamped_by_their_last_byte(blocks, end, cuts):
    data = stream(*blocks, end=end)
    places = sorted({0, len(data), *(c for c in cuts if c < len(data))})
    pieces = [(b, data[a:b]) for a, b in pairwise(places)]  # each stamped with the offset of its end
    expected = [
        (next(p for p in places if p > offset), kind, content) for offset, kind, content in oracle(data)
    ]
    assert list(sse.events(pieces)) == expected


def test_an_event_is_over_at_its_carriage_return_whatever_follows():
    pieces = [(1, b"data: a\r\r"), (2, b"data: b\r\n\r"), (3, b"\ndata: c\r\n\r\n")]
    assert list(sse.events(pieces)) == [(1, b"", b"a"), (2, b"", b"b"), (3, b"", b"c")]


def test_an_event_that_never_ended_is_none():
    assert list(sse.events([(1, b"data: a\n\ndata: b\n")])) == [(1, b"", b"a")]


# -- what events say


def test_tokens_are_stamped_one_by_one_and_the_end_is_no_token():
    reply = read(TOKEN, TOKEN, FINISH, b"data: [DONE]")
    assert (reply.fault, list(reply.chunk_ns)) == (None, [10, 20])
    assert (reply.first_event_ns, reply.first_token_ns, reply.last_token_ns) == (10, 10, 20)
    assert (reply.finish_reason, reply.done, reply.output_tokens, reply.empty_chunks) == (
        "length",
        True,
        None,
        0,
    )


@pytest.mark.parametrize(
    "first",
    [
        event({"choices": [{"delta": {"role": "assistant", "content": ""}}]}),
        event({"choices": [{"delta": {"role": "assistant", "content": None}}]}),
        event({"choices": [{"delta": {"role": "assistant"}}], "usage": None}),
        event({"choices": []}),
    ],
)
def test_naming_the_speaker_is_an_event_and_no_chunk(first):
    reply = read(first, CHAT_TOKEN, FINISH)
    assert (reply.first_event_ns, reply.first_token_ns, reply.empty_chunks) == (10, 20, 0)


def test_empty_chunks_are_counted_and_end_no_wait():
    empty = event({"choices": [{"text": ""}]})
    reply = read(empty, empty, TOKEN, empty, TOKEN, FINISH)
    assert (reply.empty_chunks, reply.first_event_ns, list(reply.chunk_ns)) == (3, 10, [30, 50])


@pytest.mark.parametrize(
    "hidden",
    [
        {"reasoning_content": "hm"},
        {"reasoning": "hm"},
        {"content": "", "reasoning_content": "hm"},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"a'}}]},
    ],
)
def test_reasoning_and_tool_calls_are_tokens_that_nobody_sees(hidden):
    reply = read(event({"choices": [{"delta": hidden}]}), CHAT_TOKEN, FINISH)
    assert (reply.first_token_ns, reply.first_visible_ns, list(reply.chunk_ns)) == (10, 20, [10, 20])


def test_a_tool_call_begins_with_its_first_argument():
    named = event({"choices": [{"delta": {"tool_calls": [{"function": {"name": "f", "arguments": ""}}]}}]})
    argued = event({"choices": [{"delta": {"tool_calls": [{"function": {"arguments": "{}"}}]}}]})
    reply = read(named, argued, event({"choices": [{"delta": {}, "finish_reason": "tool_calls"}]}))
    assert (reply.first_token_ns, reply.first_visible_ns, reply.fault) == (20, None, None)


USAGE = {"prompt_tokens": 7, "completion_tokens": 2}


@pytest.mark.parametrize(
    "blocks",
    [
        # a chunk of its own without choices: vLLM, SGLang, OpenAI, llama.cpp's chat
        (TOKEN, TOKEN, FINISH, event({"choices": [], "usage": USAGE}), b"data: [DONE]"),
        # on the chunk with the finish reason: llama.cpp's and TGI's completions, transformers serve
        (TOKEN, TOKEN, event({"choices": [{"text": "", "finish_reason": "stop"}], "usage": USAGE})),
        # null in every other chunk: SGLang, LMDeploy, OpenAI
        (event({"choices": [{"text": "a"}], "usage": None}), TOKEN, FINISH,
         event({"choices": [], "usage": USAGE})),
        # counting as it goes: continuous_usage_stats
        (event({"choices": [{"text": "a"}], "usage": {"prompt_tokens": 7, "completion_tokens": 1}}),
         event({"choices": [{"text": "b", "finish_reason": "length"}], "usage": USAGE})),
        # zeros in every other chunk: Ollama
        (event({"choices": [{"text": "a"}], "usage": {"prompt_tokens": 0, "completion_tokens": 0}}), TOKEN,
         FINISH, event({"choices": [], "usage": USAGE})),
    ],
)  # fmt: skip
def test_usage_is_found_wherever_a_server_puts_it(blocks):
    reply = read(*blocks)
    assert (reply.fault, reply.prompt_tokens, reply.output_tokens, len(reply.chunk_ns)) == (None, 7, 2, 2)


def test_tokens_from_the_prefix_cache_are_found_in_usage_and_in_timings():
    cached = USAGE | {"prompt_tokens_details": {"cached_tokens": 5}}
    assert read(TOKEN, event({"choices": [], "usage": cached}), FINISH).cached_tokens == 5
    timed = {
        "choices": [{"text": "", "finish_reason": "length"}],
        "timings": {"cache_n": 6, "prompt_ms": 1.5},
    }
    assert read(TOKEN, event(timed)).cached_tokens == 6
    assert (
        read(
            TOKEN, event({"choices": [], "usage": USAGE | {"prompt_tokens_details": None}}), FINISH
        ).cached_tokens
        is None
    )


# -- what is a failure


@pytest.mark.parametrize(
    ("blocks", "fault", "detail"),
    [
        ((TOKEN, b'data: {"choices": [{"tex', FINISH), "bad_json", '{"choices": [{"tex'),
        ((TOKEN, b'data: {"choices": [{"text": 5}]}', FINISH), "bad_json", "$.choices[0].text"),
        ((TOKEN, b"data: 5", FINISH), "bad_json", "5"),
        ((TOKEN, event({"error": {"message": "no memory"}}), b"data: [DONE]"), "error_event", "no memory"),
        ((TOKEN, event({"error": "no memory"})), "error_event", "no memory"),
        ((TOKEN, b"event: error\n" + event({"message": "no memory"})), "error_event", "no memory"),
        ((TOKEN,), "cut", "without finish_reason and without [DONE]"),
        ((), "cut", "without finish_reason and without [DONE]"),
        ((FINISH, b"data: [DONE]"), "no_token", "without any generated text"),
        ((b"data: [DONE]",), "no_token", "without any generated text"),
    ],
)  # fmt: skip
def test_what_makes_a_whole_reply_a_failure(blocks, fault, detail):
    reply = read(*blocks)
    assert reply.fault == fault
    assert detail in reply.detail
    assert list(reply.chunk_ns) == ([10] if TOKEN in blocks else [])  # what came before is kept


@pytest.mark.parametrize("last", [FINISH, b"data: [DONE]", b"data: [DONE] "])
def test_a_reply_is_whole_when_it_says_so_in_one_way(last):
    assert read(TOKEN, last).fault is None


def test_fields_that_nobody_knows_are_nobodys_business():
    odd = {
        "id": "x",
        "object": "chunk",
        "obfuscation": "zz",
        "choices": [{"text": "a", "logprobs": None, "token_ids": [1]}],
    }
    assert read(event(odd) + b" ", b": ping", FINISH).fault is None


def test_what_is_shown_of_a_reply_is_short():
    reply = read(b"data: " + b"x" * 10_000)
    assert len(reply.detail) < 400


def test_a_reply_that_was_not_streamed_is_one_chunk_at_its_end():
    body = {
        "choices": [{"message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
        "usage": USAGE,
    }
    reply = sse.read_whole(5, json.dumps(body).encode())
    assert (reply.fault, list(reply.chunk_ns), reply.output_tokens) == (None, [5], 2)
    assert sse.read_whole(5, b"<html>").fault == "bad_json"
    assert sse.read_whole(5, b'{"error": "no"}').fault == "error_event"
    assert sse.read_whole(5, b'{"choices": [{"text": ""}]}').fault == "no_token"


def test_a_long_reply_can_be_read_a_slice_at_a_time():
    reply = sse.Reply()
    steps = sse.reading([(1, stream(*[TOKEN] * 9, FINISH))], reply, 1)
    for _ in range(4):
        next(steps)
    assert len(reply.chunk_ns) == 4
    assert (sum(1 for _ in steps), len(reply.chunk_ns), reply.fault) == (6, 9, None)


def test_a_piece_that_ends_in_the_next_line_is_no_whole_event():
    pieces = [(1, b"data: a\nd"), (2, b"ata: b\n\n"), (3, b"data: c\n\n")]
    assert list(sse.events(pieces)) == [(2, b"", b"a\nb"), (3, b"", b"c")]
