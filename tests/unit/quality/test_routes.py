"""Which route a server gets, what it is asked on it, and what is remembered; no socket is opened."""

import asyncio
import json
import math

import httpx
import pytest

from pytest_inferforge.dialects import DIALECTS
from pytest_inferforge.errors import UsageError
from pytest_inferforge.quality.client import Client
from pytest_inferforge.quality.evaluation import Target
from pytest_inferforge.quality.likelihoods import Score
from pytest_inferforge.quality.routes import choose

VOCABULARY = 6000  # tokens of the pretended model: token k after k-1 is likely, token 5000 is not


class LlamaCpp:
    """One id a letter; with `whole` false it tells the 20 best alone."""

    def __init__(self, *, whole=True):
        self.asked = []
        self.whole = whole

    def __call__(self, request):
        body = json.loads(request.content)
        self.asked.append((request.url.path, body))
        if request.url.path == "/tokenize":
            ids = [5000 if letter == "!" else ord(letter) for letter in body["content"]]
            return httpx.Response(200, json={"tokens": [2, *ids] if body.get("add_special") else ids})
        if "echo" in body:
            return httpx.Response(400, json={"error": "Only no echo is supported"})
        best = body["prompt"][-1] + 1
        rest = math.log(0.5 / (VOCABULARY - 1))
        order = [best, *(k for k in range(VOCABULARY) if k != best)]
        tops = [{"id": k, "logprob": math.log(0.5) if k == best else rest} for k in order]
        tops = tops[: body["logprobs"] if self.whole else 20]
        content = [{"id": best, "top_logprobs": tops}]
        return httpx.Response(200, json={"choices": [{"text": "x", "logprobs": {"content": content}}]})


def client(handler, dialect="llama.cpp"):
    return Client(
        Target(url="http://server", model="m", dialect=dialect),
        DIALECTS[dialect],
        key=None,
        timeout_s=5,
        retries=0,
        concurrency=4,
        transport=httpx.MockTransport(handler),
    )


async def scores(handler, *pairs):
    server = client(handler)
    name, route = await choose(server)
    found = await asyncio.gather(*(route.score(*pair) for pair in pairs))
    await server.close()
    return name, found


def test_a_server_that_refuses_echo_is_asked_token_by_token():
    server = LlamaCpp()
    name, (likely, unlikely) = asyncio.run(scores(server, ("ab", "cd"), ("ab", "cx")))
    assert name == "teacher_forced"
    assert likely == Score(logprob=pytest.approx(2 * math.log(0.5)), greedy=True, tokens=2)
    assert (unlikely.greedy, unlikely.logprob < likely.logprob) == (False, True)
    completions = [body for path, body in server.asked if path == "/v1/completions" and "echo" not in body]
    assert all(body["cache_prompt"] and body["post_sampling_probs"] is False for body in completions)
    prompts = [body["prompt"] for body in completions if body["logprobs"] == 128][1:]
    assert prompts == [[2, 97, 98], [2, 97, 98, 99]]  # shared by both, and the begin of text is in them


def test_a_token_that_is_not_told_is_asked_for_with_more_and_then_refused():
    server = LlamaCpp()
    _name, (rare,) = asyncio.run(scores(server, ("ab", "!")))
    assert rare.logprob == pytest.approx(math.log(0.5 / (VOCABULARY - 1)))
    ladder = [body["logprobs"] for path, body in server.asked if "prompt" in body and "echo" not in body]
    assert ladder == [128, 128, 4096, 1 << 20]


def test_a_server_that_tells_a_few_alone_is_refused():
    with pytest.raises(UsageError) as caught:
        asyncio.run(scores(LlamaCpp(whole=False), ("ab", "c")))
    assert "20 of 128 tokens" in caught.value.seen
    assert "Only no echo is supported" in caught.value.seen


@pytest.mark.parametrize("dialect", ["generic", "tgi", "anthropic"])
def test_a_server_that_can_do_neither_is_refused(dialect):
    server = client(lambda _request: httpx.Response(200, json={"choices": [{"text": "x"}]}), dialect)
    with pytest.raises(UsageError) as caught:
        asyncio.run(choose(server))
    assert "cannot score given texts" in caught.value.what
    assert "forge_arithmetic instead of forge_arithmetic_choice" in caught.value.do


def echoing(body):
    tokens = list(body["prompt"])
    return {
        "choices": [
            {
                "logprobs": {
                    "tokens": [*tokens, "x"],
                    "token_logprobs": [None, *[-0.25] * len(tokens)],
                    "top_logprobs": [None, *[{"t": -0.25}] * len(tokens)],
                }
            }
        ],
        "usage": {"prompt_tokens": len(tokens), "completion_tokens": 1},
    }


def test_echo_is_preferred_and_one_request_a_text():
    asked = []

    def handler(request):
        asked.append(json.loads(request.content))
        return httpx.Response(200, json=echoing(asked[-1]))

    async def go():
        server = client(handler, "vllm")
        name, route = await choose(server)
        return name, await route.score("ab ", "cd"), await route.score("", "abc")

    name, score, alone = asyncio.run(go())
    assert name == "echo"
    assert score == Score(logprob=-0.75, greedy=True, tokens=3)  # the space is the continuation's
    assert alone == Score(logprob=-0.5, greedy=True, tokens=2)  # before the first one nothing stands
    assert len(asked) == 3


def test_characters_over_several_tokens_are_counted_by_the_context_alone():
    def handler(request):
        body = json.loads(request.content)
        spelled = echoing(body)
        tokens = spelled["choices"][0]["logprobs"]["tokens"]
        spelled["choices"][0]["logprobs"]["tokens"] = [t if t.isascii() else "\ufffd" for t in tokens]
        return httpx.Response(200, json=spelled)

    async def go():
        _name, route = await choose(client(handler, "vllm"))
        return await route.score("ab", "é!")

    assert asyncio.run(go()) == Score(logprob=-0.5, greedy=True, tokens=2)
