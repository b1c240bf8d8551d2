"""A session: takes the selected tests, has them measured, judges them as one family, keeps them.

Runs without pytest. The plugin tells it which tests were selected and asks for their runs one by one.
"""

from __future__ import annotations

import datetime as dt
import secrets
from typing import TYPE_CHECKING

from pytest_inferforge import engines, gate, remains
from pytest_inferforge.baselines.store import check_name, check_session_id, open_store
from pytest_inferforge.engines import files
from pytest_inferforge.errors import BaselineError, UsageError
from pytest_inferforge.outcomes import QualityVerdict
from pytest_inferforge.pytest_plugin import quality_gate, references
from pytest_inferforge.pytest_plugin.grading import Grading
from pytest_inferforge.pytest_plugin.more import MoreBoots
from pytest_inferforge.pytest_plugin.results import doubts_about, graded_result, session_result
from pytest_inferforge.pytest_plugin.runs import Runs
from pytest_inferforge.records import ComparisonVerdict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from pytest_inferforge.outcomes import QualityResult
    from pytest_inferforge.pytest_plugin.declared import Declared
    from pytest_inferforge.pytest_plugin.grading import Graded
    from pytest_inferforge.pytest_plugin.settings import Settings
    from pytest_inferforge.records import Comparison, Series, SessionResult, TestResult


