"""This machine and the processes of a server on it: CPU time and memory."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

Pids = frozenset[int]
_Key = tuple[int, float]  # pid, time of creation: numbers are used again


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSample:
    """This machine at one moment. CPU times count up, in seconds of one core.

    `pids`: the server's processes; empty: they are not known. `server_cpu_s` and `ours_cpu_s` (theirs and
    those of this test run) count from the first sample on. `busy_s` of `total_s` is the time in which the
    cores worked, with whatever; `steal_s` what the hypervisor took (None: the system does not tell).
    """

    time_s: float
    pids: Pids
    server_cpu_s: float
    ours_cpu_s: float
    server_memory_bytes: int | None
    busy_s: float
    total_s: float
    steal_s: float | None
    free_memory_bytes: int


def family() -> Iterable[int]:
    """This process and all below it."""
    own = psutil.Process()
    with contextlib.suppress(psutil.Error):
        return (own.pid, *(child.pid for child in own.children(recursive=True)))
    return (own.pid,)


class Host:
    """Takes samples of this machine. Processes may come and go: what each had used when last seen counts."""

    def __init__(
        self, *, pids: Callable[[], Iterable[int]], ours: Callable[[], Iterable[int]] = family
    ) -> None:
        self._pids = pids
        self._ours = ours
        self._cores = os.cpu_count() or 1
        self._base_s: dict[_Key, float] = {}
        self._last_s: dict[_Key, float] = {}
        self._server: set[_Key] = set()
        self._looked_s: float | None = None

    def sample(self, time_s: float) -> HostSample:
        """Look at the machine and at every process once."""
        server = frozenset(self._pids())
        memory_bytes = 0
        for pid in server | frozenset(self._ours()):
            with contextlib.suppress(psutil.Error):
                memory_bytes += self._look(pid, time_s, server=pid in server)
        self._looked_s = time_s
        times = psutil.cpu_times()._asdict()
        # the guests' time is in `user` and `nice` already
        total_s = sum(times.values()) - times.get("guest", 0.0) - times.get("guest_nice", 0.0)
        steal_s = times.get("steal")
        return HostSample(
            time_s=time_s,
            pids=server,
            server_cpu_s=self._used_s(self._server),
            ours_cpu_s=self._used_s(self._last_s),
            server_memory_bytes=memory_bytes or None,
            busy_s=total_s - times["idle"] - times.get("iowait", 0.0) - (steal_s or 0.0),
            total_s=total_s,
            steal_s=steal_s,
            free_memory_bytes=psutil.virtual_memory().available,
        )

    def _look(self, pid: int, time_s: float, *, server: bool) -> int:
        """Take down a process's CPU time; returns the memory that it counts for."""
        process = psutil.Process(pid)
        with process.oneshot():
            key = (pid, process.create_time())
            times = process.cpu_times()
            memory_bytes = process.memory_info().rss if server else 0
        used_s = times.user + times.system
        if key not in self._base_s:
            # One that came since the last look counts from its beginning. It cannot have used more since then
            # than all cores could give: if it has, it is older, and was only not known.
            born_s = 0.0 if self._looked_s is None else (time_s - self._looked_s) * self._cores
            self._base_s[key] = max(0.0, used_s - born_s)
        self._last_s[key] = used_s
        if server:
            self._server.add(key)
        return memory_bytes

    def _used_s(self, keys: Iterable[_Key]) -> float:
        return sum(self._last_s[key] - self._base_s[key] for key in keys)


def metrics(samples: Sequence[HostSample]) -> dict[str, float]:
    """Metrics by id, over the time from the first sample to the last one; nothing of fewer than two.

    Of a server whose processes are not known nothing is said, nor what is foreign: it might be the server.
    """
    if len(samples) < 2 or samples[-1].time_s <= samples[0].time_s:
        return {}
    first, last = samples[0], samples[-1]
    seconds = last.time_s - first.time_s
    found: dict[str, float] = {}
    total_s = last.total_s - first.total_s
    busy_s = last.busy_s - first.busy_s
    if total_s > 0.0:
        found["host_cpu_use_ratio"] = min(1.0, max(0.0, busy_s / total_s))
        if last.steal_s is not None and first.steal_s is not None:
            found["host_steal_ratio"] = min(1.0, max(0.0, (last.steal_s - first.steal_s) / total_s))
    if any(s.pids for s in samples):
        ours_s = last.ours_cpu_s - first.ours_cpu_s
        found["server_cpu_cores"] = (last.server_cpu_s - first.server_cpu_s) / seconds
        found["foreign_cpu_cores"] = max(0.0, busy_s - ours_s) / seconds
    return found


def peaks(samples: Sequence[HostSample]) -> dict[str, float]:
    """Metrics by id: the most memory that the server had, the least that this machine had left."""
    found: dict[str, float] = {}
    if held := [s.server_memory_bytes for s in samples if s.server_memory_bytes is not None]:
        found["server_memory_bytes"] = float(max(held))
    if samples:
        found["host_free_memory_bytes"] = float(min(s.free_memory_bytes for s in samples))
    return found
