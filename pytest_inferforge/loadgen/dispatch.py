"""Who sends what when: an open loop on a nanosecond timer, a closed loop on its own answers.

No request is sent before its due time. In an open loop none is skipped and nothing is re-anchored: a late
request is sent late and its lag is on its record.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
from time import monotonic_ns
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_inferforge.loadgen.pool import Pool
    from pytest_inferforge.loadgen.wire import Exchange

    MakeExchange = Callable[[int], Exchange]

_NS = 1_000_000_000


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
    """Sends request i at `origin_ns + due_ns[i]`; its connection and bytes are ready `lead_ns` before."""

    def __init__(
        self, *, pool: Pool, make: MakeExchange, due_ns: list[int], origin_ns: int, lead_ns: int
    ) -> None:
        self._pool = pool
        self._make = make
        self._due_ns = due_ns
        self._origin_ns = origin_ns
        self._lead_ns = lead_ns
        self._prepared: list[Exchange] = []  # made, not sent; in order of due time
        self._next_prepare = 0
        self._next_send = 0
        self._alarm = Alarm(asyncio.get_running_loop(), self._tick)
        self.all_sent = asyncio.Event()

    def start(self) -> None:
        self._tick()

    def _tick(self) -> None:
        now = monotonic_ns() - self._origin_ns
        due = self._due_ns
        n = len(due)
        while self._next_send < n and due[self._next_send] <= now:
            if not self._prepared:
                self._prepare()
            exchange = self._prepared.pop(0)
            self._next_send += 1
            self._pool.submit(exchange)
            now = monotonic_ns() - self._origin_ns
        if self._next_send == n:
            self._alarm.close()
            self.all_sent.set()
            return
        upcoming = due[self._next_send]
        if self._next_prepare < n and due[self._next_prepare] - self._lead_ns <= now:
            self._prepare()  # one at a time: a send that falls due meanwhile goes first
            self._alarm.set(1)
            return
        if self._next_prepare < n:
            upcoming = min(upcoming, due[self._next_prepare] - self._lead_ns)
        self._alarm.set(self._origin_ns + upcoming)

    def _prepare(self) -> None:
        i = self._next_prepare
        self._next_prepare += 1
        exchange = self._make(i)
        exchange.due_ns = self._origin_ns + self._due_ns[i]
        self._prepared.append(exchange)
        self._pool.expect(len(self._prepared))


class ClosedLoop:
    """Holds `concurrency` requests in flight until `requests` were sent or `until_ns` has come."""

    def __init__(
        self, *, pool: Pool, make: MakeExchange, concurrency: int, requests: int | None, until_ns: int | None
    ) -> None:
        self._pool = pool
        self._make = make
        self._concurrency = concurrency
        self._requests = requests
        self._until_ns = until_ns
        self._sent = 0
        self.all_sent = asyncio.Event()

    def start(self) -> None:
        if self._until_ns is not None:  # also when no slot becomes free: the drain begins on time
            left_s = max(0.0, (self._until_ns - monotonic_ns()) / _NS)
            asyncio.get_running_loop().call_later(left_s, self.all_sent.set)
        for _ in range(self._concurrency):
            self.ended()

    def ended(self) -> None:
        """A slot is free: send the next request, if there is one."""
        over = self._until_ns is not None and monotonic_ns() >= self._until_ns
        if not over and self._sent != self._requests:
            exchange = self._make(self._sent)
            self._sent += 1
            self._pool.submit(exchange)
            self._pool.expect(1)
        if over or self._sent == self._requests:
            self.all_sent.set()


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
