"""A run as its test sees it: an ordinary object with numbers, requests and verdicts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_inferforge import measures
from pytest_inferforge.errors import UsageError
from pytest_inferforge.metrics import metric
from pytest_inferforge.records import BootResult, RunVerdict

if TYPE_CHECKING:
    from pytest_inferforge.floor import Floor
    from pytest_inferforge.measures import Limits
    from pytest_inferforge.records import SloResult
    from pytest_inferforge.table import RequestTable
    from pytest_inferforge.workload.spec import Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class RunBoot:
    """What one run measured on one boot. `result` is what is kept of it when its requests are gone.

    `server_number`: the boot's place among all boots of the session, as its log is named.
    """

    result: BootResult
    requests: RequestTable
    server_number: int
    client_cpu_share: float  # of one core, while the load ran; of the worker that needed most
    client_priority: str = "unknown"  # how urgently the system let the load client run
    client_workers: int = 1
    client_floor: Floor | None = None  # its own error at this load; None: not measured
    server_memory: tuple[tuple[float, int], ...] = ()  # (seconds from the origin, bytes resident)
    steps: tuple[Step, ...] = ()  # of a stress run, in the order in which they were measured
    facts: Mapping[str, str] = field(default_factory=dict)  # of its GPUs, for the fingerprint
    notes: tuple[str, ...] = ()  # tolerated oddities, for a person
    further: tuple[RequestTable, ...] = ()  # what was measured beyond the planned requests, for SLOs alone
    stopped: bool = False  # ended early, before all planned requests were sent


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One rate of a stress run. `broke`: the SLOs that it broke, in words; empty: all held."""

    rate_per_s: float
    broke: tuple[str, ...]
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One workload measured on one or more boots.

    `metrics` maps metric ids to values in their unit, the mean over the valid boots. `slos` are the test's
    SLOs judged on this run, the error check included. `by_hand`: by `infer_load`; `name`: what it was called.
    `classes`: the same run, the requests of one class each; `class_name`: this is one of those. `variant`: on
    which of several servers of one test it was measured.
    """

    nodeid: str
    name: str
    workload: Workload
    boots: tuple[RunBoot, ...]
    limits: Limits
    slos: tuple[SloResult, ...] = ()
    by_hand: bool = False
    class_name: str = ""
    classes: tuple[Run, ...] = ()
    variant: str = ""

    def of(self, class_name: str) -> Run:
        """The requests of one class.

        Raises:
            UsageError: the workload has no such class.
        """
        for run in self.classes:
            if run.class_name == class_name:
                return run
        known = ", ".join(run.class_name for run in self.classes) or "this workload has none"
        raise UsageError("no such class of requests", seen=class_name, do=f"known: {known}")

    def by_turn(self, metric_id: str) -> list[float | None]:
        """A metric of the requests of turn 0, 1, ... of their conversations, on the newest boot."""
        table = self.requests
        turns = table.counts["turn"]
        found: list[float | None] = []
        for turn in range(int(turns.max(initial=0)) + 1):
            part = table.where(turns == turn)
            asked = metric(metric_id)
            found.append(
                measures.run_value(part, asked.quantity.id, self.limits)
                if asked.statistic is None
                else measures.statistic(measures.samples(part, asked.quantity.id), asked.statistic)
            )
        return found

    @property
    def valid_boots(self) -> tuple[RunBoot, ...]:
        """Those that may be judged."""
        return tuple(b for b in self.boots if b.result.verdict is RunVerdict.VALID)

    @property
    def requests(self) -> RequestTable:
        """The requests of the newest boot; `boots[i].requests` has those of the others."""
        return self.boots[-1].requests

    @property
    def metrics(self) -> RunMetrics:
        return RunMetrics(self)


class RunMetrics(Mapping[str, float]):
    """Metric id -> value. Any quantile can be asked for: `metrics["ttft_s.p97"]`.

    An id that no metric has is a `UsageError` that names the nearest ones; a metric that this run could not
    measure is a `KeyError`.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._boots = run.valid_boots or run.boots

    def __getitem__(self, metric_id: str) -> float:
        found = [v for boot in self._boots if (v := self._value(boot, metric_id)) is not None]
        if not found:
            raise KeyError(f"{metric_id} was not measured by this run")
        return sum(found) / len(found)

    def __iter__(self) -> Iterator[str]:
        return iter(self._boots[0].result.metrics)

    def __len__(self) -> int:
        return len(self._boots[0].result.metrics)

    def __repr__(self) -> str:
        return f"RunMetrics({ {name: float(f'{self[name]:.4g}') for name in self} })"

    def _value(self, boot: RunBoot, metric_id: str) -> float | None:
        if metric_id in boot.result.metrics:
            return boot.result.metrics[metric_id]
        asked = metric(metric_id)
        if asked.statistic is None:
            return None
        return measures.statistic(measures.samples(boot.requests, asked.quantity.id), asked.statistic)
