"""How the worker itself is doing: whether its loop keeps up, and how much memory it holds."""

from __future__ import annotations

import asyncio
import gc
import math
from time import monotonic_ns

_TICK_S = 0.02
_MEMORY_EVERY_NS = 5_000_000_000
_STEPS = 8  # buckets for each doubling: bounds are at most 9 % apart
_PAGE_BYTES = 4096
_MANY_OBJECTS = 50_000  # new ones since the last look: cycles may be among them


class Watch:
    """Notes how late a timer of the loop is, and the resident memory every few seconds.

    The collector is off while load runs; what cycles leave is taken away here, when there is much of it.
    """

    def __init__(self) -> None:
        self._late: dict[int, int] = {}
        self._most_ns = 0
        self._memory: list[tuple[int, int]] = []
        self._due_ns = 0
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._due_ns = monotonic_ns()
        self._tick()

    def stop(self) -> None:
        self._look(monotonic_ns())
        if self._handle is not None:
            self._handle.cancel()

    def lag_ns(self, quantile: float) -> int:
        """So late or less was the loop in that share of the looks; rounded up by at most 9 %."""
        wanted = quantile * sum(self._late.values())
        for bucket in sorted(self._late):
            wanted -= self._late[bucket]
            if wanted <= 0:
                return min(self._most_ns, math.ceil(1000 * 2 ** (bucket / _STEPS)))
        return 0

    @property
    def most_ns(self) -> int:
        """The latest it was."""
        return self._most_ns

    def memory(self, origin_ns: int) -> tuple[tuple[int, int], ...]:
        """(ns from the origin, bytes resident), oldest first."""
        return tuple((when - origin_ns, size) for when, size in self._memory)

    def _tick(self) -> None:
        now = monotonic_ns()
        late = max(0, now - self._due_ns)
        self._most_ns = max(self._most_ns, late)
        bucket = math.ceil(_STEPS * math.log2(late / 1000)) if late > 1000 else 0
        self._late[bucket] = self._late.get(bucket, 0) + 1
        if not self._memory or now - self._memory[-1][0] >= _MEMORY_EVERY_NS:
            self._look(now)
        if gc.get_count()[0] > _MANY_OBJECTS:
            gc.collect(0)
        self._due_ns = now + round(_TICK_S * 1e9)
        self._handle = asyncio.get_running_loop().call_later(_TICK_S, self._tick)

    def _look(self, now: int) -> None:
        if (size := resident_bytes()) is not None:
            self._memory.append((now, size))


def resident_bytes() -> int | None:
    """Memory of this process that is in RAM; None where the system does not tell. Source: proc(5), statm."""
    try:
        with open("/proc/self/statm", "rb") as file:  # noqa: PTH123 (on the timed path)
            return int(file.read().split()[1]) * _PAGE_BYTES
    except OSError:
        return None
