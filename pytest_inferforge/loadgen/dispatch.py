"""Who sends what when: an open loop on a nanosecond timer, a closed loop on its own answers.

No request is sent before its due time. In an open loop none is skipped and nothing is re-anchored: a late
request is sent late and its lag is on its record.
"""

from __future__ import annotations

import asyncio
import ctypes
import heapq
import os
import sys
from time import monotonic_ns
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_inferforge.loadgen.wire import Exchange

    MakeExchange = Callable[[int], Exchange]

    class Sender(Protocol):
        """What requests are handed to: `pool.Pool`, or another transport of the same functions."""

        opened: int  # connections made

        def expect(self, exchanges: int) -> None: ...
        def submit(self, exchange: Exchange) -> None: ...
        def send_again(self, exchange: Exchange) -> bool: ...
        def close(self) -> None: ...


_NS = 1_000_000_000
_NEVER = 1 << 62


class Alarm:
    """Calls back once at a time of the monotonic clock, never before it.

    On Linux a timerfd in the event loop, which is exact to some 50 us; elsewhere the loop's own timers,
    which are exact to a millisecond. Source: timerfd_create(2).
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
        self._loop = loop
        self._callback = callback
        self._handle: asyncio.TimerHandle | None = None
        self._fd = _timerfd_create()
        if self._fd is not None:
            loop.add_reader(self._fd, self._ring)

    def set(self, when_ns: int) -> None:
        """Ring at `when_ns`; an earlier setting is forgotten."""
        if self._fd is not None:
            _timerfd_settime(self._fd, max(1, when_ns))
            return
        if self._handle is not None:
            self._handle.cancel()
        self._handle = self._loop.call_later(max(0.0, (when_ns - monotonic_ns()) / _NS), self._callback)

    def close(self) -> None:
        if self._fd is not None:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = None
        if self._handle is not None:
            self._handle.cancel()

    def _ring(self) -> None:
        assert self._fd is not None
        try:
            os.read(self._fd, 8)
        except BlockingIOError:
            return
        self._callback()


class OpenLoop:
    """Sends each request at its due time; its connection and bytes are ready `lead_ns` before.

    `due_ns`: of the k-th scheduled request, ascending, from the origin. `to_come`: requests that are added
    while it runs, when the one before them has ended.
    """

    def __init__(
        self,
        *,
        pool: Sender,
        make: MakeExchange,
        due_ns: Sequence[int],
        origin_ns: int,
        lead_ns: int,
        to_come: int,
        until_ns: int | None,
    ) -> None:
        self._pool = pool
        self._make = make
        self._due_ns = due_ns
        self._origin_ns = origin_ns
        self._lead_ns = lead_ns
        self._until_ns = until_ns
        self._to_come = to_come
        self._prepared: list[tuple[int, int, Exchange]] = []  # a heap: due, serial, what was made
        self._serial = 0
        self._next = 0
        self._alarm = Alarm(asyncio.get_running_loop(), self._tick)
        self._call_soon = asyncio.get_running_loop().call_soon
        self.all_sent = asyncio.Event()

    def start(self) -> None:
        if self._until_ns is not None and self._to_come:  # whatever is still to come then, is not sent
            asyncio.get_running_loop().call_later(_left_s(self._until_ns), self.come, None)
        self._tick()

    def add(self, exchange: Exchange, due_ns: int) -> None:
        """One that was to come, due at that time of the clock."""
        self._to_come -= 1
        self._push(exchange, due_ns - self._origin_ns)
        self._tick()

    def come(self, dropped: int | None = 1) -> None:
        """So many of those to come will not; None: none will."""
        self._to_come = 0 if dropped is None else max(0, self._to_come - dropped)
        self._tick()

    def end(self) -> None:
        """Prepare no more requests; those that are prepared are sent at their due times."""
        self._due_ns = self._due_ns[: self._next]
        self.come(None)

    def _tick(self) -> None:
        if self.all_sent.is_set():
            return
        now = monotonic_ns() - self._origin_ns
        due, n = self._due_ns, len(self._due_ns)
        prepared = self._prepared
        while True:
            if prepared and prepared[0][0] <= now:
                self._pool.submit(heapq.heappop(prepared)[2])
                now = monotonic_ns() - self._origin_ns
            elif self._next < n and due[self._next] <= now:
                self._prepare()  # it is late already: no lead was left
            else:
                break
        if self._next == n and not prepared:
            if not self._to_come:
                self._alarm.close()
                self.all_sent.set()
            return
        upcoming = prepared[0][0] if prepared else _NEVER
        if self._next < n:
            ready = due[self._next] - self._lead_ns
            if ready - self._lead_ns // 4 <= now:  # a little early: waking up again would cost more
                self._prepare()  # one at a time: a send that falls due meanwhile goes first
                self._call_soon(self._tick)
                return
            upcoming = min(upcoming, ready)
        self._alarm.set(self._origin_ns + upcoming)

    def _prepare(self) -> None:
        k = self._next
        self._next += 1
        self._push(self._make(k), self._due_ns[k])

    def _push(self, exchange: Exchange, due_ns: int) -> None:
        exchange.due_ns = self._origin_ns + due_ns
        self._serial += 1
        heapq.heappush(self._prepared, (due_ns, self._serial, exchange))
        self._pool.expect(len(self._prepared))


class ClosedLoop:
    """Holds as many requests in flight as there are users, until `requests` were sent or `until_ns` came.

    `make(k)`: the k-th of this loop. `starts_ns`: when each user begins, at times of the clock.
    """

    def __init__(
        self,
        *,
        pool: Sender,
        make: MakeExchange,
        starts_ns: Sequence[int],
        requests: int | None,
        until_ns: int | None,
    ) -> None:
        self._pool = pool
        self._make = make
        self._starts_ns = starts_ns
        self._requests = requests
        self._until_ns = until_ns
        self._sent = 0
        self.all_sent = asyncio.Event()

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        if self._until_ns is not None:  # also when no slot becomes free: the drain begins on time
            loop.call_later(_left_s(self._until_ns), self.all_sent.set)
        if not self._starts_ns or self._requests == 0:
            self.all_sent.set()
        for when_ns in self._starts_ns:
            if (left_s := _left_s(when_ns)) > 0:
                loop.call_later(left_s, self.ended)
            else:
                self.ended()

    def ended(self) -> None:
        """A user is free: send the next request, if there is one."""
        over = self._until_ns is not None and monotonic_ns() >= self._until_ns
        if not over and (self._requests is None or self._sent < self._requests):
            exchange = self._make(self._sent)
            self._sent += 1
            self._pool.submit(exchange)
            self._pool.expect(1)
        if over or (self._requests is not None and self._sent >= self._requests):
            self.all_sent.set()

    def end(self) -> None:
        """Send no more, whoever is free."""
        self._requests = self._sent
        self.all_sent.set()


def _left_s(when_ns: int) -> float:
    return max(0.0, (when_ns - monotonic_ns()) / _NS)


def _timerfd_create() -> int | None:
    if not sys.platform.startswith("linux"):
        return None
    fd = _libc().timerfd_create(1, os.O_NONBLOCK | os.O_CLOEXEC)  # 1: CLOCK_MONOTONIC
    return int(fd) if fd >= 0 else None


def _timerfd_settime(fd: int, when_ns: int) -> None:
    spec = (ctypes.c_long * 4)(0, 0, when_ns // _NS, when_ns % _NS)  # interval, value: seconds and ns
    _libc().timerfd_settime(fd, 1, ctypes.byref(spec), None)  # 1: TFD_TIMER_ABSTIME


def _libc() -> ctypes.CDLL:
    global _LIBC
    if _LIBC is None:
        _LIBC = ctypes.CDLL(None, use_errno=True)
    return _LIBC


_LIBC: ctypes.CDLL | None = None
