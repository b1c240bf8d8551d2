"""Requests as each server wants them: the whole body, and the head."""

import json

import pytest

from pytest_inferforge.loadgen.bodies import Columns, RequestWriter
from pytest_inferforge.workload.images import data_url

COMPLETION = {"model": "m", "prompt": "Say it.", "stream": True, "temperature": 0.0, "max_tokens": 8}
CHAT = {
    "model": "m",
    "messages": [{"role": "user", "content": "Say it."}],
    "stream": True,
    "temperature": 0.0,
    "max_tokens": 8,
}
USAGE = {"stream_options": {"include_usage": True}}
EXACT = {"ignore_eos": True, "min_tokens": 8}
GENERATION = {"generation_config": '{"max_new_tokens":8,"min_new_tokens":8}'}

BODIES = {
    ("llama.cpp", "completions"): COMPLETION | USAGE | {"ignore_eos": True, "cache_prompt": False},
    ("llama.cpp", "chat"): CHAT | USAGE | {"ignore_eos": True, "cache_prompt": False},
    ("vllm", "completions"): COMPLETION | USAGE | EXACT,
    ("vllm", "chat"): CHAT | USAGE | EXACT,
    ("sglang", "completions"): COMPLETION | USAGE | EXACT,
    ("sglang", "chat"): CHAT | USAGE | EXACT,
    ("tensorrt-llm", "completions"): COMPLETION | USAGE | EXACT,
    ("tensorrt-llm", "chat"): CHAT | USAGE | EXACT,
    ("tgi", "completions"): COMPLETION | USAGE,
    ("tgi", "chat"): CHAT | USAGE,
    ("transformers", "completions"): COMPLETION | GENERATION,
    ("transformers", "chat"): CHAT | GENERATION,
    ("lmdeploy", "completions"): COMPLETION | USAGE | {"ignore_eos": True},
    ("lmdeploy", "chat"): CHAT | USAGE | {"ignore_eos": True, "min_new_tokens": 8},
    ("ollama", "completions"): COMPLETION | USAGE,
    ("ollama", "chat"): CHAT | USAGE,
    ("generic", "completions"): COMPLETION | USAGE,
    ("generic", "chat"): CHAT | USAGE,
    ("openai", "completions"): COMPLETION | USAGE,
    ("openai", "chat"): {k: v for k, v in CHAT.items() if k != "max_tokens"}
    | USAGE
    | {"max_completion_tokens": 8},
    ("anthropic", "chat"): CHAT,
}


def sent(plan, asked):
    return json.loads(RequestWriter(plan, None).body(0, asked, 8))


@pytest.mark.parametrize(("dialect", "api"), BODIES)
def test_a_body_is_what_the_server_wants_and_nothing_more(plan_for, dialect, api):
    asked = "Say it." if api == "completions" else CHAT["messages"]
    assert sent(plan_for(dialect, api=api), asked) == BODIES[dialect, api]


@pytest.mark.parametrize("dialect", ["llama.cpp", "vllm"])
def test_fields_that_spare_the_cache_go_with_prompts_that_are_all_unlike(plan_for, dialect):
    body = sent(plan_for(dialect, api="completions", prefix_cache=True), "Say it.")
    assert "cache_prompt" not in body


def test_token_ids_stand_where_the_text_would(plan_for):
    assert sent(plan_for("vllm", api="completions", token_ids=True), [1, 2]) == (
        COMPLETION | USAGE | EXACT | {"prompt": [1, 2]}
    )


def test_what_the_user_adds_wins(plan_for):
    own = {"generation_config": '{"num_beams":2}', "temperature": 0.5}
    assert sent(plan_for("transformers", api="completions", extra_body=own), "Say it.") == COMPLETION | own


SYSTEM = {"role": "system", "content": "Be brief."}
HISTORY = [
    {"role": "user", "content": "Hi."},
    {"role": "assistant", "content": "Hello."},
    {"role": "user", "content": "Bye."},
]


def test_the_system_has_a_field_of_its_own_where_it_is_no_message(plan_for):
    plan = plan_for("anthropic", api="chat")
    assert sent(plan, [SYSTEM, *HISTORY]) == CHAT | {"system": "Be brief.", "messages": HISTORY}
    assert sent(plan, HISTORY) == CHAT | {"messages": HISTORY}
    assert sent(plan_for("vllm", api="chat"), [SYSTEM, *HISTORY])["messages"] == [SYSTEM, *HISTORY]


def test_images_are_written_as_the_wire_has_them(plan_for):
    images = {"api": "chat", "images": "2 x 32x32"}
    content = {}
    for dialect in ("vllm", "anthropic"):
        plan = plan_for(dialect, **images)
        (message,) = RequestWriter(plan, None).opening(Columns(plan.items), 0, 0)
        content[dialect] = message["content"]
    url = data_url(32, 32, "s/0/0")
    assert content["vllm"][1] == {"type": "image_url", "image_url": {"url": url}}
    source = {"type": "base64", "media_type": "image/png", "data": url.partition(",")[2]}
    assert content["anthropic"][1] == {"type": "image", "source": source}
    assert [content[d][0] for d in content] == [{"type": "text", "text": content["vllm"][0]["text"]}] * 2


COMMON = [
    "Host: h:1",
    "Content-Type: application/json",
    "Accept: text/event-stream",
    "User-Agent: pytest-inferforge",
]


@pytest.mark.parametrize(
    ("dialect", "key", "first", "more"),
    [
        ("vllm", None, "POST /v1/chat/completions HTTP/1.1", []),
        ("vllm", "k", "POST /v1/chat/completions HTTP/1.1", ["Authorization: Bearer k"]),
        ("anthropic", None, "POST /v1/messages HTTP/1.1", ["anthropic-version: 2023-06-01"]),
        ("anthropic", "k", "POST /v1/messages HTTP/1.1", ["anthropic-version: 2023-06-01", "x-api-key: k"]),
    ],
)
def test_the_head_carries_the_dialects_headers_and_the_key(plan_for, dialect, key, first, more):
    request = RequestWriter(plan_for(dialect, api="chat"), key).request(0, "t-0", CHAT["messages"], 8)
    head, _, body = request.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines == [first, *COMMON, *more, "X-Request-Id: t-0", f"Content-Length: {len(body)}"]