class InferSession:
    """Everything one pytest run measures and decides.

    `now`: the clock of the session's date. `root`: of the project, whose git state is recorded. `errors`:
    what could not be measured; `failed_items`: node ids of ours that were red; `reaped`: what killed sessions
    had left running, and was ended now; `all_selected`: no test of ours was left out by the way pytest was
    called, as far as that can be known; `asked_for`: whether a test of that node id would have been selected,
    if it existed. `id`: of the session, which its shards share; `run_id`: of this pytest run.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        now: Callable[[], dt.datetime],
        version: str,
        root: Path,
        asked_for: Callable[[str], bool],
    ) -> None:
        self.settings = settings
        self.started_at = now()
        stamp = self.started_at.astimezone(dt.UTC).strftime("%Y%m%dT%H%M%S")
        self.run_id = f"{stamp}-{secrets.token_hex(3)}"
        self.id = settings.session_id or self.run_id
        self.store = open_store(settings.baselines, local=settings.store)
        self.declared: dict[str, Declared] = {}
        self.all_selected = True
        self.reference: tuple[SessionResult, ...] = ()
        self.comparisons: dict[str, tuple[Comparison, ...]] | None = None  # by key of the test
        self.quality_results: dict[str, tuple[QualityResult, ...]] = {}  # likewise, once they are compared
        self.changed: tuple[str, ...] = ()
        self.pinned: tuple[SessionResult, ...] = ()
        self.more: MoreBoots | None = None  # what was measured beyond the plan; None: nothing was judged
        self.failed_items: set[str] = set()
        self.reaped: tuple[str, ...] = ()
        self.errors: list[str] = []
        self._before: tuple[SessionResult, ...] = ()  # of the baseline that this session is added to
        self._asked_for = asked_for
        self._version = version
        self._root = root
        self._runs: Runs | None = None
        self._grading: Grading | None = None

    # -- before anything boots ----------------------------------------------------------------------

    def open(self, declared: Sequence[Declared], *, all_selected: bool, measures: bool) -> None:
        """Take the selected tests, and refuse what can be known to fail.

        Raises:
            UsageError: no backend named where a gate needs one, an engine that cannot do what is asked, an
                unknown baseline.
            BaselineError: a store that does not answer, a broken file, no room for rows and logs.
        """
        self.all_selected = all_selected
        if not declared:
            return
        for name in (self.settings.save, self.settings.compare):
            if name is not None:
                check_name(name)
        check_session_id(self.id)
        self._refuse_default_backend(declared)
        self.reaped = remains.reap(files.running_folder())
        for spec in dict.fromkeys(spec for d in declared for spec in d.servers):
            engines.engine(spec.engine).check(spec)
        if self.settings.compare is not None:
            self.reference = self._load_reference(self.settings.compare)
            self.pinned = self.store.pinned(self.settings.compare) if self.reference else ()
        if self.settings.save is not None:  # a store out of reach, or a broken file, is said before the work
            self._before = self._stored(self.settings.save)
        if measures:
            self.store.run_folder(self.run_id)  # what cannot be written down is not measured
        self.declared = {d.key: d for d in declared}

    def detectable(self) -> dict[tuple[str, str], float | None]:
        """What the gate will be able to see: (nodeid, metric id) -> smallest worsening, a ratio above 1."""
        if not self.reference:
            return {}
        return gate.detectable(
            self.reference, set(self.declared), boots=self.settings.boots, options=self.settings.judge
        )

    @property
    def recording(self) -> bool:
        """The baseline is being begun: this session is added to it, and may be compared with too little."""
        accepted = sum(session.accepted for session in self.reference)
        return self.settings.record_missing and accepted < self.settings.judge.min_sessions

    def _refuse_default_backend(self, declared: Sequence[Declared]) -> None:
        settings = self.settings
        reasons = {
            "CI is set": settings.ci,
            "--infer-save": settings.save,
            "--infer-compare": settings.compare,
            "--infer-against": settings.gate.against,
        }
        why = [reason for reason, holds in reasons.items() if holds]
        if why and not all(d.backend_named for d in declared):
            raise UsageError(
                "no backend is named, and a gate must not run on a default one",
                seen=", ".join(why),
                do="write --infer-backend=llama.cpp (or another engine), or --infer-url=URL",
            )

    def _load_reference(self, name: str) -> tuple[SessionResult, ...]:
        return self._stored(name) if self.settings.record_missing else self.store.load(name)

    def _stored(self, name: str) -> tuple[SessionResult, ...]:
        """The sessions of a baseline; none when it does not exist yet."""
        return self.store.load(name) if name in self.store.names() else ()

    # -- measuring and judging ----------------------------------------------------------------------

    @property
    def run_dir(self) -> Path:
        """Logs and request rows of this session; made when it is asked for.

        Raises:
            BaselineError: it cannot be made.
        """
        return self.store.run_folder(self.run_id)

    @property
    def runs(self) -> Runs:
        """What measures; made when it is first needed."""
        if self._runs is None:
            self._runs = Runs(self.settings, run_dir=self.run_dir, session_id=self.run_id)
            self._runs.declared = self.declared
        return self._runs

    @property
    def grading(self) -> Grading:
        """What evaluates; made when it is first needed."""
        if self._grading is None:
            self._grading = Grading(self.runs, self.settings, run_dir=self.run_dir)
        return self._grading

    @property
    def graded(self) -> tuple[Graded, ...]:
        """Every test whose quality was looked at, and each of its variants."""
        return tuple(self._grading.finished) if self._grading else ()

    def result(self, *, complete: bool, accepted: bool) -> SessionResult:
        """This session as a baseline stores it."""
        measured = {
            done.key: done.result for done in (self._runs.finished if self._runs else ()) if done.stored
        }
        for graded in self.graded:
            if not graded.quality.variant:
                said = self.runs.servers.get(graded.quality.server_number, {})
                before = measured.get(graded.key)
                measured[graded.key] = graded_result(graded.declared, before, graded.quality, said)
        return session_result(
            id=self.id,
            started_at=self.started_at,
            version=self._version,
            seed=self.settings.load.seed,
            boots=self.settings.boots,
            keys=self.settings.keys,
            root=self._root,
            tests=list(measured.values()),
            complete=complete,
            accepted=accepted,
        )

    def judge(self) -> dict[str, tuple[Comparison, ...]]:
        """Compare with the baseline: key of a test -> its comparisons. Done once, over the whole family."""
        if self.comparisons is None:
            current = self.result(complete=self.all_selected, accepted=False)
            found = self._judged(current)
            by_test: dict[str, list[Comparison]] = {}
            for comparison in found:
                by_test.setdefault(comparison.nodeid, []).append(comparison)
            self.comparisons = {key: tuple(items) for key, items in by_test.items()}
            if self.graded:
                self.grading.spent_s += self.more.seconds if self.more else 0.0
                self.quality_results = quality_gate.judge(
                    self.grading, current, self.reference, self.settings
                )
            if self.reference:
                self.changed = gate.changed_since(current, self.reference)
        return self.comparisons

    def _judged(self, current: SessionResult) -> tuple[Comparison, ...]:
        """The whole gate: what looks worse is measured again, as far as the budget goes."""
        options, name = self.settings.judge, self.settings.compare
        self.more = self._more_boots()
        reference = None if self.settings.gate.against is None else f"against:{self.settings.gate.against}"
        if name is None:
            assert reference is not None
            turns = gate.Turns(name=reference, can=self.more.can, measure=self.more.turns)
            return gate.judge_against(current, turns, options=options)
        if reference is None and self.more.references:
            reference = f"baseline:{name}"
        return gate.judge_session(
            current,
            self.reference,
            name=name,
            options=options,
            more=self.more.as_gate_input(reference),
            pinned=self.pinned,
            under_test=self.settings.gate.under_test,
        )

    def _more_boots(self) -> MoreBoots:
        measured = {d.key: d for d in self.declared.values() if d.workload is not None and not d.variants}
        named = {key: d.against for key, d in measured.items() if d.against is not None}
        known = named or references.of_baseline(measured, self.reference)
        settings = self.settings.gate
        control = settings.null_control
        return MoreBoots(
            self.runs,
            measured,
            known if len(known) == len(measured) else {},
            settings=settings,
            options=self.settings.judge,
            planned_boots=self.settings.boots,
            control=bool(named) and (self.settings.save is not None if control is None else control),
        )

    def comparisons_of(self, declared: Declared) -> tuple[Comparison, ...]:
        """Those of one test, its named runs included."""
        prefix = f"{declared.key}::"
        return tuple(
            comparison
            for key, items in self.judge().items()
            if key == declared.key or key.startswith(prefix)
            for comparison in items
        )

    def quality_of(self, declared: Declared) -> tuple[QualityResult, ...]:
        """How the tasks of one test compare."""
        self.judge()
        return self.quality_results.get(declared.key, ())

    @property
    def not_exercised(self) -> tuple[TestResult, ...]:
        """Tests of the baseline's newest complete session that the suite should have, and did not measure."""
        if not self.all_selected or not self.reference:
            return ()
        current = self.result(complete=False, accepted=False)
        missing = gate.tests_not_exercised(current, self.reference)
        return tuple(test for test in missing if self._asked_for(test.nodeid))

    @property
    def incomplete_fails(self) -> bool:
        """What the baseline has and this session has not is red under the strict policy."""
        return self.settings.policy == "strict" and bool(self.not_exercised)

    def drifting(self) -> tuple[Series, ...]:
        """Metrics whose small worsenings, session after session, have summed up to an alarm."""
        if not self.reference:
            return ()
        current = self.result(complete=self.all_selected, accepted=False)
        judge, under_test = self.settings.judge, self.settings.gate.under_test
        series = gate.series_of(
            [*self.reference, current], self.pinned, judge, steps=False, under_test=under_test
        )
        return tuple(s for s in series if s.alarm is not None)

    def moved_with(self, declared: Declared) -> tuple[str, ...]:
        """What telemetry of that test lies far from the stored sessions'."""
        if not self.reference:
            return ()
        current = self.result(complete=self.all_selected, accepted=False)
        under_test = self.settings.gate.under_test
        return gate.moved_with(current, self.reference, declared.key, under_test)

    @property
    def judged_nothing(self) -> bool:
        """The gate was asked, and weighed no comparison at all."""
        found = self.judge()
        return not any(c.verdict.judged for items in found.values() for c in items) and not any(
            r.verdict.judged for results in self.quality_results.values() for r in results
        )

    # -- the end ------------------------------------------------------------------------------------

    @property
    def complete(self) -> bool:
        """Every test of ours was selected and measured."""
        current = self.result(complete=False, accepted=False)
        before = (*self.reference, *self._before)
        outside = [t for t in gate.tests_not_exercised(current, before) if not self._asked_for(t.nodeid)]
        return self._whole and self.all_selected and not outside

    @property
    def _whole(self) -> bool:
        """Every selected test of ours was measured."""
        tests = [d for d in self.declared.values() if not d.variants]
        wanted = {d.key for d in tests if d.workload is not None}
        graded = {d.key for d in tests if d.quality is not None}
        return (
            wanted <= {done.key for done in self.runs.finished if done.stored}
            and graded <= {done.key for done in self.graded}
            and not self.errors
        )

    @property
    def accepted(self) -> bool:
        """Nothing of this session was red: it may serve as a reference."""
        return (
            not self.failed_items
            and not self.incomplete_fails
            and not any(
                c.verdict is ComparisonVerdict.REGRESSED
                for items in (self.comparisons or {}).values()
                for c in items
            )
            and not any(
                r.verdict is QualityVerdict.REGRESSED
                for results in self.quality_results.values()
                for r in results
            )
        )

    def save(self) -> list[str]:
        """Store this session, or this shard of one, where it was asked to; what was written, a line each.

        A session that was red is stored but not accepted as a reference.

        Raises:
            BaselineError: it could not be written.
        """
        names = [self.settings.save] if self.settings.save else []
        if self.settings.compare and self.recording:
            names.append(self.settings.compare)
        lines = []
        for name in dict.fromkeys(names):
            if not any(done.stored for done in self.runs.finished) and not self.graded:
                lines.append(f"nothing was measured, so nothing was added to baseline {name}")
                continue
            whole = self.complete if self.settings.session_id is None else self._whole
            result = self.result(complete=whole, accepted=self.accepted)
            where = self._save_in(name, result)
            if self.settings.session_id is not None:
                lines.append(f"saved as a shard of session {self.id} for baseline {name}: {where}")
                lines.append(f"  when all shards are there: inferforge judge {name} {self.id}")
                continue
            said = "" if self.accepted else " (stored, but not accepted as a reference: the session was red)"
            lines.append(f"saved to baseline {name}: {where}{said}")
            lines += doubts_about(result, self._before if name == self.settings.save else self.reference)
        return lines

    def _save_in(self, name: str, result: SessionResult) -> str:
        try:
            if self.settings.session_id is not None:
                return self.store.save_shard(name, result)
            return self.store.save(name, result)
        except BaselineError as error:
            kept = self.store.keep(result, self.run_id)
            do = f"{error.do}; then: inferforge baseline add {name} {kept}" if kept else error.do
            raise BaselineError(error.what, seen=error.seen, do=do) from error

    def close(self) -> None:
        """Stop the server; may be called again."""
        if self._runs is not None:
            self._runs.pool.finish()
