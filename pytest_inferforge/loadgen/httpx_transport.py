"""The second transport: httpx, for what our own wire does not do: proxies, HTTP/2, unusual TLS.

Proxies are those of the environment (HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY) where the plan has them;
HTTP/2 is spoken where the server offers it over TLS and the package `h2` is installed. Bytes are stamped when
httpx hands them over, some 0.5 ms after they came. No connection is opened ahead of its request: where one
has to be made, the request is sent after that, and its lag says so.
"""

from __future__ import annotations

import importlib.util
from time import monotonic_ns
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx

from pytest_inferforge import tls
from pytest_inferforge.loadgen import tasks
from pytest_inferforge.loadgen.pool import CONNECT_TIMEOUT_S, connect_fault

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping

    from pytest_inferforge.loadgen.plan import Plan
    from pytest_inferforge.loadgen.wire import Exchange

# How errors of the protocol begin that say no more than that the connection, or the stream on it, is gone.
# Source: httpcore 1.0, _async/http11.py and http2.py; h11 0.16, _readers.py.
_GONE = ("Server disconnected", "peer closed connection", "<ConnectionTerminated", "<StreamReset")


class HttpxSender:
    """Hands each exchange to one httpx client, which keeps and opens the connections.

    An exchange that got no byte of a reply on a connection that had been used before is sent once more, as
    `pool.Pool` does. When a server ends an HTTP/2 connection in good order (GOAWAY), what runs on it is cut:
    httpx gives those streams up, although the server would finish them.
    """

    def __init__(self, plan: Plan) -> None:
        parts = urlsplit(plan.url)
        self._origin = f"{parts.scheme}://{parts.netloc}"
        self.errors: tuple[type[Exception], ...] = (httpx.HTTPError, OSError)
        http2 = parts.scheme == "https" and importlib.util.find_spec("h2") is not None
        if http2:
            from h2.exceptions import H2Error

            self.errors += (H2Error,)  # httpx lets them through while a reply is under way
        self.client = httpx.AsyncClient(
            verify=tls.context(plan.ca_file, verify=plan.verify_tls),
            http2=http2,
            trust_env=plan.proxies,
            timeout=httpx.Timeout(None, connect=CONNECT_TIMEOUT_S),  # the worker sees to all other limits
            limits=httpx.Limits(
                max_connections=None,
                max_keepalive_connections=None if plan.survives_stream else 0,
                keepalive_expiry=None,
            ),
        )
        self.opened = 0
        self._urls: dict[str, httpx.URL] = {}
        self._calls: set[_Call] = set()

    def expect(self, exchanges: int) -> None:
        """Nothing: httpx opens a connection when a request needs one."""

    def submit(self, exchange: Exchange) -> None:
        """Hand it to httpx now."""
        call = _Call(self, exchange)
        self._calls.add(call)
        call.start()

    def send_again(self, exchange: Exchange) -> bool:
        """Send again after a used connection died without a byte of reply; False: it counts as a failure."""
        if exchange.resent or not exchange.was_idle:
            return False
        exchange.resent = 1
        exchange.fault = exchange.detail = None
        exchange.end_ns = None
        self.submit(exchange)
        return True

    def close(self) -> None:
        """Stop all calls; whoever ends the exchanges on them may do so after this."""
        for call in self._calls:
            call.stop()
        self._calls.clear()

    def request(self, exchange: Exchange, trace: Any) -> httpx.Request:
        """The bytes that were made for the wire, taken apart."""
        head, _, body = exchange.data.partition(b"\r\n\r\n")
        first, *lines = head.split(b"\r\n")
        method, target, _ = first.decode("latin-1").split(" ")
        headers = [(name, value) for name, _, value in (line.partition(b": ") for line in lines)]
        if (url := self._urls.get(target)) is None:  # to read one takes longer than all the rest
            url = self._urls[target] = httpx.URL(self._origin + target)
        return httpx.Request(
            method,
            url,
            headers=[*headers, (b"Accept-Encoding", b"identity")],
            content=body,
            extensions={"trace": trace},
        )

    def ended(self, call: _Call) -> None:
        self._calls.discard(call)


