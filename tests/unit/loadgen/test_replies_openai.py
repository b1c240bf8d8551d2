"""What replies of completions and chat completions say, in every way that servers write them."""

import json

import pytest

from pytest_inferforge.loadgen import sse

TOKEN = b'data: {"choices":[{"index":0,"text":" tok"}]}'
CHAT_TOKEN = b'data: {"choices":[{"index":0,"delta":{"content":" tok"}}]}'
FINISH = b'data: {"choices":[{"index":0,"text":"","finish_reason":"length"}]}'


def read(*blocks):
    """A reply that came an event at a time, each at 10, 20, 30, ..."""
    return sse.read_stream([(10 * k, block + b"\n\n") for k, block in enumerate(blocks, start=1)])


def event(content):
    return b"data: " + json.dumps(content).encode()


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


def counted(text, tokens, **choice):
    """A chunk with usage so far."""
    usage = {"prompt_tokens": 7, "completion_tokens": tokens}
    return event({"choices": [{"text": text, **choice}], "usage": usage})


@pytest.mark.parametrize(
    ("blocks", "tokens"),
    [
        ((counted("a b c", 3), counted("d", 4, finish_reason="length")), 3),
        # a token whose text came later is one of the first chunk's
        ((counted("", 1), counted("caf\u00e9", 2), counted("d", 3, finish_reason="length")), 2),
        # counts that begin later say nothing of the first chunk
        ((TOKEN, counted("a b", 3, finish_reason="length")), None),
        ((counted("a", 0), counted("", 0, finish_reason="stop"),
          event({"choices": [], "usage": USAGE})), None),
        ((event({"choices": [{"text": "a"}], "usage": None}), FINISH), None),
        # named before, and not counted yet
        ((event({"choices": [{"delta": {"role": "assistant"}}],
                 "usage": {"prompt_tokens": 7, "completion_tokens": 0}}),
          event({"choices": [{"delta": {"content": "a b"}}],
                 "usage": {"prompt_tokens": 7, "completion_tokens": 2}}), FINISH), 2),
    ],
)  # fmt: skip
def test_the_tokens_of_the_first_chunk_are_known_where_the_server_counts_as_it_goes(blocks, tokens):
    reply = read(*blocks)
    assert (reply.fault, reply.first_chunk_tokens) == (None, tokens)


LAST = {"choices": [], "usage": USAGE}


@pytest.mark.parametrize(
    ("last", "ttft_ns", "queue_ns"),
    [
        (LAST | {"metrics": {"time_to_first_token_ms": 12.5, "queue_time_ms": 0}}, 12_500_000, 0),
        (LAST | {"metrics": {"time_to_first_token_ms": None, "queue_time_ms": 1.5}}, None, 1_500_000),
        (LAST | {"timings": {"prompt_ms": 3.25, "predicted_ms": 9}}, 3_250_000, None),
        (LAST | {"timings": {"cache_n": 3}}, None, None),
        (LAST | {"timings": None, "metrics": None}, None, None),
        # a name that others may use for anything
        (LAST | {"metrics": ["a"]}, None, None),
        (LAST | {"metrics": {"time_to_first_token_ms": "fast"}}, None, None),
        (LAST, None, None),
    ],
)
def test_what_a_server_says_of_its_own_times(last, ttft_ns, queue_ns):
    reply = read(TOKEN, FINISH, event(last))
    assert (reply.fault, reply.server_ttft_ns, reply.server_queue_ns) == (None, ttft_ns, queue_ns)


def test_times_in_every_chunk_are_those_of_the_last_that_has_them():
    timed = [
        event({"choices": [{"text": "a"}], "timings": {"prompt_ms": 2.0}}),
        event({"choices": [{"text": "b", "finish_reason": "length"}], "timings": {"prompt_ms": 2.5}}),
        event({"choices": [], "timings": {"cache_n": 0}}),
    ]
    reply = read(*timed)
    assert (reply.server_ttft_ns, reply.cached_tokens, len(reply.chunk_ns)) == (2_500_000, 0, 2)


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
