"""Connections, ready before they are needed."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
from time import monotonic_ns
from typing import TYPE_CHECKING, Any

from pytest_inferforge.loadgen import tasks
from pytest_inferforge.loadgen.wire import Connection

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from pytest_inferforge.loadgen.wire import Exchange

    Address = tuple[socket.AddressFamily, Any]  # as getaddrinfo gives them

CONNECT_TIMEOUT_S = 10.0
OUT_OF = {
    errno.EMFILE: "no_descriptors",
    errno.ENFILE: "no_descriptors",
    errno.EADDRNOTAVAIL: "no_ports",
    errno.ENOBUFS: "no_memory",
    errno.ENOMEM: "no_memory",
}
"""What this machine ran out of: no fault of the server's."""
NO_CONNECTION = frozenset({"connect_timeout", "refused", "tls_failed", "connect_failed", *OUT_OF.values()})
_PROBE_S = 2.0


class Pool:
    """Hands each exchange a connection: an idle one that lives, else a new one.

    A connection that dies before any byte of the reply is replaced once, and only when it had been idle
    before (reused, or opened ahead of time): then the server may simply have closed it. Anything else is a
    failure of the request.
    """

    def __init__(
        self, *, address: Address, host: str, tls: ssl.SSLContext | None, survives_stream: bool
    ) -> None:
        self._address = address
        self._host = host  # as the server calls itself
        self._tls = tls
        self._survives_stream = survives_stream
        self._idle: list[Connection] = []
        self._opening = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self.opened = 0

    def expect(self, exchanges: int) -> None:
        """That many exchanges come soon: have idle connections for them."""
        while len(self._idle) + self._opening < exchanges:
            self._opening += 1
            self._start(self._open_ahead())

    def submit(self, exchange: Exchange) -> None:
        """Send now, on an idle connection if there is one."""
        while self._idle:
            connection = self._idle.pop()
            if connection.alive:
                connection.send(exchange)
                return
        self._start(self._open_for(exchange))

    def send_again(self, exchange: Exchange) -> bool:
        """Send again after a connection died without a byte of reply; False: it counts as a failure."""
        if exchange.resent or not exchange.was_idle:
            return False
        exchange.resent = 1
        exchange.fault = exchange.detail = None
        exchange.end_ns = None
        self._start(self._open_for(exchange))
        return True

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        for connection in self._idle:
            connection.close()
        self._idle.clear()

    async def _connect(self) -> Connection:
        return await asyncio.wait_for(self._made(), CONNECT_TIMEOUT_S)

    async def _made(self) -> Connection:
        """TCP and TLS one after the other, so that each has its time."""
        loop = asyncio.get_running_loop()
        family, where = self._address
        started = monotonic_ns()
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await loop.sock_connect(sock, where)
            connected = monotonic_ns()
            _, connection = await loop.create_connection(
                lambda: Connection(self._freed, self._lost),
                sock=sock,
                ssl=self._tls,
                server_hostname=self._host if self._tls is not None else None,
            )
        except BaseException:
            sock.close()
            raise
        connection.connect_ns = connected - started
        connection.tls_ns = None if self._tls is None else monotonic_ns() - connected
        connection.sock = sock
        self.opened += 1
        return connection

    async def _open_ahead(self) -> None:
        try:
            connection = await self._connect()
        except (OSError, TimeoutError):
            return  # the request itself will try again when it is due, and say what is wrong
        finally:
            self._opening -= 1
        connection.opened_ahead = True
        if connection.alive:  # a server may accept and close at once
            self._idle.append(connection)

    async def _open_for(self, exchange: Exchange) -> None:
        try:
            connection = await self._connect()
            if connection.alive:
                connection.send(exchange)
                return
            fault, detail = "unanswered", "the server closed the connection before it could be used"
        except (OSError, TimeoutError) as error:
            fault, detail = connect_fault(error)
        exchange.fault, exchange.detail = fault, detail
        exchange.end_ns = monotonic_ns()
        exchange.on_end(exchange)

    def _freed(self, connection: Connection) -> None:
        if self._survives_stream:
            self._idle.append(connection)
        else:
            connection.close()

    def _lost(self, connection: Connection) -> None:
        if connection in self._idle:
            self._idle.remove(connection)

    def _start(self, coroutine: Coroutine[object, object, None]) -> None:
        task = tasks.start(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def resolve(host: str, port: int) -> Address:
    """The address to connect to, looked up once so that no request waits for DNS.

    Of several the first where somebody listens (`localhost` is often ::1 first, and the server on 127.0.0.1
    only); when none does, the first of IPv4, which every machine has.

    Raises:
        OSError: the name is not known.
    """
    infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    found: list[Address] = list(dict.fromkeys((info[0], info[4]) for info in infos))
    for family, where in found if len(found) > 1 else ():
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.settimeout(_PROBE_S)
            probe.connect(where)
            return family, where
    return next((one for one in found if one[0] == socket.AF_INET), found[0])


def connect_fault(error: BaseException) -> tuple[str, str]:
    """Why there is no connection, and what was seen."""
    if isinstance(error, TimeoutError):
        return "connect_timeout", f"no connection in {CONNECT_TIMEOUT_S:g} s"
    if isinstance(error, ConnectionRefusedError):
        return "refused", str(error)
    if isinstance(error, ssl.SSLError):
        return "tls_failed", str(error)
    if isinstance(error, OSError) and error.errno in OUT_OF:
        return OUT_OF[error.errno], str(error)
    return "connect_failed", str(error)
