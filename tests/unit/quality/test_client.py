"""Requests that fail: which are sent again, and what is kept of them."""

import asyncio

import httpx
import pytest

from pytest_inferforge.dialects import DIALECTS
from pytest_inferforge.errors import MeasuringError
from pytest_inferforge.quality.client import Client, summary
from pytest_inferforge.quality.evaluation import Target

OK = {"choices": [{"finish_reason": "length"}], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}


async def post(handler, *, retries=2, times=1, dialect="generic", key=None):
    waits = []

    async def sleep(seconds):
        waits.append(seconds)

    client = Client(
        Target(url="http://server/", model="m", dialect=dialect, api_key_env="KEY"),
        DIALECTS[dialect],
        key=key,
        timeout_s=0.5,
        retries=retries,
        concurrency=1,
        transport=httpx.MockTransport(handler),
        sleep=sleep,
    )
    replies = [await client.post("/v1/completions", {}, writes=True) for _ in range(times)]
    await client.close()
    return replies[-1], summary(client.asked), waits


def answers(*given):
    """Each in turn, the last one for ever; an exception is raised."""
    left = list(given)

    def handler(request):
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer[0], json=answer[1])

    return handler


def said(status, content=None):
    return (status, {"error": "no"} if content is None else content)


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (said(503), "http_503"),
        (said(429), "http_429"),
        (httpx.ConnectError("refused"), "refused"),
        (httpx.ConnectTimeout("slow"), "connect_timeout"),
        (httpx.RemoteProtocolError("cut"), "cut"),
        (httpx.ReadError("reset"), "cut"),
        (httpx.ReadTimeout("slow"), "timeout"),
    ],
)
def test_what_may_pass_is_sent_again(failure, reason):
    reply, numbers, waits = asyncio.run(post(answers(failure, failure, said(200, OK))))
    assert reply.body == OK
    assert waits == [0.25, 0.5]
    assert (numbers.asked, numbers.failed, numbers.retried, numbers.truncated) == (1, {}, 1, 1)
    assert (numbers.prompt_tokens, numbers.output_tokens) == (3, 2)
    reply, numbers, waits = asyncio.run(post(answers(failure)))
    assert (reply.body, reply.reason) == (None, reason)
    assert (numbers.failed, numbers.retried, numbers.latency_s) == ({reason: 1}, 1, {})


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (said(400), "http_400"),
        (said(404), "http_404"),
        (said(200, {"dummy": 1}), None),
    ],
)
def test_what_will_not_pass_is_asked_once(failure, reason):
    reply, numbers, waits = asyncio.run(post(answers(failure)))
    assert (reply.reason, waits, numbers.retried) == (reason, [], 0)


def test_no_json_is_no_reply():
    reply, _numbers, waits = asyncio.run(post(lambda _request: httpx.Response(200, text="<html>")))
    assert (reply.reason, waits) == ("bad_json", [])
    reply, _numbers, _waits = asyncio.run(post(lambda _request: httpx.Response(200, json=[1])))
    assert reply.reason == "bad_json"


def test_a_server_that_hangs_is_given_up():
    async def hang(request):
        await asyncio.sleep(5)

    reply, _numbers, _waits = asyncio.run(post(hang, retries=0))
    assert (reply.reason, reply.detail) == ("timeout", "not answered in 0.5 s")


def test_a_refused_key_is_no_failed_request():
    with pytest.raises(MeasuringError) as caught:
        asyncio.run(post(answers(said(401)), key="sk-secret"))
    assert caught.value.do == "check the key in KEY"
    assert "sk-secret" not in str(caught.value)


def test_a_server_that_is_gone_ends_it():
    with pytest.raises(MeasuringError, match="does not answer any more"):
        asyncio.run(post(answers(httpx.ConnectError("refused")), retries=0, times=20))
    reply, _numbers, _waits = asyncio.run(post(answers(said(500)), retries=0, times=30))
    assert reply.reason == "http_500"  # it answers


def test_the_key_is_sent_as_the_dialect_wants_it():
    seen = []

    def handler(request):
        seen.append(request.headers)
        return httpx.Response(200, json=OK)

    asyncio.run(post(handler, dialect="anthropic", key="k"))
    asyncio.run(post(handler, dialect="openai", key="k"))
    assert (seen[0]["x-api-key"], seen[0]["anthropic-version"]) == ("k", "2023-06-01")
    assert seen[1]["authorization"] == "Bearer k"


def test_percentiles_are_of_what_came_back():
    reply, numbers, _waits = asyncio.run(post(answers(said(200, OK)), times=10))
    assert reply.body is not None
    assert numbers.latency_s["p50"] <= numbers.latency_s["p90"] <= numbers.latency_s["p99"]
