"""The timed path: one HTTP/1.1 connection that stamps bytes when they arrive and does nothing else then.

A segment is stamped with the monotonic clock on entry and kept as it is. HTTP framing is read when
a segment can be the last one, or when many wait; events and JSON are read after the request's end
(`loadgen.sse`).
The request is written straight to the socket, so that `send_ns` is the moment before the system call.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from dataclasses import dataclass, field
from time import monotonic_ns
from typing import TYPE_CHECKING, Protocol, cast

import httptools

if TYPE_CHECKING:
    from collections.abc import Callable

_BLANK_LINE = b"\r\n\r\n"
_MIN_RTT_AT = 148  # bytes into struct tcp_info
_MANY_SEGMENTS = (
    256  # unread ones of a long reply: reading thousands at its end would keep other stamps waiting
)


class Carrier(Protocol):
    """What an exchange is on while it runs: a `Connection`, or a call of another transport."""

    def give_up(self, fault: str, detail: str) -> None:
        """End the running exchange as a failure that keeps what has come so far."""


@dataclass(slots=True, eq=False, kw_only=True)
class Exchange:
    """One request and what came back, while it is on the wire. Times in ns of the monotonic clock.

    `pieces`: the body so far as (arrival, bytes), transfer coding removed. `fault`: why the transport
    failed: cut, unanswered (no byte of a reply), bad_http, or what `give_up` was told; None: whole.
    """

    index: int
    place: int  # in the worker's items
    cls: int
    data: bytes  # the request, head and body
    prompt_tokens: int
    output_tokens: int
    measured: bool
    on_end: Callable[[Exchange], None]
    session: int = 0
    turn: int = 0
    asked: object = None  # what was said so far in a conversation that may go on
    loop: object = None  # the closed loop whose user this is
    due_ns: int | None = None
    send_ns: int | None = None
    connect_ns: int | None = None
    tls_ns: int | None = None
    rtt_ns: int | None = None  # the least that the system saw on its connection, when it was its first
    end_ns: int | None = None
    stamps: list[int] = field(default_factory=list)
    parts: list[bytes] = field(default_factory=list)
    fed: int = 0
    status: int | None = None
    headed: bool = False  # the head of the reply came whole
    streamed: bool = False
    keep: bool = False  # what the server promised of the connection
    framing: str = "close"  # chunked, length, or until the connection closes
    pieces: list[tuple[int, bytes]] = field(default_factory=list)
    complete: bool = False
    fault: str | None = None
    detail: str | None = None
    resent: int = 0
    was_idle: bool = False  # its connection had been open for a while before the send
    connection: Carrier | None = None

    # httptools calls these while it reads what had been kept

    def on_header(self, name: bytes, value: bytes) -> None:
        lower = name.lower()
        if lower == b"content-type":
            self.streamed = value.lower().startswith(b"text/event-stream")
        elif lower == b"transfer-encoding" and b"chunked" in value.lower():
            self.framing = "chunked"
        elif lower == b"content-length" and self.framing == "close":
            self.framing = "length"

    def on_headers_complete(self) -> None:
        self.headed = True

    def on_body(self, data: bytes) -> None:
        self.pieces.append((self.stamps[self.fed], data))

    def on_message_complete(self) -> None:
        assert isinstance(self.connection, Connection)
        self.complete, self.keep = self.connection.ending()
        if not self.complete:  # an interim reply (1xx): the real one follows
            self.headed, self.framing, self.streamed = False, "close", False


class Connection(asyncio.Protocol):
    """A kept connection; at most one exchange at a time.

    `on_free`: the exchange ended and the connection can take another; `on_lost`: it is gone.
    """

    def __init__(self, on_free: Callable[[Connection], None], on_lost: Callable[[Connection], None]) -> None:
        self.on_free = on_free
        self.on_lost = on_lost
        self.transport: asyncio.Transport | None = None
        self.exchange: Exchange | None = None
        self.alive = False
        self.uses = 0
        self.connect_ns = 0
        self.tls_ns: int | None = None
        self.sock: socket.socket | None = None
        self.opened_ahead = False
        self._fd: int | None = None  # for writing at once; None under TLS
        self._parser: httptools.HttpResponseParser | None = None

    def send(self, exchange: Exchange) -> None:
        """Put the request on the wire now."""
        assert self.transport is not None
        assert self.exchange is None
        self.exchange = exchange
        exchange.connection = self
        if not self.uses:
            exchange.connect_ns, exchange.tls_ns = self.connect_ns, self.tls_ns
        exchange.was_idle = self.uses > 0 or self.opened_ahead
        self.uses += 1
        self._parser = httptools.HttpResponseParser(exchange)
        data = exchange.data
        sent = 0
        exchange.send_ns = monotonic_ns()
        if self._fd is not None and not self.transport.get_write_buffer_size():
            try:
                sent = os.write(self._fd, data)
            except BlockingIOError:
                pass
            except OSError:  # it is dead: connection_lost says so next
                self.transport.abort()
                return
        if sent < len(data):
            self.transport.write(data[sent:])

    def give_up(self, fault: str, detail: str) -> None:
        """End the running exchange as a failure that keeps what has come so far, and drop the connection."""
        exchange = self.exchange
        if exchange is None:
            return
        self._feed(exchange)
        if self.exchange is exchange:
            self._drop(fault, detail)

    def ending(self) -> tuple[bool, bool]:
        """At the end of a message: whether it is the final one, and whether the connection stays."""
        parser = self._parser
        assert parser is not None
        return parser.get_status_code() >= 200, parser.should_keep_alive()

    def close(self) -> None:
        """Drop the connection; `on_lost` follows."""
        self.alive = False
        if self.transport is not None:
            self.transport.abort()

    # the loop calls these

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.alive = True
        if transport.get_extra_info("ssl_object") is None:
            self._fd = transport.get_extra_info("socket").fileno()

    def data_received(self, data: bytes) -> None:
        now = monotonic_ns()
        exchange = self.exchange
        if exchange is None:  # bytes that nobody asked for
            self.close()
            return
        exchange.stamps.append(now)
        exchange.parts.append(data)
        if (
            exchange.framing == "chunked"
            and not data.endswith(_BLANK_LINE)
            and len(data) >= len(_BLANK_LINE)
            and len(exchange.stamps) % _MANY_SEGMENTS
        ):
            return  # a chunked message ends with a blank line: this segment is not its last
        self._feed(exchange)

    def connection_lost(self, exc: Exception | None) -> None:
        self.alive = False
        if (exchange := self.exchange) is not None:
            self._feed(exchange)
            if self.exchange is exchange:
                self._lost(exchange, exc)
        self.transport = None
        self.sock = None
        self._fd = None
        self.on_lost(self)

    def _feed(self, exchange: Exchange) -> None:
        """Let the HTTP parser read what was kept; end the exchange when the message is whole."""
        parser = self._parser
        assert parser is not None
        parts = exchange.parts
        try:
            while exchange.fed < len(parts):
                parser.feed_data(parts[exchange.fed])
                parts[exchange.fed] = b""
                exchange.fed += 1
        except httptools.HttpParserError as error:
            self._drop("bad_http", f"{type(error).__name__}: {error}")
            return
        if parts:
            exchange.status = parser.get_status_code() or None
        if exchange.complete:
            keep = exchange.keep and self.alive
            self._end(None, None)
            if keep:
                self.on_free(self)
            else:
                self.close()

    def _lost(self, exchange: Exchange, exc: Exception | None) -> None:
        seen = str(exc) if exc else "the server closed the connection"
        if not exchange.stamps:
            self._end("unanswered", f"{seen} before any byte of the reply")
        elif exchange.headed and exchange.framing == "close":
            self._end(None, None)  # the reply ends with the connection; its content says whether it is whole
        else:
            self._end("cut", f"{seen} after {len(exchange.stamps)} segments of the reply")

    def _drop(self, fault: str, detail: str) -> None:
        self.close()
        self._end(fault, detail)

    def _end(self, fault: str | None, detail: str | None) -> None:
        exchange, self.exchange = self.exchange, None
        self._parser = None
        if exchange is None:
            return
        exchange.connection = None
        if self.uses == 1:  # a system call: once for each connection
            exchange.rtt_ns = _rtt_ns(self.sock)
        exchange.end_ns = exchange.stamps[-1] if exchange.stamps and fault is None else monotonic_ns()
        exchange.fault = fault
        exchange.detail = detail
        exchange.parts.clear()
        exchange.on_end(exchange)


def _rtt_ns(sock: socket.socket | None) -> int | None:
    """The least round trip that the system saw on a TCP connection; None where it does not tell.

    Source: tcp(7), linux/tcp.h: tcpi_min_rtt, microseconds, ~0 before the first.
    """
    if sock is None or not hasattr(socket, "TCP_INFO"):
        return None
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _MIN_RTT_AT + 4)
    except OSError:
        return None
    if len(info) < _MIN_RTT_AT + 4:
        return None
    (microseconds,) = struct.unpack_from("I", info, _MIN_RTT_AT)
    return int(microseconds) * 1000 if 0 < microseconds < 0xFFFFFFFF else None
