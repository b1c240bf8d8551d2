"""A session: boots servers, measures what tests declare, judges it, keeps it. Runs without pytest.

The plugin tells it which tests were selected and asks for their runs one by one; it decides when to boot and
in which order to measure.
"""

from __future__ import annotations

import datetime as dt
import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pytest_inferforge import engines, gate
from pytest_inferforge import slo as slos
from pytest_inferforge.baselines.store import FolderStore, check_name
from pytest_inferforge.errors import InferforgeError, MeasuringError, UsageError
from pytest_inferforge.pytest_plugin.declared import gated_metrics, workload_of
from pytest_inferforge.pytest_plugin.measuring import Measurer
from pytest_inferforge.pytest_plugin.results import session_result, test_result
from pytest_inferforge.records import ComparisonVerdict
from pytest_inferforge.run import Run
from pytest_inferforge.servers.pool import ServerPool

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from pytest_inferforge.pytest_plugin.declared import Declared
    from pytest_inferforge.pytest_plugin.measuring import OnProgress
    from pytest_inferforge.pytest_plugin.settings import Settings
    from pytest_inferforge.records import Comparison, SessionResult, SloResult, TestResult
    from pytest_inferforge.run import RunBoot
    from pytest_inferforge.servers.server import Server
    from pytest_inferforge.servers.spec import ServerSpec
    from pytest_inferforge.slo import Slo
    from pytest_inferforge.workload.spec import Workload

    Measured = Run | InferforgeError


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A run that was measured. `key`: what it is stored under; `stored`: it has a place in a baseline."""

    key: str
    declared: Declared
    run: Run
    result: TestResult
    stored: bool


class InferSession:
    """Everything one pytest run measures and decides.

    `now`: the clock of the session's date. `root`: of the project, whose git state is recorded.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        now: Callable[[], dt.datetime],
        version: str,
        root: Path,
    ) -> None:
        self.settings = settings
        self.started_at = now()
        stamp = self.started_at.astimezone(dt.UTC).strftime("%Y%m%dT%H%M%S")
        self.id = f"{stamp}-{secrets.token_hex(3)}"
        self.version = version
        self.root = root
        self.store = FolderStore(settings.store)
        self.declared: dict[str, Declared] = {}
        self.deselected = 0
        self.reference: tuple[SessionResult, ...] = ()
        self.runs: dict[str, Measured] = {}  # by key
        self.servers: dict[int, Mapping[str, str]] = {}  # boot -> facts, for the report
        self.comparisons: dict[str, tuple[Comparison, ...]] | None = None
        self.changed: tuple[str, ...] = ()
        self.failed_items: set[str] = set()
        self.errors: list[str] = []
        self.finished: list[Finished] = []  # in the order in which they were measured
        self.on_progress: OnProgress | None = None
        self._pool: ServerPool | None = None
        self._measurer: Measurer | None = None

    # -- before anything boots ----------------------------------------------------------------------

    def open(self, declared: Sequence[Declared], *, deselected: int) -> None:
        """Take the selected tests, and refuse what can be known to fail.

        Raises:
            UsageError: no backend named where a gate needs one, an engine that cannot do what is asked, an
                unknown baseline.
        """
        self.deselected = deselected
        if not declared:
            return
        for name in (self.settings.save, self.settings.compare):
            if name is not None:
                check_name(name)
        self._refuse_default_backend(declared)
        for spec in dict.fromkeys(d.server for d in declared):
            engines.engine(spec.engine).check(spec)
        if self.settings.compare is not None:
            self.reference = self._load_reference(self.settings.compare)
        self.declared = {d.key: d for d in declared}

    def detectable(self) -> dict[tuple[str, str], float | None]:
        """What the gate will be able to see: (nodeid, metric id) -> smallest worsening, a ratio above 1."""
        if not self.reference:
            return {}
        return gate.detectable(
            self.reference, set(self.declared), boots=self.settings.boots, options=self.settings.judge
        )

    def _refuse_default_backend(self, declared: Sequence[Declared]) -> None:
        settings = self.settings
        named = settings.backend_named or all(d.server.url for d in declared)
        reasons = {
            "CI is set": settings.ci,
            "--infer-save": settings.save,
            "--infer-compare": settings.compare,
        }
        why = [reason for reason, holds in reasons.items() if holds]
        if not named and why:
            raise UsageError(
                "no backend is named, and a gate must not run on a default one",
                seen=", ".join(why),
                do="write --infer-backend=llama.cpp (or another engine), or --infer-url=URL",
            )

    def _load_reference(self, name: str) -> tuple[SessionResult, ...]:
        if name not in self.store.names() and self.settings.record_missing:
            return ()
        return self.store.load(name)

    # -- servers and runs ---------------------------------------------------------------------------

    @property
    def pool(self) -> ServerPool:
        if self._pool is None:
            self._pool = ServerPool(self.run_dir)
        return self._pool

    @property
    def run_dir(self) -> Path:
        """Logs and request rows of this session."""
        return self.store.run_folder(self.id)

    @property
    def measurer(self) -> Measurer:
        if self._measurer is None:
            self._measurer = Measurer(run_dir=self.run_dir, session_id=self.id, load=self.settings.load)
        return self._measurer

    def server(self, spec: ServerSpec) -> Server:
        """The running server of that spec, booted when it does not run.

        Raises:
            EngineError: it did not become ready.
        """
        server = self.pool.lease(spec)
        self.servers[server.number] = {"engine": server.engine, "model": server.model, **server.facts}
        return server

    def run(self, declared: Declared) -> Run:
        """The finished run of a test, measured now if it was not yet.

        Raises:
            EngineError, MeasuringError: it could not be measured; the same error each time it is asked for.
        """
        if declared.key not in self.runs:
            self._measure_group(declared)
        found = self.runs[declared.key]
        if isinstance(found, InferforgeError):
            raise found
        return found

    def load(self, declared: Declared, arguments: Mapping[str, object], name: str | None) -> Run:
        """Measure by hand, on the boot that is up; gated when it has a name.

        Raises:
            UsageError, EngineError, MeasuringError: as the cause is.
        """
        workload = workload_of({**declared.arguments, **arguments}, self.settings)
        key = f"{declared.key}::{name}" if name else ""
        if key in self.runs:
            raise UsageError(
                f"infer_load was given the name {name!r} twice in one test", do="give each run its own name"
            )
        self._check_enough(declared.slos, workload, boots=1)
        limits = slos.per_request_limits(declared.slos)
        boot = self._measure(declared, workload, self.server(declared.server))
        if boot.result.reasons:
            raise _invalid(declared.nodeid, [boot])
        run = Run(
            nodeid=declared.nodeid,
            name=name or "",
            workload=workload,
            boots=(boot,),
            limits=limits,
            by_hand=True,
        )
        run = replace(run, slos=self._judge_slos(declared.slos, run))
        if key:
            self.runs[key] = run
        gated = gated_metrics(workload, declared.slos) if key else ()
        self._keep(key or f"{declared.key}::{len(self.finished)}", replace(declared, gated=gated), run)
        return run

    def _measure_group(self, first: Declared) -> None:
        """Measure a test; with several boots, every selected test of its server, boot by boot.

        The order turns by one each boot, so that no test is always the first. A fault spoils only what was
        not yet measured.
        """
        boots = self.settings.boots
        group = [first]
        if boots > 1:
            group += [
                d for d in self.declared.values()
                if d.server == first.server and d.workload and d.key not in self.runs and d.key != first.key
            ]  # fmt: skip
        measured: dict[str, list[RunBoot]] = {d.key: [] for d in group}
        faults: dict[str, InferforgeError] = {}
        for d in group:
            try:
                assert d.workload is not None
                self._check_enough(d.slos, d.workload, boots=boots)
            except InferforgeError as error:
                faults[d.key] = error
        for number in range(boots):
            turn = number % len(group)
            waiting = [d for d in group[turn:] + group[:turn] if d.key not in faults]
            self._measure_boot(waiting, measured, faults, fresh=number > 0)
        for d in group:
            self.runs[d.key] = faults.get(d.key) or self._finish(d, measured[d.key])

    def _measure_boot(
        self,
        waiting: Sequence[Declared],
        measured: dict[str, list[RunBoot]],
        faults: dict[str, InferforgeError],
        *,
        fresh: bool,
    ) -> None:
        for d in waiting:
            assert d.workload is not None
            try:
                server = self.pool.fresh(d.server) if fresh else self.server(d.server)
                fresh = False
                server = self.server(d.server)
                measured[d.key].append(self._measure(d, d.workload, server))
            except InferforgeError as error:
                faults[d.key] = error
                fresh = False

    def _measure(self, declared: Declared, workload: Workload, server: Server) -> RunBoot:
        return self.measurer.measure(
            workload,
            server,
            name=declared.nodeid,
            limits=slos.per_request_limits(declared.slos),
            on_progress=self.on_progress,
        )

    def _finish(self, declared: Declared, boots: list[RunBoot]) -> Measured:
        assert declared.workload is not None
        run = Run(
            nodeid=declared.nodeid,
            name="",
            workload=declared.workload,
            boots=tuple(boots),
            limits=slos.per_request_limits(declared.slos),
        )
        if not run.valid_boots:
            self._keep(declared.key, declared, run)
            return _invalid(declared.nodeid, boots)
        run = replace(run, slos=self._judge_slos(declared.slos, run))
        self._keep(declared.key, declared, run)
        return run

    def _keep(self, key: str, declared: Declared, run: Run) -> None:
        schedule = self.measurer.schedule(run.workload)
        facts = self.servers.get(run.boots[-1].result.boot, {})
        result = test_result(key, declared, run, schedule.hash, facts)
        stored = bool(run.valid_boots) and (not run.by_hand or bool(run.name))
        self.finished.append(Finished(key=key, declared=declared, run=run, result=result, stored=stored))

    # -- judging ------------------------------------------------------------------------------------

    def _check_enough(self, checks: Sequence[Slo], workload: Workload, *, boots: int) -> None:
        """Refuse an SLO that this number of requests can never show.

        Raises:
            MeasuringError: of that test alone.
        """
        expected = workload.expected_requests
        if expected is None or self.settings.quick:
            return
        for check in checks:
            needed = slos.needed(check, self.settings.judge.alpha)
            if needed is not None and expected * boots < needed:
                raise MeasuringError(
                    f'"{check.text}" can never be shown with {expected * boots} requests',
                    seen=f"{workload.describe()}, {boots} boot{'s' if boots > 1 else ''}",
                    do=f"ask for at least {needed} requests, or for a lower quantile",
                )

    def _judge_slos(self, checks: Sequence[Slo], run: Run) -> tuple[SloResult, ...]:
        """The test's SLOs and the error check, unless the test has one of its own. Nothing under quick."""
        if self.settings.quick:
            return ()
        options = self.settings.judge
        wanted = list(checks)
        if not any(check.metric.quantity.id == "error_ratio" for check in wanted):
            implied = slos.parse(f"error rate <= {options.error_limit * 100:g} %")
            wanted.append(replace(implied, implicit=True))
        tables = [boot.requests for boot in run.valid_boots]
        return tuple(
            replace(slos.judge(check, tables, options=options, limits=run.limits), implicit=check.implicit)
            for check in wanted
        )

    def result(self, *, complete: bool, accepted: bool) -> SessionResult:
        """This session as a baseline stores it."""
        return session_result(
            id=self.id,
            started_at=self.started_at,
            version=self.version,
            seed=self.settings.load.seed,
            boots=self.settings.boots,
            keys=self.settings.keys,
            root=self.root,
            tests=[done.result for done in self.finished if done.stored],
            complete=complete,
            accepted=accepted,
        )

    def judge(self) -> dict[str, tuple[Comparison, ...]]:
        """Compare with the baseline: node id (and name) of a test -> its comparisons. Done once."""
        if self.comparisons is None:
            name = self.settings.compare
            assert name is not None
            current = self.result(complete=self.deselected == 0, accepted=False)
            found = gate.compare_session(current, self.reference, name=name, options=self.settings.judge)
            by_test: dict[str, list[Comparison]] = {}
            for comparison in found:
                by_test.setdefault(comparison.nodeid, []).append(comparison)
            self.comparisons = {nodeid: tuple(items) for nodeid, items in by_test.items()}
            if self.reference:
                self.changed = gate.changed_since(current, self.reference)
        return self.comparisons

    def comparisons_of(self, declared: Declared) -> tuple[Comparison, ...]:
        """Those of one test, its named runs included."""
        prefix = f"{declared.key}::"
        return tuple(
            c for nodeid, items in self.judge().items() if nodeid == declared.key or nodeid.startswith(prefix)
            for c in items
        )  # fmt: skip

    # -- the end ------------------------------------------------------------------------------------

    def save(self) -> list[str]:
        """Store this session where it was asked to; what was written, a line each.

        A session that was red is stored but not accepted as a reference.
        """
        names = [self.settings.save] if self.settings.save else []
        if self.settings.compare and self.settings.record_missing and self._too_young():
            names.append(self.settings.compare)
        lines = []
        for name in dict.fromkeys(names):
            if not any(done.stored for done in self.finished):
                lines.append(f"nothing was measured, so nothing was added to baseline {name}")
                continue
            path = self.store.save(name, self.result(complete=self.complete, accepted=self.accepted))
            said = "" if self.accepted else " (stored, but not accepted as a reference: the session was red)"
            lines.append(f"saved to baseline {name}: {path}{said}")
        return lines

    @property
    def complete(self) -> bool:
        """Every test of ours that was collected was selected and measured."""
        wanted = {d.key for d in self.declared.values() if d.workload is not None}
        return wanted <= {done.key for done in self.finished} and not self.deselected and not self.errors

    @property
    def accepted(self) -> bool:
        """Nothing of this session was red: it may serve as a reference."""
        return not self.failed_items and not any(
            c.verdict is ComparisonVerdict.REGRESSED
            for items in (self.comparisons or {}).values()
            for c in items
        )

    def _too_young(self) -> bool:
        return len(self.reference) < self.settings.judge.min_sessions

    def close(self) -> None:
        """Stop the server; may be called again."""
        if self._pool is not None:
            self._pool.close()


def _invalid(nodeid: str, boots: Sequence[RunBoot]) -> MeasuringError:
    """The error of a run that stayed invalid after its repeat."""
    seen = list(dict.fromkeys(reason for boot in boots for reason in boot.result.reasons))
    return MeasuringError(
        f"{nodeid} could not be measured: the run is INVALID after one repeat",
        seen="\n".join(seen),
        do="free this machine of other work or ask for less load; the server's speed was not judged",
    )