class _Call:
    """One exchange on its way through httpx."""

    def __init__(self, sender: HttpxSender, exchange: Exchange) -> None:
        self._sender = sender
        self._exchange = exchange
        self._task: asyncio.Task[None] | None = None
        self._sent = False  # httpx began to write the request itself
        self._connect_began_ns = 0
        self._tls_began_ns = 0

    def start(self) -> None:
        self._exchange.connection = self
        self._task = tasks.start(self._run())

    def stop(self) -> None:
        assert self._task is not None
        self._task.cancel()

    def give_up(self, fault: str, detail: str) -> None:
        """End the exchange as a failure that keeps what has come so far."""
        self._end(fault, detail)
        self.stop()

    async def _run(self) -> None:
        exchange = self._exchange
        request = self._sender.request(exchange, self._trace)
        exchange.send_ns = monotonic_ns()
        try:
            response = await self._sender.client.send(request, stream=True)
            try:
                exchange.status, exchange.headed = response.status_code, True
                kind = response.headers.get("content-type", "")
                exchange.streamed = kind.lower().startswith("text/event-stream")
                async for data in response.aiter_raw():
                    now = monotonic_ns()
                    exchange.stamps.append(now)
                    exchange.pieces.append((now, data))
            finally:
                await response.aclose()
                del response.stream  # httpx ties the two in a circle, and the worker collects none
        except self._sender.errors as error:
            self._end(*self._fault(error))
        else:
            exchange.complete = True
            self._end(None, None)

    def _fault(self, error: Exception) -> tuple[str, str]:
        """Why an exchange failed, in the words of our own wire."""
        exchange = self._exchange
        if not self._sent:
            return connect_fault(_cause(error))
        seen = str(error) or type(error).__name__
        if not isinstance(error, httpx.NetworkError | OSError) and not seen.startswith(_GONE):
            return "bad_http", seen
        if exchange.headed:
            return "cut", f"{seen} after {len(exchange.pieces)} pieces of the reply"
        return "unanswered", f"{seen} before any byte of the reply"

    async def _trace(self, event: str, info: Mapping[str, Any]) -> None:
        """httpx tells what it does. Source: httpcore documentation, Request Extensions, "trace".

        `connect_ns` goes up to the TLS handshake with the server itself, so that a proxy's consent is in it.
        """
        now, exchange = monotonic_ns(), self._exchange
        match event.partition(".")[2]:
            case "connect_tcp.started":
                self._connect_began_ns = now
            case "connect_tcp.complete":
                exchange.connect_ns = now - self._connect_began_ns
            case "start_tls.started":
                exchange.connect_ns = now - self._connect_began_ns
                self._tls_began_ns = now
            case "start_tls.complete":
                exchange.tls_ns = now - self._tls_began_ns
            case "send_request_headers.started" if info["request"].method != b"CONNECT":
                self._sent = True
                exchange.send_ns = now  # what came before made the connection, or waited for its turn on it
                exchange.was_idle = exchange.connect_ns is None
                self._sender.opened += not exchange.was_idle
            case "receive_response_headers.complete" if self._sent:
                exchange.stamps.append(now)

    def _end(self, fault: str | None, detail: str | None) -> None:
        exchange = self._exchange
        if exchange.connection is not self:
            return
        exchange.connection = None
        self._sender.ended(self)
        if not self._sent:
            exchange.send_ns = exchange.connect_ns = exchange.tls_ns = None
        exchange.end_ns = exchange.stamps[-1] if exchange.stamps and fault is None else monotonic_ns()
        exchange.fault = fault
        exchange.detail = detail
        exchange.on_end(exchange)


def _cause(error: BaseException) -> BaseException:
    """The system's own error behind one of httpx; the error itself where there is none."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and (seen.errno is not None or isinstance(seen, TimeoutError)):
            return seen
        behind = seen.exceptions[-1] if isinstance(seen, BaseExceptionGroup) else seen.__cause__
        seen = behind or seen.__context__
    return error
