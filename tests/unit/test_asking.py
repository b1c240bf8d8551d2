from __future__ import annotations

import json

import pytest

from pytest_inferforge import asking
from pytest_inferforge.dialects import DIALECTS, Dialect, Wire


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=lambda dialect: dialect.name)
def test_every_dialect_is_asked_in_its_own_words(dialect: Dialect) -> None:
    offered = asking.paths(dialect)
    assert (True, dialect.chat_path) in offered
    for chat, path in offered:
        body = asking.body(dialect, "m", "Hello", chat=chat, max_tokens=1)
        assert path.startswith("/")
        assert body["model"] == "m"
        assert ("messages" in body, "prompt" in body) == (chat, not chat)
        assert "stream" not in body
        assert len([field for field in body if field.startswith("max_")]) == 1
        json.dumps(body)


def test_completions_go_before_chats_because_no_template_is_in_their_way() -> None:
    assert asking.paths(DIALECTS["vllm"]) == ((False, "/v1/completions"), (True, "/v1/chat/completions"))
    assert asking.paths(DIALECTS["anthropic"]) == ((True, "/v1/messages"),)


def test_the_bodies_of_both_apis() -> None:
    assert asking.body(DIALECTS["vllm"], "m", "Hello", chat=False, max_tokens=1) == {
        "model": "m", "prompt": "Hello", "max_tokens": 1, "temperature": 0.0,
    }  # fmt: skip
    assert asking.body(DIALECTS["openai"], "m", "Hello", chat=True, max_tokens=3) == {
        "model": "m",
        "messages": [{"role": "user", "content": "Hello"}],
        "max_completion_tokens": 3,
        "temperature": 0.0,
    }


@pytest.mark.parametrize(
    ("answer", "tokens"),
    [
        ({"usage": {"prompt_tokens": 5}}, 5),
        ({"usage": {"prompt_tokens": 0}}, 0),
        ({"usage": {"input_tokens": 5}}, None),
        ({"usage": {"prompt_tokens": None}}, None),
        ({"usage": {"prompt_tokens": "many"}}, None),
        ({"usage": None}, None),
        ({"usage": []}, None),
        ({}, None),
    ],
)
def test_tokens_of_a_prompt_are_what_the_server_counted(
    answer: dict[str, object], tokens: int | None
) -> None:
    assert asking.prompt_tokens(DIALECTS["vllm"], answer) == tokens


def test_the_messages_api_counts_under_another_name() -> None:
    dialect = DIALECTS["anthropic"]
    assert dialect.wire is Wire.ANTHROPIC
    assert asking.prompt_tokens(dialect, {"usage": {"input_tokens": 7, "prompt_tokens": 5}}) == 7
    cached = {"cache_read_input_tokens": 20, "cache_creation_input_tokens": 100}
    assert asking.prompt_tokens(dialect, {"usage": {"input_tokens": 7, **cached}}) == 127
