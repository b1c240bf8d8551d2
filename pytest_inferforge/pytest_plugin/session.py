"""A session: takes the selected tests, has them measured, judges them as one family, keeps them.

Runs without pytest. The plugin tells it which tests were selected and asks for their runs one by one.
"""

from __future__ import annotations

import datetime as dt
import secrets
from typing import TYPE_CHECKING

from pytest_inferforge import engines, gate, remains
from pytest_inferforge.baselines.store import FolderStore, check_name
from pytest_inferforge.engines import files
from pytest_inferforge.errors import UsageError
from pytest_inferforge.pytest_plugin.results import session_result
from pytest_inferforge.pytest_plugin.runs import Runs
from pytest_inferforge.records import ComparisonVerdict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from pytest_inferforge.pytest_plugin.declared import Declared
    from pytest_inferforge.pytest_plugin.settings import Settings
    from pytest_inferforge.records import Comparison, SessionResult


class InferSession:
    """Everything one pytest run measures and decides.

    `now`: the clock of the session's date. `root`: of the project, whose git state is recorded. `errors`:
    what could not be measured; `failed_items`: node ids of ours that were red; `reaped`: what killed sessions
    had left running, and was ended now; `all_selected`: no test of ours was left out by the way pytest was
    called, as far as that can be known.
    """

    def __init__(
        self, settings: Settings, *, now: Callable[[], dt.datetime], version: str, root: Path
    ) -> None:
        self.settings = settings
        self.started_at = now()
        stamp = self.started_at.astimezone(dt.UTC).strftime("%Y%m%dT%H%M%S")
        self.id = f"{stamp}-{secrets.token_hex(3)}"
        self.store = FolderStore(settings.store)
        self.declared: dict[str, Declared] = {}
        self.all_selected = True
        self.reference: tuple[SessionResult, ...] = ()
        self.comparisons: dict[str, tuple[Comparison, ...]] | None = None  # by key of the test
        self.changed: tuple[str, ...] = ()
        self.failed_items: set[str] = set()
        self.reaped: tuple[str, ...] = ()
        self.errors: list[str] = []
        self._version = version
        self._root = root
        self._runs: Runs | None = None

    # -- before anything boots ----------------------------------------------------------------------

    def open(self, declared: Sequence[Declared], *, all_selected: bool) -> None:
        """Take the selected tests, and refuse what can be known to fail.

        Raises:
            UsageError: no backend named where a gate needs one, an engine that cannot do what is asked, an
                unknown baseline.
        """
        self.all_selected = all_selected
        if not declared:
            return
        for name in (self.settings.save, self.settings.compare):
            if name is not None:
                check_name(name)
        self._refuse_default_backend(declared)
        self.reaped = remains.reap(files.running_folder())
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
        }
        why = [reason for reason, holds in reasons.items() if holds]
        if why and not all(d.backend_named for d in declared):
            raise UsageError(
                "no backend is named, and a gate must not run on a default one",
                seen=", ".join(why),
                do="write --infer-backend=llama.cpp (or another engine), or --infer-url=URL",
            )

    def _load_reference(self, name: str) -> tuple[SessionResult, ...]:
        if name not in self.store.names() and self.settings.record_missing:
            return ()
        return self.store.load(name)

    # -- measuring and judging ----------------------------------------------------------------------

    @property
    def run_dir(self) -> Path:
        """Logs and request rows of this session; made when it is asked for."""
        return self.store.run_folder(self.id)

    @property
    def runs(self) -> Runs:
        """What measures; made when it is first needed."""
        if self._runs is None:
            self._runs = Runs(self.settings, run_dir=self.run_dir, session_id=self.id)
            self._runs.declared = self.declared
        return self._runs

    def result(self, *, complete: bool, accepted: bool) -> SessionResult:
        """This session as a baseline stores it."""
        finished = self._runs.finished if self._runs else []
        return session_result(
            id=self.id,
            started_at=self.started_at,
            version=self._version,
            seed=self.settings.load.seed,
            boots=self.settings.boots,
            keys=self.settings.keys,
            root=self._root,
            tests=[done.result for done in finished if done.stored],
            complete=complete,
            accepted=accepted,
        )

    def judge(self) -> dict[str, tuple[Comparison, ...]]:
        """Compare with the baseline: key of a test -> its comparisons. Done once, over the whole family."""
        if self.comparisons is None:
            name = self.settings.compare
            assert name is not None
            current = self.result(complete=self.all_selected, accepted=False)
            found = gate.compare_session(current, self.reference, name=name, options=self.settings.judge)
            by_test: dict[str, list[Comparison]] = {}
            for comparison in found:
                by_test.setdefault(comparison.nodeid, []).append(comparison)
            self.comparisons = {key: tuple(items) for key, items in by_test.items()}
            if self.reference:
                self.changed = gate.changed_since(current, self.reference)
        return self.comparisons

    def comparisons_of(self, declared: Declared) -> tuple[Comparison, ...]:
        """Those of one test, its named runs included."""
        prefix = f"{declared.key}::"
        return tuple(
            comparison
            for key, items in self.judge().items()
            if key == declared.key or key.startswith(prefix)
            for comparison in items
        )

    @property
    def judged_nothing(self) -> bool:
        """The gate was asked, and weighed no comparison at all."""
        return not any(c.verdict.judged for items in self.judge().values() for c in items)

    # -- the end ------------------------------------------------------------------------------------

    @property
    def complete(self) -> bool:
        """Every test of ours was selected and measured."""
        wanted = {d.key for d in self.declared.values() if d.workload is not None}
        measured = {done.key for done in self.runs.finished if done.stored}
        return wanted <= measured and self.all_selected and not self.errors

    @property
    def accepted(self) -> bool:
        """Nothing of this session was red: it may serve as a reference."""
        return not self.failed_items and not any(
            c.verdict is ComparisonVerdict.REGRESSED
            for items in (self.comparisons or {}).values()
            for c in items
        )

    def save(self) -> list[str]:
        """Store this session where it was asked to; what was written, a line each.

        A session that was red is stored but not accepted as a reference.

        Raises:
            BaselineError: it could not be written.
        """
        names = [self.settings.save] if self.settings.save else []
        if self.settings.compare and self.recording:
            names.append(self.settings.compare)
        lines = []
        for name in dict.fromkeys(names):
            if not any(done.stored for done in self.runs.finished):
                lines.append(f"nothing was measured, so nothing was added to baseline {name}")
                continue
            result = self.result(complete=self.complete, accepted=self.accepted)
            before = self.store.load(name) if name in self.store.names() else ()
            path = self.store.save(name, result)
            said = "" if self.accepted else " (stored, but not accepted as a reference: the session was red)"
            lines.append(f"saved to baseline {name}: {path}{said}")
            lines += _doubts(result, before)
        return lines

    def close(self) -> None:
        """Stop the server; may be called again."""
        if self._runs is not None:
            self._runs.pool.finish()


def _doubts(result: SessionResult, before: Sequence[SessionResult]) -> list[str]:
    """What makes a saved session hard to trace later, a line each."""
    lines = []
    if result.source.get("dirty") == "true":
        lines.append("  warning: saved from a tree with uncommitted changes, which its commit does not show")
    branches = [session.source["branch"] for session in before if "branch" in session.source]
    here = result.source.get("branch")
    if here and branches and here != branches[-1]:
        lines.append(f"  warning: saved from branch {here}; the session before it came from {branches[-1]}")
    return lines
