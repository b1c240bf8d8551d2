"""Measuring what tests declare: when to boot, in which order, and what is kept. Knows no pytest."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pytest_inferforge import slo as slos
from pytest_inferforge.engines import files
from pytest_inferforge.errors import InferforgeError, MeasuringError, UsageError
from pytest_inferforge.pytest_plugin import extending, judging, stress, varying
from pytest_inferforge.pytest_plugin.declared import gated_metrics, workload_by_hand
from pytest_inferforge.pytest_plugin.measuring import Asked, Measurer
from pytest_inferforge.pytest_plugin.results import test_result
from pytest_inferforge.records import SloVerdict
from pytest_inferforge.run import Run
from pytest_inferforge.servers.gpus import Leases
from pytest_inferforge.servers.pool import ServerPool
from pytest_inferforge.telemetry import nvml

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from pytest_inferforge.pytest_plugin.declared import Declared
    from pytest_inferforge.pytest_plugin.extending import StoppingOf
    from pytest_inferforge.pytest_plugin.measuring import OnProgress
    from pytest_inferforge.pytest_plugin.settings import Settings
    from pytest_inferforge.pytest_plugin.variants import VariantRuns
    from pytest_inferforge.pytest_plugin.varying import OnLast
    from pytest_inferforge.records import BootResult, SloResult, TestResult
    from pytest_inferforge.run import RunBoot
    from pytest_inferforge.servers.server import Server
    from pytest_inferforge.servers.spec import ServerSpec
    from pytest_inferforge.slo import Slo
    from pytest_inferforge.workload.spec import Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A run that was measured. `key`: what it is stored under; `stored`: it has a place in a baseline."""

    key: str
    declared: Declared
    run: Run
    result: TestResult
    stored: bool


