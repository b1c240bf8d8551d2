"""Between pytest and the session: items in, fixtures' values and reports out. Computes nothing itself."""

from __future__ import annotations

import datetime as dt
import functools
import itertools
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import pytest
from _pytest.runner import runtestprotocol

import pytest_inferforge
from pytest_inferforge import engines, policy
from pytest_inferforge.errors import InferforgeError, UsageError
from pytest_inferforge.pytest_plugin import FIXTURES, OUR_MARKERS, consequences, selection, settings, summary
from pytest_inferforge.pytest_plugin.declared import Declared, declare
from pytest_inferforge.pytest_plugin.items import RegressionItem
from pytest_inferforge.pytest_plugin.layers import Mark, filled
from pytest_inferforge.pytest_plugin.progress import ProgressLine
from pytest_inferforge.pytest_plugin.session import InferSession
from pytest_inferforge.report import document

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from pytest_inferforge.outcomes import QualityResult
    from pytest_inferforge.pytest_plugin.qualities import Quality, VariantQualities
    from pytest_inferforge.pytest_plugin.runs import Runs
    from pytest_inferforge.pytest_plugin.variants import VariantRuns
    from pytest_inferforge.run import Run
    from pytest_inferforge.servers.server import Server

T = TypeVar("T")
_EXITS = {
    0: "all tests passed",
    1: "tests failed",
    2: "interrupted",
    3: "internal error",
    4: "usage error",
    5: "no tests were selected",
}
DECLARED = pytest.StashKey[Declared]()
RUNS = pytest.StashKey["list[Run]"]()
VARIED = pytest.StashKey["VariantRuns"]()
QUALITY = pytest.StashKey["list[QualityResult]"]()


class InferforgeWarning(pytest.PytestWarning):
    """A verdict that leaves a test green, and should be known."""


