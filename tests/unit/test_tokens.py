"""How a server is asked about its tokens, in its own dialect; what it answers is made up."""

import json
from types import SimpleNamespace

import httpx
import pytest

from pytest_inferforge.errors import MeasuringError
from pytest_inferforge.pytest_plugin import tokens
from pytest_inferforge.workload.prompts import OPENING


class Answers:
    """A server that gives the same answer to everything, and keeps what it was asked."""

    def __init__(self, dialect, answer):
        self.answer = answer
        self.asked = []
        self.server = SimpleNamespace(
            dialect_name=dialect,
            model="m",
            client=lambda **_: self._client(),
            exit_report=lambda: "it runs",
        )

    def _client(self):
        return httpx.Client(base_url="http://server", transport=httpx.MockTransport(self._handle))

    def _handle(self, request):
        asked = json.loads(request.content)
        self.asked.append((request.url.path, asked))
        answer = self.answer(asked) if callable(self.answer) else self.answer
        return httpx.Response(200, json=answer)

    def count(self, api, text="a b"):
        with self._client() as client:
            return tokens.count_tokens(client, self.server, api, text)

    def ids(self, text="a b"):
        with self._client() as client:
            return tokens.tokenize(client, self.server, text)


ASKED = {"model": "m", "temperature": 0.0}
CHAT = ASKED | {"messages": [{"role": "user", "content": "a b"}]}


@pytest.mark.parametrize(
    ("dialect", "api", "path", "body"),
    [
        ("vllm", "completions", "/v1/completions", ASKED | {"prompt": "a b", "max_tokens": 1}),
        ("vllm", "chat", "/v1/chat/completions", CHAT | {"max_tokens": 1}),
        ("openai", "chat", "/v1/chat/completions", CHAT | {"max_completion_tokens": 1}),
        ("anthropic", "chat", "/v1/messages", CHAT | {"max_tokens": 1}),
    ],
)
def test_a_short_answer_is_asked_for_in_the_servers_words(dialect, api, path, body):
    answers = Answers(dialect, {})
    assert answers.count(api) is None
    assert answers.asked == [(path, body)]


@pytest.mark.parametrize(
    ("dialect", "usage", "counted"),
    [
        ("vllm", {"prompt_tokens": 7}, 7),
        ("vllm", {"input_tokens": 7}, None),
        ("anthropic", {"input_tokens": 7}, 7),
        ("anthropic", {"input_tokens": 1, "cache_read_input_tokens": 4, "cache_creation_input_tokens": 2}, 7),
        ("anthropic", {"input_tokens": 7, "cache_read_input_tokens": None}, 7),
        ("anthropic", {"prompt_tokens": 7}, None),
        ("anthropic", None, None),
    ],
)
def test_the_prompt_is_what_the_server_counts(dialect, usage, counted):
    assert Answers(dialect, {"usage": usage}).count("chat") == counted


@pytest.mark.parametrize(
    ("dialect", "answer", "path", "field"),
    [
        ("llama.cpp", {"tokens": [5, 6]}, "/tokenize", "content"),
        ("vllm", {"count": 2, "max_model_len": 64, "tokens": [5, 6]}, "/tokenize", "prompt"),
        ("sglang", {"tokens": [5, 6], "count": 2, "max_model_len": 64}, "/tokenize", "prompt"),
        ("tensorrt-llm", {"count": 2, "tokens": [5, 6]}, "/_internal/tokenize", "prompt"),
        ("tgi", [{"id": 5, "text": "a", "start": 0}, {"id": 6, "text": " b"}], "/tokenize", "inputs"),
    ],
)
def test_ids_are_read_in_every_form_of_reply(dialect, answer, path, field):
    answers = Answers(dialect, answer)
    assert answers.ids() == [5, 6]
    ((asked_path, body),) = answers.asked
    assert (asked_path, body[field]) == (path, "a b")


@pytest.mark.parametrize("answer", [{"error": "no"}, [{"text": "a"}], {"tokens": None}, "no"])
def test_an_answer_without_ids_is_an_error_that_shows_it(answer):
    with pytest.raises(MeasuringError) as caught:
        Answers("tgi", answer).ids()
    assert json.dumps(answer, separators=(",", ":")) in caught.value.seen


def test_what_cannot_be_said_is_refused_before_anything_is_asked():
    for dialect, api, ids in (("anthropic", "completions", False), ("ollama", "completions", True)):
        answers = Answers(dialect, {})
        with pytest.raises(MeasuringError, match=r"completions|token ids"):
            tokens.learn(answers.server, api, ids=ids)
        assert answers.asked == []


def test_a_bank_is_learned_from_anthropics_usage():
    def answer(asked):
        (message,) = asked["messages"]
        words = message["content"].removeprefix(OPENING).split()
        return {"usage": {"input_tokens": 3 + len(words), "cache_read_input_tokens": 2}}

    bank = tokens.learn(Answers("anthropic", answer).server, "chat", ids=False)
    assert bank.overhead_tokens == 5
