"""A run as its test sees it: an ordinary object with numbers, requests and verdicts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_inferforge import measures
from pytest_inferforge.metrics import metric
from pytest_inferforge.records import BootResult, RunVerdict

if TYPE_CHECKING:
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
    client_cpu_share: float  # of one core, while the load ran
    client_priority: str = "unknown"  # how urgently the system let the load client run
    notes: tuple[str, ...] = ()  # tolerated oddities, for a person


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One workload measured on one or more boots.

    `metrics` maps metric ids to values in their unit, the mean over the valid boots. `slos` are the test's
    SLOs judged on this run, the error check included. `by_hand`: by `infer_load`; `name`: what it was called.
    """

    nodeid: str
    name: str
    workload: Workload
    boots: tuple[RunBoot, ...]
    limits: Limits
    slos: tuple[SloResult, ...] = ()
    by_hand: bool = False

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
