"""A proxy that makes whatever stands behind it slower by a known factor.

It passes bytes and knows no HTTP. Those of the client go on at once; those of the server are held until
(1 + slowdown) times as long has passed since the client's last byte went on as they took. So everything that
a reply takes is longer by the slowdown, first token, gaps and end alike, and nothing is when it is 0.

    with SlowingProxy("http://127.0.0.1:8000", slowdown=0.1) as proxy:
        ...                     # drive load at proxy.url

The process itself is `python -m pytest_inferforge.testing.slowing_proxy HOST PORT SLOWDOWN ADDRESS`.
"""

from __future__ import annotations

import asyncio
import gc
import heapq
import socket
import sys
from pathlib import Path
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

import uvloop

from pytest_inferforge.errors import UsageError
from pytest_inferforge.loadgen.dispatch import Alarm
from pytest_inferforge.loadgen.priority import hurry
from pytest_inferforge.testing.addressed import Addressed

if TYPE_CHECKING:
    from collections.abc import Callable

_MODULE = "pytest_inferforge.testing.slowing_proxy"
_HOST = "127.0.0.1"


class SlowingProxy:
    """The proxy in a process of its own; a context manager. `slowdown`: 0.1: everything takes 10 % longer.

    Raises:
        UsageError: a URL whose bytes cannot be passed on: TLS would be between us and the proxy.
    """

    def __init__(self, upstream: str, *, slowdown: float) -> None:
        parts = urlsplit(upstream)
        if parts.scheme != "http" or not parts.hostname:
            raise UsageError(
                "only plain http can be slowed down",
                seen=f"{parts.scheme}://{parts.hostname}",
                do="name the server behind the TLS, or one that is reached without",
            )
        self.slowdown = slowdown
        self.url = ""
        self._to = (parts.hostname, parts.port or 80)
        self._path = parts.path.rstrip("/")
        self._process: Addressed | None = None

    def __enter__(self) -> Self:
        host, port = self._to
        argv = [sys.executable, "-m", _MODULE, host, str(port), repr(self.slowdown)]
        self._process = Addressed("slowing proxy", lambda folder: [*argv, str(folder / "address")])
        self.url = self._process.address + self._path
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the process; idempotent."""
        if self._process is not None:
            self._process.close()
            self._process = None


class Held:
    """What is done later: an exact alarm, and what is due in its order."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._alarm = Alarm(loop, self._ring)
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._serial = 0

    def until(self, due_ns: int, do: Callable[[], None]) -> None:
        self._serial += 1
        heapq.heappush(self._heap, (due_ns, self._serial, do))
        if self._heap[0][1] == self._serial:
            self._alarm.set(due_ns)

    def _ring(self) -> None:
        while self._heap and self._heap[0][0] <= monotonic_ns():
            heapq.heappop(self._heap)[2]()
        if self._heap:
            self._alarm.set(self._heap[0][0])


class Client(asyncio.Protocol):
    """A connection of a client, and the one to the server that carries its bytes."""

    def __init__(self, to: tuple[str, int], slowdown: float, held: Held) -> None:
        self.to = to
        self.slowdown = slowdown
        self.held = held
        self.transport: Any = None
        self.server: Any = None  # its transport, once connected
        self.early: list[bytes] = []  # what came before that
        self.asked_ns = 0  # when the client's last byte went on
        self.last_due_ns = 0
        self.connecting: asyncio.Task[None] | None = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.connecting = asyncio.get_running_loop().create_task(self.connect())

    async def connect(self) -> None:
        try:
            made, _ = await asyncio.get_running_loop().create_connection(lambda: Server(self), *self.to)
        except OSError:
            if self.transport is not None:
                self.transport.abort()
            return
        if self.transport is None:
            made.close()
            return
        self.server = made
        early, self.early = self.early, []
        for data in early:
            self.data_received(data)

    def data_received(self, data: bytes) -> None:
        if self.server is None:
            self.early.append(data)
            return
        self.asked_ns = monotonic_ns()
        self.server.write(data)

    def replied(self, data: bytes) -> None:
        """Bytes of the server, or its end (none): now, or in their time; always in their order."""
        now_ns = monotonic_ns()
        due_ns = max(self.last_due_ns, now_ns + round(self.slowdown * (now_ns - self.asked_ns)))
        if due_ns <= now_ns:
            self.pass_on(data)
            return
        self.last_due_ns = due_ns
        self.held.until(due_ns, lambda: self.pass_on(data))

    def pass_on(self, data: bytes) -> None:
        if self.transport is None:
            return
        if data:
            self.transport.write(data)
        else:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 (asyncio calls it)
        self.transport = None
        if self.server is not None:
            self.server.close()

    def pause_writing(self) -> None:
        if self.server is not None:
            self.server.pause_reading()

    def resume_writing(self) -> None:
        if self.server is not None and not self.server.is_closing():
            self.server.resume_reading()


class Server(asyncio.Protocol):
    """The connection to the server."""

    def __init__(self, client: Client) -> None:
        self.client = client

    def data_received(self, data: bytes) -> None:
        self.client.replied(data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 (asyncio calls it)
        self.client.replied(b"")

    def pause_writing(self) -> None:
        if self.client.transport is not None:
            self.client.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.client.transport is not None:
            self.client.transport.resume_reading()


async def _serve(to: tuple[str, int], slowdown: float, address: Path) -> None:
    loop = asyncio.get_running_loop()
    held = Held(loop)
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.bind((_HOST, 0))
    listener = await loop.create_server(lambda: Client(to, slowdown, held), sock=sock, backlog=4096)
    partial = address.with_suffix(".partial")
    partial.write_text(f"http://{_HOST}:{sock.getsockname()[1]}")
    partial.rename(address)
    gc.collect()
    gc.freeze()
    gc.disable()
    hurry()  # what it adds by itself must be nothing
    await listener.serve_forever()


def main(host: str, port: str, slowdown: str, address: str) -> None:
    uvloop.run(_serve((host, int(port)), float(slowdown), Path(address)))


if __name__ == "__main__":
    main(*sys.argv[1:])
