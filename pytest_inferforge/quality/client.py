"""Requests of an evaluation: each is sent until it is answered or out of retries, and is recorded."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections import Counter
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

from pytest_inferforge import tls
from pytest_inferforge.errors import MeasuringError, UsageError
from pytest_inferforge.quality.evaluation import Requests

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from pytest_inferforge.dialects import Dialect
    from pytest_inferforge.quality.evaluation import Target

_FIRST_WAIT_S = 0.25  # before the first retry; twice as long before each next one
_LONGEST_WAIT_S = 8.0
_CONNECT_S = 10.0
_SILENT = 20  # requests in a row that nobody answered: the server is gone
_UNREACHED = frozenset({"refused", "connect_timeout", "timeout"})
_ONCE_MORE = frozenset({*_UNREACHED, "cut", "http_429"})
_SHOWN = 200  # characters of a reply that are shown to a person


ITEM: ContextVar[str] = ContextVar("item", default="")
"""What is asked about: the task and the place of its document, as `gsm8k/12`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came of one request, after all retries. `body`: None where it failed for `reason`."""

    body: Mapping[str, Any] | None
    reason: str | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request that was sent: `attempts` counts the first one; the latency is that of the last.

    `item`: the first one that it was sent for; several may share its answer.
    """

    item: str = ""
    latency_s: float
    attempts: int
    truncated: bool = False
    reason: str | None = None
    detail: str = ""
    prompt_tokens: int | None = None
    output_tokens: int | None = None


class Client:
    """Speaks to one server. To be used within one event loop, and closed there."""

    def __init__(
        self,
        target: Target,
        dialect: Dialect,
        *,
        key: str | None,
        timeout_s: float,
        retries: int,
        concurrency: int,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.target = target
        self.dialect = dialect
        self.asked: list[Asked] = []
        self._timeout_s = timeout_s
        self._retries = retries
        self._sleep = sleep
        self._silent = 0
        headers = dict(dialect.headers)
        if key:
            header, before = dialect.key_header
            headers[header] = f"{before}{key}"
        try:
            self._http = httpx.AsyncClient(
                base_url=target.url.rstrip("/"),
                headers=headers,
                verify=tls.context(target.ca_file, verify=target.verify_tls),
                trust_env=target.proxies,
                follow_redirects=True,
                timeout=httpx.Timeout(timeout_s, connect=min(timeout_s, _CONNECT_S), pool=None),
                limits=httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency),
                transport=transport,
            )
        except (ImportError, ValueError) as error:  # httpx: a SOCKS proxy without its package; no such scheme
            raise UsageError(
                "the proxy that the environment names cannot be used",
                seen=str(error),
                do="correct HTTPS_PROXY, HTTP_PROXY or ALL_PROXY",
            ) from error

    async def close(self) -> None:
        await self._http.aclose()

    async def post(
        self, path: str, body: Mapping[str, Any], *, counted: bool = True, writes: bool = False
    ) -> Reply:
        """Send one request; `counted`: the evaluation reports it, `writes`: a reply may be cut short.

        Raises:
            MeasuringError: the server refuses the key, or answers nothing any more.
        """
        for attempt in range(self._retries + 1):
            if attempt:
                await self._sleep(min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2 ** (attempt - 1)))
            began = time.monotonic()
            reply = await self._once(path, body)
            latency_s = time.monotonic() - began
            self._look_for_silence(reply)
            if not _worth_another(reply.reason):
                break
        if counted:
            self.asked.append(_asked(reply, latency_s, attempt + 1, writes=writes))
        return reply

    async def _once(self, path: str, body: Mapping[str, Any]) -> Reply:
        try:
            async with asyncio.timeout(self._timeout_s):
                got = await self._http.post(path, json=body)
        except (httpx.ConnectTimeout, httpx.ConnectError) as error:
            reason = "connect_timeout" if isinstance(error, httpx.ConnectTimeout) else "refused"
            return Reply(body=None, reason=reason, detail=str(error))
        except (TimeoutError, httpx.TimeoutException):
            return Reply(body=None, reason="timeout", detail=f"not answered in {self._timeout_s:g} s")
        except httpx.TransportError as error:
            return Reply(body=None, reason="cut", detail=str(error) or type(error).__name__)
        except httpx.HTTPError as error:  # too many redirects, an encoding that is none
            return Reply(body=None, reason="bad_reply", detail=str(error))
        if got.status_code in (401, 403):
            env = self.target.api_key_env
            raise MeasuringError(
                "the server refuses to answer without another key",
                seen=f"POST {path} -> {got.status_code} {got.text[:_SHOWN]}",
                do=f"check the key in {env}" if env else "name the environment variable that holds its key",
            )
        if got.is_error:
            return Reply(body=None, reason=f"http_{got.status_code}", detail=got.text[:_SHOWN])
        try:
            content = got.json()
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            return Reply(body=None, reason="bad_json", detail=f"{error}: {got.text[:_SHOWN]}")
        if not isinstance(content, dict):
            return Reply(body=None, reason="bad_json", detail=f"no object: {got.text[:_SHOWN]}")
        return Reply(body=content)

    def _look_for_silence(self, reply: Reply) -> None:
        self._silent = self._silent + 1 if reply.reason in _UNREACHED else 0
        if self._silent >= _SILENT:
            raise MeasuringError(
                "the server does not answer any more",
                seen=f"{self._silent} requests in a row: {reply.reason}: {reply.detail}",
                do="see the server's log; one that is only slow needs a longer timeout or less concurrency",
            )


