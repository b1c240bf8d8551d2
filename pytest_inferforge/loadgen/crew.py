"""How many workers there are and where they run: on this machine, or as Ray actors."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_inferforge.errors import UsageError
from pytest_inferforge.loadgen import fleet
from pytest_inferforge.loadgen.planning import make_plan
from pytest_inferforge.workload.arrivals import Closed

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_inferforge.loadgen.fleet import Drive, Enough, OnProgress
    from pytest_inferforge.loadgen.planning import Target
    from pytest_inferforge.workload.schedule import Schedule
    from pytest_inferforge.workload.spec import Workload

_TEXT = re.compile(r"(?:(auto)|(\d+)|ray:(\d+)(?:@(\S+))?)")
FEW_CHUNKS_PER_S = {"wire": 10_000.0, "httpx": 2_000.0}
"""One worker takes so many on any machine of today, by transport: with a fifth of a core at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Crew:
    """`count` None: as many as the load needs. `ray`: as Ray actors; `address`: of the cluster, None: as
    Ray finds it."""

    count: int | None
    ray: bool = False
    address: str | None = None

    def __str__(self) -> str:
        if self.ray:
            return f"ray:{self.count}" + (f"@{self.address}" if self.address else "")
        return "auto" if self.count is None else str(self.count)


def parse(text: str) -> Crew:
    """`"auto"`, `"4"`, `"ray:16"` or `"ray:16@10.0.0.7:6379"`.

    Raises:
        UsageError: none of these, or no worker.

    >>> parse("ray:2@127.0.0.1:6379")
    Crew(count=2, ray=True, address='127.0.0.1:6379')
    """
    do = 'write "auto", a number, "ray:16" or "ray:16@HOST:PORT"'
    match = _TEXT.fullmatch(text.strip())
    if match is None:
        raise UsageError("workers are not readable", seen=repr(text), do=do)
    if match[1]:
        return Crew(count=None)
    crew = Crew(count=int(match[2] or match[3]), ray=match[3] is not None, address=match[4])
    if not crew.count:
        raise UsageError("a load needs a worker", seen=repr(text), do=do)
    return crew


def needed(chunks_per_s: float, capacity_per_s: float, wanted_share: float) -> int:
    """Workers for so many chunks a second, of `capacity_per_s` each, at that share of a core; one core is
    left for what is measured."""
    cores = len(cores_of_ours())
    return max(1, min(math.ceil(chunks_per_s / (wanted_share * capacity_per_s)), cores - 1))


def cores_of_ours() -> list[int]:
    """The processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def drive(
    crew: Crew,
    workers: int,
    schedule: Schedule,
    target: Target,
    *,
    api_key: str | None,
    folder: Path,
    name: str,
    id_prefix: str,
    salt: str,
    connect_lead_s: float,
    on_progress: OnProgress | None = None,
    enough: Enough | None = None,
) -> Drive:
    """Drive a schedule with `workers` workers of the crew; their files go to `folder` under `name`.

    `enough` is not asked of Ray actors, whose rows are elsewhere until the end.

    Raises:
        MeasuringError: nothing was measured.
    """
    workers = most(schedule.workload, workers)
    cores = cores_of_ours()
    pinned = 1 < workers < len(cores) and not crew.ray  # one core is left for what is measured
    plans = [
        make_plan(
            schedule,
            target,
            id_prefix=id_prefix,
            salt=salt,
            connect_lead_s=connect_lead_s,
            worker=k,
            workers=workers,
            core=cores[-1 - k] if pinned else None,
        )
        for k in range(workers)
    ]
    classes = schedule.workload.class_names
    if crew.ray:
        from pytest_inferforge.loadgen import ray_fleet

        return ray_fleet.drive(
            plans, address=crew.address, api_key=api_key, folder=folder, name=name, classes=classes,
            on_progress=on_progress,
        )  # fmt: skip
    return fleet.drive(
        plans, api_key=api_key, folder=folder, name=name, classes=classes, on_progress=on_progress,
        enough=enough,
    )  # fmt: skip


def most(workload: Workload, workers: int) -> int:
    """At most one worker for each user of a closed loop."""
    users = [lane.arrivals.concurrency for lane in workload.lanes if isinstance(lane.arrivals, Closed)]
    return min([workers, *users])