class Runs:
    """The runs of a session, each measured once.

    `declared`: the tests that may be measured together, in their order. `finished`: all runs, in the order
    in which they were measured, those that stayed invalid included. `servers`: session-wide number of a boot
    -> what its server said of itself. `load_s`: key of a test -> how long one load of it took, all in all.
    """

    def __init__(self, settings: Settings, *, run_dir: Path, session_id: str) -> None:
        self.declared: dict[str, Declared] = {}
        self.finished: list[Finished] = []
        self.servers: dict[int, Mapping[str, str]] = {}
        self.load_s: dict[str, float] = {}
        self.varied: dict[str, VariantRuns] = {}
        self.on_progress: OnProgress | None = None
        self.on_news: Callable[[str], None] | None = None
        gpus = nvml.open_gpus()
        self.pool = ServerPool(
            run_dir, notes=files.running_folder(), say=self._say, leases=Leases(gpus) if gpus else None
        )
        self._settings = settings
        self._measurer = Measurer(run_dir=run_dir, session_id=session_id, load=settings.load, gpus=gpus)
        self._measured: dict[str, Run | InferforgeError] = {}

    def _say(self, news: str) -> None:
        if self.on_news is not None:
            self.on_news(news)

    def server(self, spec: ServerSpec) -> Server:
        """The running server of that spec, booted when it does not run.

        Raises:
            EngineError: it did not become ready.
        """
        server = self.pool.lease(spec)
        said = {
            "engine": server.engine,
            "model": server.model,
            "version": server.version or "",
            **server.facts,
        }
        self.servers[server.number] = said
        return server

    def variants(self, declared: Declared, *, on_last: OnLast | None = None) -> VariantRuns:
        """The finished runs of a test on each of its variants, measured now if they were not yet.

        `on_last`: called with the name and the server of each, after the last load on it.

        Raises:
            EngineError, MeasuringError: as of `run`.
        """
        if declared.key not in self.varied:
            try:
                self.varied[declared.key] = varying.measure(self, declared, self._settings, on_last)
            except InferforgeError as error:
                self._measured[declared.key] = error
                raise
        return self.varied[declared.key]

    def knows(self, key: str) -> bool:
        """Whether a test was measured, or tried."""
        return key in self._measured

    def run(self, declared: Declared) -> Run:
        """The finished run of a test, measured now if it was not yet.

        Raises:
            EngineError, MeasuringError: it could not be measured; the same error each time it is asked for.
        """
        if declared.key not in self._measured:
            self._measure_group(declared)
        found = self._measured[declared.key]
        if isinstance(found, InferforgeError):
            raise found
        return found

    def load(self, declared: Declared, arguments: Mapping[str, object], name: str | None) -> Run:
        """Measure by hand, on the boot that is up; gated when it has a name.

        Raises:
            UsageError, EngineError, MeasuringError: as the cause is.
        """
        workload = workload_by_hand(declared, arguments, self._settings)
        key = f"{declared.key}::{name}" if name else f"{declared.key}::{len(self.finished)}"
        if key in self._measured:
            raise UsageError(
                f"infer_load was given the name {name!r} twice in one test", do="give each run its own name"
            )
        self._check_enough(declared.slos, workload, boots=1)
        measured = [self._measure_for_slos(declared, workload, self.server(declared.server), boot=1)]
        gated = gated_metrics(workload, declared.slos, tail=self._settings.gate.tail) if name else ()
        run = self.judged(declared, workload, measured, name=name or "", by_hand=True)
        done = self.keep(key, replace(declared, gated=gated), run)
        if name:
            self._measured[key] = done
        if isinstance(done, InferforgeError):
            raise done
        return done

    # -- boots --------------------------------------------------------------------------------------

    def _measure_group(self, first: Declared) -> None:
        """Measure a test; with several boots, every selected test of its server, boot by boot.

        The order turns by one each boot, so that no test is always the first. A fault spoils only what was
        not yet measured.
        """
        boots = self._settings.boots
        group = self._group_of(first, alone=boots == 1)
        measured: dict[str, list[RunBoot]] = {d.key: [] for d, _ in group}
        faults: dict[str, InferforgeError] = {}
        for d, workload in group:
            try:
                self._check_enough(d.slos, workload, boots=boots)
            except InferforgeError as error:
                faults[d.key] = error
        for number in range(boots):
            turn = number % len(group)
            fresh = number > 0
            for d, workload in group[turn:] + group[:turn]:
                if d.key in faults:
                    continue
                try:
                    if fresh:
                        self.pool.fresh(d.server)
                        fresh = False
                    server = self.server(d.server)
                    measured[d.key].append(self._measure_for_slos(d, workload, server, boot=number + 1))
                except InferforgeError as error:
                    faults[d.key] = error
        for d, workload in group:
            if d.key in faults:
                self._measured[d.key] = faults[d.key]
            else:
                self._measured[d.key] = self.keep(d.key, d, self.judged(d, workload, measured[d.key]))

    def _group_of(self, first: Declared, *, alone: bool) -> list[tuple[Declared, Workload]]:
        others = [] if alone else [d for d in self.declared.values() if d.key != first.key]
        return [
            (d, d.workload)
            for d in (first, *others)
            if d.workload is not None
            and d.variants is None
            and d.server == first.server
            and d.key not in self._measured
        ]

    def _measure_for_slos(
        self, declared: Declared, workload: Workload, server: Server, *, boot: int
    ) -> RunBoot:
        """As `measure`, ended early or measured on as the SLOs need it."""
        options, checks = self._settings.judge, declared.slos

        def measure_piece(part: Workload, stopping: StoppingOf | None) -> RunBoot:
            return self.measure(declared, part, server, boot=boot, stopping=stopping)

        def judge(found: RunBoot) -> list[SloResult]:
            run = self.unjudged(declared, workload, [found])
            wanted = judging.with_error_check(checks, options)
            return [judging.judge(check, run, checks, options) for check in wanted]

        return extending.measure(workload, checks, options, measure_piece=measure_piece, judge=judge)

    def measure(
        self,
        declared: Declared,
        workload: Workload,
        server: Server,
        *,
        boot: int,
        stopping: StoppingOf | None = None,
    ) -> RunBoot:
        """One workload on one running server, nothing judged and nothing kept.

        Raises:
            EngineError, MeasuringError: as the cause is.
        """
        began = time.monotonic()
        found = self._measure_any(declared, workload, server, boot=boot, stopping=stopping)
        self.load_s[declared.key] = time.monotonic() - began
        return found

    def _measure_any(
        self,
        declared: Declared,
        workload: Workload,
        server: Server,
        *,
        boot: int,
        stopping: StoppingOf | None,
    ) -> RunBoot:
        def measure(part: Workload) -> RunBoot:
            asked = Asked(
                workload=part,
                boot=boot,
                name=declared.nodeid,
                limits=slos.per_request_limits(declared.slos),
                on_progress=self.on_progress,
                stopping=stopping,
            )
            return self._measurer.measure(asked, server)

        if not workload.stress:
            return measure(workload)
        options = self._settings.judge
        checks = [c for c in declared.slos if c.metric.id != slos.CAPACITY]

        def judge(step: RunBoot) -> list[SloResult]:
            run = self.unjudged(declared, workload, [step])
            return [judging.judge(c, run, checks, options) for c in judging.with_error_check(checks, options)]

        return stress.measure(workload, measure, judge)

    # -- what is made of them -----------------------------------------------------------------------

    def judged(
        self,
        declared: Declared,
        workload: Workload,
        boots: Sequence[RunBoot],
        *,
        name: str = "",
        by_hand: bool = False,
        variant: str = "",
    ) -> Run:
        """What these boots say, by the SLOs of the test."""
        run = replace(self.unjudged(declared, workload, boots), name=name, by_hand=by_hand, variant=variant)
        if self._settings.quick:
            return judging.with_classes(run, declared.slos)
        found = judging.judged(run, declared.slos, self._settings.judge)
        failed = any(result.verdict is SloVerdict.FAIL for result in found.slos)
        when = self._settings.profile
        return self._profiled(declared, found) if when == "always" or (when != "never" and failed) else found

    def _profiled(self, declared: Declared, run: Run) -> Run:
        """The run with what the engine's own profiler recorded of a short repeat."""
        live = self.pool.live
        if live is None or live.spec != declared.server or not live.alive():
            said = "no profile: the server that was measured is gone"
        else:
            said = self._measurer.profile(run.workload, live)
        last = replace(run.boots[-1], notes=(*run.boots[-1].notes, said))
        return replace(run, boots=(*run.boots[:-1], last))

    def profile(self, declared: Declared) -> str | None:
        """Of a run that was found slower than before; None: nobody asked for profiles, or there is one."""
        if self._settings.profile != "on-failure" or declared.workload is None:
            return None
        return self._measurer.profile(declared.workload, self.server(declared.server))

    def by_key(self, declared: Declared, boot: RunBoot) -> dict[str, BootResult]:
        """What one boot measured of a test and of each class of its requests, by their keys."""
        assert declared.workload is not None
        run = judging.with_classes(self.unjudged(declared, declared.workload, [boot]), declared.slos)
        return judging.results_by_key(declared.key, run)

    def unjudged(self, declared: Declared, workload: Workload, boots: Sequence[RunBoot]) -> Run:
        return Run(
            nodeid=declared.nodeid,
            name="",
            workload=workload,
            boots=tuple(boots),
            limits=slos.per_request_limits(declared.slos),
        )

    def keep(self, key: str, declared: Declared, run: Run) -> Run | InferforgeError:
        """Remember a run and each of its classes under keys of their own."""
        said = self.servers.get(run.boots[-1].server_number, {})
        valid = bool(run.valid_boots)
        for part in (run, *run.classes):
            whole = not part.class_name
            tail = self._settings.gate.tail
            gated = (
                declared.gated
                if whole
                else gated_metrics(run.workload, declared.slos, part.class_name, tail=tail)
            )
            gated = gated if not run.by_hand or run.name else ()
            one = replace(declared, gated=gated)
            part_key = key if whole else judging.class_key(key, part.class_name)
            self.finished.append(
                Finished(
                    key=part_key,
                    declared=one,
                    run=part,
                    result=test_result(part_key, one, part, self._hash(run.workload), said),
                    stored=valid and (not run.by_hand or bool(run.name)) and not run.variant,
                )
            )
        return run if valid else _invalid(run)

    def _hash(self, workload: Workload) -> str:
        """What makes two runs of a workload the same; that of a stress run, its first step's."""
        step = workload if workload.stress is None else workload.at_rate(workload.stress.low_per_s)
        found = self._measurer.schedule(step).hash
        return found if workload.stress is None else f"{found}-{workload.stress}".replace(" ", "_")

    def _check_enough(self, checks: Sequence[Slo], workload: Workload, *, boots: int) -> None:
        if not self._settings.quick:
            judging.check_enough(checks, workload, self._settings.judge, boots=boots)


def _invalid(run: Run) -> MeasuringError:
    """The error of a run that stayed invalid after its repeat."""
    seen = list(dict.fromkeys(reason for boot in run.boots for reason in boot.result.reasons))
    return MeasuringError(
        f"{run.nodeid} could not be measured: the run is INVALID after one repeat",
        seen="\n".join(seen),
        do="free this machine of other work or ask for less load; the server's speed was not judged",
    )