def summary(asked: Iterable[Asked]) -> Requests:
    """All requests in numbers."""
    requests = tuple(asked)
    failed = Counter(one.reason for one in requests if one.reason is not None)
    latencies = sorted(one.latency_s for one in requests if one.reason is None)
    return Requests(
        asked=len(requests),
        failed=dict(sorted(failed.items())),
        retried=sum(one.attempts > 1 for one in requests),
        truncated=sum(one.truncated for one in requests),
        prompt_tokens=_total(one.prompt_tokens for one in requests if one.reason is None),
        output_tokens=_total(one.output_tokens for one in requests if one.reason is None),
        latency_s={
            f"p{share}": latencies[math.ceil(share / 100 * len(latencies)) - 1] for share in (50, 90, 99)
        }
        if latencies
        else {},
    )


# Source: OpenAI API reference, finish_reason; Anthropic API reference, stop_reason.
CUT_SHORT = frozenset({"length", "max_tokens"})


def finish_reason(body: Mapping[str, Any]) -> str | None:
    """Why the reply ended, of either protocol; None: it does not say."""
    choices = body.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], dict):
        said = choices[0].get("finish_reason")
    else:
        said = body.get("stop_reason")
    return said if isinstance(said, str) else None


def _asked(reply: Reply, latency_s: float, attempts: int, *, writes: bool) -> Asked:
    if reply.body is None:
        return Asked(
            item=ITEM.get(),
            latency_s=latency_s,
            attempts=attempts,
            reason=reply.reason,
            detail=reply.detail,
        )
    usage = reply.body.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    return Asked(
        item=ITEM.get(),
        latency_s=latency_s,
        attempts=attempts,
        truncated=writes and finish_reason(reply.body) in CUT_SHORT,
        prompt_tokens=_count(usage, "prompt_tokens", "input_tokens"),
        output_tokens=_count(usage, "completion_tokens", "output_tokens"),
    )


def _count(usage: Mapping[str, Any], *names: str) -> int | None:
    return next((usage[name] for name in names if isinstance(usage.get(name), int)), None)


def _total(counts: Iterable[int | None]) -> int | None:
    """None where one of them is unknown, or there are none."""
    known = list(counts)
    return None if not known or None in known else sum(count for count in known if count is not None)


def _worth_another(reason: str | None) -> bool:
    return reason is not None and (reason in _ONCE_MORE or reason.startswith("http_5"))
