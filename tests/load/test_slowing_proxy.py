"""The slowing proxy against the true times of a timetable server behind it."""

import asyncio
import socket
import time
from statistics import median
from urllib.parse import urlsplit

import httpx
import pytest

from pytest_inferforge.errors import UsageError
from pytest_inferforge.testing.slowing_proxy import SlowingProxy
from pytest_inferforge.testing.timetable import Timetable, TimetableServer

TOKENS = 12
TIMES = {"ttft_s": 0.03, "gap_s": 0.006}
MOST_ADDED_S = 1e-3


async def stream(reader, writer, name):
    """One request on a connection that is kept; when each token came, in the monotonic clock."""
    body = b'{"stream": true, "max_tokens": %d, "prompt": "a"}' % TOKENS
    head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nX-Request-Id: {name}\r\n"
    writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    seen, came = b"", []
    while not seen.endswith(b"\r\n0\r\n\r\n"):
        seen += await reader.read(65536)
        came += [time.monotonic()] * (seen.count(b'"text"') - len(came))
    return came[:TOKENS]  # the event that ends the reply has a text too


async def users(url, count, requests):
    """So many users one beside the other, each on one connection: request id -> when its tokens came."""
    parts = urlsplit(url)

    async def user(k):
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        found = {}
        for i in range(requests):
            name = f"u{k}-{k * requests + i}"
            found[name] = await stream(reader, writer, name)
        writer.close()
        return found

    return {
        name: came
        for one in await asyncio.gather(*(user(k) for k in range(count)))
        for name, came in one.items()
    }


def driven(slowdown, **table):
    """Per token of every request: (seconds after its request came in, when it was written, when it came)."""
    with TimetableServer(Timetable(**TIMES, **table)) as server:
        if slowdown is None:
            came = asyncio.run(users(server.url, 4, 10))
        else:
            with SlowingProxy(server.url, slowdown=slowdown) as proxy:
                came = asyncio.run(users(proxy.url, 4, 10))
        true = server.true_times()
    assert len(came) == 40
    assert set(came) <= set(true)
    rows = []
    for name, times in came.items():
        assert len(times) == TOKENS == len(true[name].tokens_s)
        assert times == sorted(times)
        rows += [
            (t - true[name].received_s, c - true[name].received_s)
            for t, c in zip(true[name].tokens_s, times, strict=True)
        ]
    return rows


def test_without_a_slowdown_it_adds_less_than_a_millisecond():
    direct = median(came - written for written, came in driven(None))
    through = median(came - written for written, came in driven(0.0))
    assert 0.0 <= through < direct + MOST_ADDED_S


@pytest.mark.parametrize("slowdown", [0.1, 0.5])
def test_everything_takes_longer_by_the_factor(slowdown):
    rows = driven(slowdown)
    late = [came - (1.0 + slowdown) * written for written, came in rows]
    assert abs(median(late)) < MOST_ADDED_S
    assert min(late) > -MOST_ADDED_S  # nothing comes early
    first = median(came / written for written, came in rows[::TOKENS])
    last = median(came / written for written, came in rows[TOKENS - 1 :: TOKENS])
    assert first == pytest.approx(1.0 + slowdown, abs=0.05)
    assert last == pytest.approx(1.0 + slowdown, abs=0.03)


def test_the_end_of_a_connection_comes_after_its_bytes():
    with (
        TimetableServer(Timetable(**TIMES, close=True)) as server,
        SlowingProxy(server.url, slowdown=1.0) as proxy,
    ):
        answers = [httpx.get(f"{proxy.url}/v1/models", trust_env=False) for _ in range(3)]
    assert [a.json()["data"][0]["id"] for a in answers] == ["timetable"] * 3


def test_a_server_that_is_not_there_is_a_closed_connection():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and listens to nobody
        with (
            SlowingProxy(f"http://127.0.0.1:{taken.getsockname()[1]}", slowdown=0.1) as proxy,
            pytest.raises(httpx.TransportError),
        ):
            httpx.get(f"{proxy.url}/health", trust_env=False, timeout=10.0)


def test_a_path_of_the_url_is_kept():
    with (
        TimetableServer(Timetable(**TIMES)) as server,
        SlowingProxy(f"{server.url}/v1/", slowdown=0.0) as proxy,
    ):
        assert httpx.get(f"{proxy.url}/models", trust_env=False).json()["data"][0]["id"] == "timetable"


def test_tls_is_refused():
    with pytest.raises(UsageError, match="only plain http"):
        SlowingProxy("https://api.example.com", slowdown=0.1)