class Adapter:
    """One pytest run."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        option = vars(config.option)
        try:
            for found in config.hook.pytest_inferforge_engines(config=config):
                engines.add(found, source="the hook pytest_inferforge_engines")
            self.settings = settings.read(
                option, config.rootpath, config.invocation_params.dir, settings.environment()
            )
            self.session = InferSession(
                self.settings,
                now=lambda: dt.datetime.now(dt.UTC),
                version=pytest_inferforge.__version__,
                root=config.rootpath,
                asked_for=functools.partial(selection.asked_for, config),
            )
        except InferforgeError as error:
            raise pytest.UsageError(str(error)) from error
        self._deselected: set[str] = set()
        self._by_hand: list[pytest.Function] = []  # tests under the gate that measure in their bodies
        self._bodies_run: set[str] = set()
        self._broken: dict[str, str] = {}  # tests executed for their comparison alone, and failed
        self._saved: list[str] = []
        self._progress = ProgressLine(config)

    # -- collection ---------------------------------------------------------------------------------

    def select(self, items: list[pytest.Item]) -> None:
        """Declare the selected tests and order them; whatever can be known to be wrong is said now."""
        faults: list[str] = []
        for item in items:
            if isinstance(item, RegressionItem):
                continue
            self._declare(item, faults)
        for item in items:
            if isinstance(item, RegressionItem):
                self._declare(item.original, faults)
                if DECLARED in item.original.stash:
                    item.stash[DECLARED] = item.original.stash[DECLARED]
                if "infer_load" in item.original.fixturenames:
                    self._by_hand.append(item.original)
        if faults:
            raise pytest.UsageError("\n".join(faults))
        declared = {
            item.stash[DECLARED].key: item.stash[DECLARED] for item in items if DECLARED in item.stash
        }
        try:
            self.session.open(
                list(declared.values()),
                all_selected=self._all_selected(),
                measures=not self.config.option.collectonly and not hasattr(self.config, "workerinput"),
            )
        except InferforgeError as error:
            raise pytest.UsageError(str(error)) from error
        items[:] = _ordered(items)

    def _all_selected(self) -> bool:
        return not self._deselected and not selection.narrowed(self.config)

    def deselect(self, items: Sequence[pytest.Item]) -> None:
        self._deselected |= {item.nodeid for item in items if not isinstance(item, RegressionItem)}

    def _declare(self, item: pytest.Item, faults: list[str]) -> None:
        if DECLARED in item.stash:
            return
        used = FIXTURES & set(getattr(item, "fixturenames", ()))
        own = {id(mark) for mark in item.own_markers}
        values = getattr(getattr(item, "callspec", None), "params", {})
        marks = [
            filled(Mark(name=mark.name, args=mark.args, kwargs=mark.kwargs, own=id(mark) in own), values)
            for mark in item.iter_markers()
            if mark.name in OUR_MARKERS
        ]
        if not used and not marks:
            return
        try:
            found = declare(item.nodeid, marks, used, self.settings, folder=item.path.parent)
        except InferforgeError as error:
            faults.append(f"{item.nodeid}: {error}")
            return
        if used:
            item.stash[DECLARED] = found

    def collection_lines(self) -> list[str]:
        """What will be run, and what the gate will be able to see."""
        return summary.collection_lines(self.session)

    # -- what fixtures give ---------------------------------------------------------------------------

    def server(self, item: pytest.Item) -> Server:
        return self._clean(lambda: self._runs().server(self._of(item).server))

    def restart(self, item: pytest.Item) -> Server:
        declared = self._of(item)
        self._runs().server(declared.server)
        self._runs().pool.restart()
        return self._runs().server(declared.server)

    def run(self, item: pytest.Item) -> Run | VariantRuns:
        declared = self._of(item)
        if declared.variants is not None:
            if declared.quality is not None:
                self.quality(item)  # on the last boot of each variant, after its load
            varied = self._clean(lambda: self._runs().variants(declared))
            _, *others = varied.values()  # the reference may miss an SLO
            item.stash.setdefault(RUNS, []).extend(others)
            item.stash[VARIED] = varied
            return varied
        run = self._clean(lambda: self._runs().run(declared))
        item.stash.setdefault(RUNS, []).append(run)
        return run

    def quality(self, item: pytest.Item) -> Quality | VariantQualities:
        """Evaluated after the load, whatever the order in which the test asks for the two."""
        declared = self._of(item)
        self._runs()
        grading = self.session.grading
        found: Quality | VariantQualities
        results: list[QualityResult]
        if declared.variants is not None:
            found = self._clean(lambda: grading.variants(declared))
            results = [*found.results]
            for one in list(found.values())[1:]:  # the reference may miss a floor
                results += one.results
        else:
            found = self._clean(lambda: grading.quality(declared))
            results = [*found.results]
        item.stash[QUALITY] = results
        return found

    def load(
        self, item: pytest.Item, arguments: Mapping[str, object], name: str | None, *, quiet: bool = False
    ) -> Run:
        runs = self._runs(quiet=quiet)
        try:
            run = runs.load(self._of(item), arguments, name)
        except InferforgeError as error:
            self.session.errors.append(str(error))
            raise
        finally:
            self._progress.clear()
        item.stash.setdefault(RUNS, []).append(run)
        return run

    def _runs(self, *, quiet: bool = False) -> Runs:
        """What measures; `quiet`: without the live line, which only the main thread may draw."""
        self._refuse_xdist()
        runs = self.session.runs
        runs.on_progress = None if quiet else self._progress.show
        runs.on_news = None if quiet else self._progress.say
        return runs

    def _of(self, item: pytest.Item) -> Declared:
        return item.stash[DECLARED]

    def _refuse_xdist(self) -> None:
        if hasattr(self.config, "workerinput"):
            raise UsageError(
                "load tests do not run under pytest-xdist",
                seen="-n with more than 0 workers",
                do="run them with -n 0: tests that measure must not run beside each other",
            )

    def _clean(self, work: Callable[[], T]) -> T:
        """Errors of ours are told without a traceback through our own code."""
        try:
            return work()
        except InferforgeError as error:
            message = str(error)
        finally:
            self._progress.clear()
        self.session.errors.append(message)
        return _fail(message)

    # -- verdicts -------------------------------------------------------------------------------------

    def before(self, item: pytest.Item) -> None:
        """Regression items selected without their tests: execute those first that measure in their bodies.

        All of them before the first comparison, because the comparisons are one family.
        """
        self._bodies_run.add(item.nodeid)
        if not isinstance(item, RegressionItem) or hasattr(self.config, "workerinput"):
            return
        waiting = [original for original in self._by_hand if original.nodeid not in self._bodies_run]
        for original, following in itertools.pairwise([*waiting, item]):
            self._bodies_run.add(original.nodeid)
            for report in runtestprotocol(original, log=False, nextitem=following):
                if report.failed:
                    self._broken[original.nodeid] = report.longreprtext

    def judge(self, item: pytest.Item, *, body_failed: bool) -> None:
        """Fail or warn by the SLOs of what this test measured."""
        runs, quality = item.stash.get(RUNS, []), item.stash.get(QUALITY, [])
        said = consequences.of_test(runs, item.stash.get(VARIED, None), quality, self.settings.policy)
        self._say(item, said)
        if not said.failure:
            return
        if body_failed:
            item.add_report_section("call", "inferforge", said.failure)
        else:
            _fail(said.failure)

    def _say(self, item: pytest.Item, said: consequences.Said) -> None:
        item.user_properties.extend(said.properties.items())
        for warning in said.warnings:
            item.warn(InferforgeWarning(warning))

    def compare(self, item: RegressionItem) -> None:
        """Run by a regression item: measure what is missing, judge the whole family, speak for one test."""
        declared = self._of(item)
        self._clean(lambda: self._measure_missing(declared))
        found = self._clean(lambda: self.session.comparisons_of(declared))
        quality = self._clean(lambda: self.session.quality_of(declared))
        if not found and not quality:
            _nothing_gated(item.original.nodeid, self._broken, self.session.failed_items)
        unjudged = None
        if self.session.judged_nothing:
            unjudged = policy.of_unjudged(self.settings.policy, recording=self.session.recording)
        said = consequences.of_regression(
            found,
            quality,
            self.settings.policy,
            unjudged=unjudged,
            changed=self.session.changed,
            moved=self.session.moved_with(declared) if found else (),
        )
        self._say(item, said)
        if said.failure:
            profile = self._clean(lambda: self._runs().profile(declared))
            _fail(said.failure if profile is None else f"{said.failure}\n  {profile}")

    def _measure_missing(self, declared: Declared) -> None:
        runs = self._runs()
        if declared.workload is not None:
            runs.run(declared)
        if declared.quality is not None:
            self.session.grading.quality(declared)
        if self.session.comparisons is None:
            for other in self.session.declared.values():
                if other.workload is not None and not other.variants and not runs.knows(other.key):
                    self._try(other)
                if other.quality is not None and not other.variants:
                    self._try_quality(other)

    def _try(self, declared: Declared) -> None:
        try:
            self.session.runs.run(declared)
        except InferforgeError as error:
            self.session.errors.append(str(error))  # its own item says it

    def _try_quality(self, declared: Declared) -> None:
        if self.session.grading.knows(declared.key):
            return
        try:
            self.session.grading.quality(declared)
        except InferforgeError as error:
            self.session.errors.append(str(error))  # its own item says it

    def reported(self, item: pytest.Item, report: pytest.TestReport) -> None:
        if report.failed and DECLARED in item.stash:
            self.session.failed_items.add(item.nodeid)

    # -- the end --------------------------------------------------------------------------------------

    def finish(self, exitstatus: int) -> int:
        """Stop the server, save what is to be saved, write the JSON; returns the exit status.

        Under xdist nothing was measured.
        """
        self._progress.clear()
        self.session.close()
        if hasattr(self.config, "workerinput") or not self.session.declared or self.settings.gate.plan:
            return exitstatus
        try:
            self._saved = self.session.save()
        except (InferforgeError, OSError) as error:
            said = f"this session could not be saved: {error}"
            self._saved = [said]
            self.session.errors.append(said)
            exitstatus = exitstatus or int(pytest.ExitCode.TESTS_FAILED)
        if self.session.incomplete_fails:
            exitstatus = exitstatus or int(pytest.ExitCode.TESTS_FAILED)
        if self.settings.json_path is not None:
            document.write(self.settings.json_path, summary.content(self.session, _EXITS.get(exitstatus, "")))
        return exitstatus

    def summarize(self, terminal: Any) -> None:
        if not self.session.declared or self.config.option.collectonly or self.settings.gate.plan:
            return
        terminal.section("inferforge", sep="=")
        for line in summary.summary(self.session, self._saved):
            terminal.write_line(line.text, **line.markup)

    def close(self) -> None:
        self.session.close()


def _ordered(items: list[pytest.Item]) -> list[pytest.Item]:
    """As few boots as possible: equal servers together, where the first stood, load before quality.
    Comparisons last.
    """
    first: dict[object, int] = {}
    ranks: list[tuple[int, bool, int, pytest.Item]] = []
    comparisons: list[pytest.Item] = []
    for place, item in enumerate(items):
        if isinstance(item, RegressionItem):
            comparisons.append(item)
            continue
        declared = item.stash.get(DECLARED, None)
        rank = place if declared is None else first.setdefault(declared.server, place)
        graded = declared is not None and declared.quality is not None
        ranks.append((rank, graded, place, item))
    return [item for *_, item in sorted(ranks, key=lambda r: r[:3])] + comparisons


def _nothing_gated(nodeid: str, broken: Mapping[str, str], failed: Collection[str]) -> NoReturn:
    """Why a test under the gate has no comparison."""
    if nodeid in broken:
        _fail(f"{nodeid} was executed for its comparison, and failed\n{broken[nodeid]}")
    if nodeid in failed:
        pytest.skip("its test failed before it had measured anything that is gated")
    pytest.skip("nothing of this test is gated: it has no run of its own and no infer_load(name=...)")


def _fail(message: str) -> NoReturn:
    pytest.fail(message, pytrace=False)
