"""Evaluating what tests declare: once each, after their load. Knows no pytest."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from pytest_inferforge.errors import InferforgeError, MeasuringError
from pytest_inferforge.gate.pairing import unjudgeable
from pytest_inferforge.gate.quality import floor
from pytest_inferforge.options import QualityOptions
from pytest_inferforge.outcomes import QualityKind
from pytest_inferforge.pytest_plugin.measuring import server_died
from pytest_inferforge.pytest_plugin.pairing import Pairing, decided
from pytest_inferforge.pytest_plugin.qualities import Quality, VariantQualities, by_task
from pytest_inferforge.quality import evaluating
from pytest_inferforge.quality.evaluation import Evaluation, Job, Target
from pytest_inferforge.units import format_value

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from pytest_inferforge.outcomes import Outcomes, QualityResult
    from pytest_inferforge.pytest_plugin.declared import Declared
    from pytest_inferforge.pytest_plugin.pairing import Sides
    from pytest_inferforge.pytest_plugin.quality_words import Asked
    from pytest_inferforge.pytest_plugin.runs import Runs
    from pytest_inferforge.pytest_plugin.settings import Settings
    from pytest_inferforge.run import RunBoot
    from pytest_inferforge.servers.server import Server
    from pytest_inferforge.servers.spec import ServerSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Graded:
    """A test whose quality was looked at; of variants, on one of them. `key`: what it is reported under."""

    key: str
    declared: Declared
    quality: Quality


class Grading:
    """The qualities of a session, each evaluated once.

    `finished`: all of them, in the order in which they were evaluated. `evaluations`: how many there were.
    `spent_s`: of the budget, by second boots.
    """

    def __init__(self, runs: Runs, settings: Settings, *, run_dir: Path) -> None:
        self.finished: list[Graded] = []
        self.evaluations = 0
        self.spent_s = 0.0
        self._runs = runs
        self._settings = settings
        self._run_dir = run_dir
        self._known: dict[str, Quality | VariantQualities | InferforgeError] = {}

    def knows(self, key: str) -> bool:
        """Whether a test was evaluated, or tried."""
        return key in self._known

    def quality(self, declared: Declared) -> Quality:
        """A test's quality on the boot that its load was measured on last.

        Raises:
            UsageError, EngineError, MeasuringError: it could not be evaluated; the same error each time.
        """
        found = self._once(declared, lambda: self._on_one(declared))
        assert isinstance(found, Quality)
        return found

    def variants(self, declared: Declared) -> VariantQualities:
        """A test's quality on each of its variants, the others paired with the first.

        Raises:
            UsageError, EngineError, MeasuringError: as of `quality`.
        """
        found = self._once(declared, lambda: self._on_each(declared))
        assert isinstance(found, VariantQualities)
        return found

    @property
    def varied(self) -> dict[str, VariantQualities]:
        """By key of the test."""
        return {key: found for key, found in self._known.items() if isinstance(found, VariantQualities)}

    def again(self, declared: Declared, spec: ServerSpec, tasks: Sequence[str], *, after_s: float) -> Quality:
        """Some tasks on a fresh boot, under load too where that was asked for. `after_s`: how long it took
        before.

        Raises:
            UsageError, EngineError, MeasuringError: as of `quality`, and when the budget does not last.
        """
        cost_s = self._runs.pool.boot_s.get(spec, 0.0) + after_s
        left_s = self._settings.gate.budget_s - self.spent_s
        if cost_s > left_s:
            raise MeasuringError(
                f"looks worse, and a second boot would take about {format_value(cost_s, 's')}:"
                f" {format_value(max(0.0, left_s), 's')} of the budget are left (--infer-budget)"
            )
        began = time.monotonic()
        assert declared.quality is not None
        some = tuple(task for task in declared.quality.tasks if task.name in tasks)
        one = replace(declared, server=spec, quality=replace(declared.quality, tasks=some))
        try:
            return self._on(one, self._fresh(spec), judged=False)
        finally:
            self.spent_s += time.monotonic() - began

    def of_reference(self, declared: Declared) -> Quality:
        """The same on the server that is the reference of this session.

        Raises:
            UsageError, EngineError, MeasuringError: as of `quality`.
        """
        return self._on(declared, self._fresh(declared.server), judged=False)

    def _once(
        self, declared: Declared, evaluate: Callable[[], Quality | VariantQualities]
    ) -> Quality | VariantQualities:
        if declared.key not in self._known:
            try:
                self._known[declared.key] = evaluate()
            except InferforgeError as error:
                self._known[declared.key] = error
        found = self._known[declared.key]
        if isinstance(found, InferforgeError):
            raise found
        return found

    # -- one server ---------------------------------------------------------------------------------

    def _on_one(self, declared: Declared) -> Quality:
        if declared.workload is not None:
            self._runs.run(declared)
        return self._kept(declared.key, declared, self._on(declared, self._runs.server(declared.server)))

    def _kept(self, key: str, declared: Declared, quality: Quality) -> Quality:
        self.finished.append(Graded(key=key, declared=declared, quality=quality))
        return quality

    def _on(self, declared: Declared, server: Server, *, variant: str = "", judged: bool = True) -> Quality:
        """What a running server answers, and where it was asked for, what it answers under load."""
        asked = self._asked(declared)
        quiet = asked if asked.under_load is None else replace(asked, concurrency=1)
        repeat = QualityOptions().repeat_items if self._settings.save and judged else 0
        found = Quality(
            nodeid=declared.nodeid,
            variant=variant,
            server_number=server.number,
            evaluation=self._evaluated(declared, quiet, server, repeat=repeat),
        )
        if self._settings.quick:
            return found
        if asked.under_load is not None:
            loaded, load = self._under_load(declared, replace(asked, concurrency=asked.under_load), server)
            found = replace(found, loaded=loaded, load=load)
        return replace(found, results=self._judged(declared, found)) if judged else found

    def _judged(self, declared: Declared, found: Quality) -> tuple[QualityResult, ...]:
        """Floors, and what load does."""
        asked, options = self._asked(declared), self._settings.judge
        key = gate_key(declared, found.variant) if found.variant else declared.key
        floors = tuple(
            floor(found.outcomes[task], limit, nodeid=key, options=options)
            for task, limit in asked.at_least.items()
        )
        if found.loaded is None:
            return floors

        def again(tasks: Sequence[str]) -> Sides:
            second = self.again(declared, declared.server, tasks, after_s=found.seconds)
            assert second.loaded is not None
            return by_task(second.loaded), second.outcomes

        pairing = Pairing(
            key=key,
            kind=QualityKind.UNDER_LOAD,
            current=by_task(found.loaded),
            base=found.outcomes,
            reference="the same boot without load",
            margin=asked.not_worse_than,
            again=again,
        )
        return floors + decided([pairing], family=len(asked.tasks), options=options)[key]

    # -- variants -----------------------------------------------------------------------------------

    def _on_each(self, declared: Declared) -> VariantQualities:
        assert declared.variants is not None
        taken: dict[str, Quality] = {}
        specs = dict(declared.variants.servers)

        def take(name: str, server: Server) -> None:
            taken[name] = self._on(replace(declared, server=specs[name]), server, variant=name)

        if declared.workload is not None:
            self._runs.variants(declared, on_last=take)
        for name, spec in specs.items():
            if name not in taken:
                take(name, self._fresh(spec))
        found = {
            name: self._kept(gate_key(declared, name), replace(declared, server=spec), taken[name])
            for name, spec in specs.items()
        }
        results = () if self._settings.quick else self._paired(declared, specs, found)
        return VariantQualities(qualities=found, results=results)

    def _paired(
        self, declared: Declared, specs: Mapping[str, ServerSpec], found: Mapping[str, Quality]
    ) -> tuple[QualityResult, ...]:
        """Each of the others with the first; what looks worse is asked again of a fresh boot of both."""
        asked = self._asked(declared)
        first, *others = found
        pairings = [
            self.pairing(
                replace(declared, server=specs[name]),
                key=gate_key(declared, name),
                quality=found[name],
                base=found[first].outcomes,
                reference=f"variant:{first}",
                second_base=partial(self._second_base, replace(declared, server=specs[first]), found[first]),
            )
            for name in others
        ]
        family = (len(declared.gated) + len(asked.tasks)) * len(others)
        results = decided(pairings, family=family, options=self._settings.judge)
        return tuple(result for part in results.values() for result in part)

    def _second_base(
        self, declared: Declared, before: Quality, tasks: Sequence[str]
    ) -> Mapping[str, Outcomes]:
        """The reference's own second boot, so that the luck of its first one does not count twice."""
        return self.again(declared, declared.server, tasks, after_s=before.seconds).outcomes

    def pairing(
        self,
        declared: Declared,
        *,
        key: str,
        quality: Quality,
        base: Mapping[str, Outcomes],
        reference: str,
        second_base: Callable[[Sequence[str]], Mapping[str, Outcomes]],
    ) -> Pairing:
        """A test's tasks beside a reference's, to be asked again of a fresh boot of the same server.

        `second_base`: what that one is paired with.
        """

        def again(tasks: Sequence[str]) -> Sides:
            second = self.again(declared, declared.server, tasks, after_s=quality.seconds).outcomes
            return second, second_base(tasks)

        return Pairing(
            key=key,
            kind=QualityKind.NOT_WORSE_THAN,
            current=quality.outcomes,
            base=base,
            reference=reference,
            margin=self._asked(declared).not_worse_than,
            again=again,
        )

    # -- asking -------------------------------------------------------------------------------------

    def _asked(self, declared: Declared) -> Asked:
        assert declared.quality is not None
        return declared.quality

    def _fresh(self, spec: ServerSpec) -> Server:
        self._runs.pool.fresh(spec)
        return self._runs.server(spec)

    def _evaluated(self, declared: Declared, asked: Asked, server: Server, *, repeat: int = 0) -> Evaluation:
        """One evaluation on a running server.

        Raises:
            MeasuringError: too much of it went unanswered.
        """
        self.evaluations += 1
        server.reset_cache()
        found = evaluating.evaluate(
            _job(asked, server, repeat),
            folder=self._run_dir / f"quality-{self.evaluations}",
            on_progress=self._progress(declared),
        )
        if not server.alive():
            raise server_died(server, declared.nodeid)
        if not self._settings.quick:
            for outcomes in found.tasks:
                if (why := unjudgeable(outcomes, self._settings.judge)) is not None:
                    raise MeasuringError(
                        f"the quality of {declared.nodeid} could not be judged: {outcomes.task}",
                        seen=why,
                        do="read the server's log; a score over what it did answer would say nothing",
                    )
        return found

    def _progress(self, declared: Declared) -> Callable[[int, int], None]:
        name = declared.nodeid.rpartition("::")[2]

        def show(done: int, total: int) -> None:
            if self._runs.on_news is not None:
                self._runs.on_news(f"quality of {name}: {done}/{total} requests")

        return show

    def _under_load(self, declared: Declared, asked: Asked, server: Server) -> tuple[Evaluation, str]:
        """The same items while the test's load runs, and what ran."""
        planned = declared.workload
        assert planned is not None
        over = threading.Event()
        boots: list[RunBoot] = []
        faults: list[InferforgeError] = []

        def drive() -> None:
            try:
                while not over.is_set():
                    workload = replace(planned, seed=planned.seed + 1 + len(boots))
                    boots.append(
                        self._runs.measure(
                            declared,
                            workload,
                            server,
                            boot=1,
                            stopping=lambda _schedule: lambda _new, _progress: over.is_set(),
                        )
                    )
            except InferforgeError as error:
                faults.append(error)

        thread = threading.Thread(target=drive, name="inferforge-load", daemon=True)
        thread.start()
        try:
            found = self._evaluated(declared, asked, server)
        finally:
            over.set()
            thread.join()
        if faults:
            raise faults[0]
        sent = sum(boot.result.requests.issued for boot in boots)
        return found, f"{sent} requests of {planned.describe()}"


def gate_key(declared: Declared, variant: str) -> str:
    """What the quality of a variant is reported under."""
    return f"{declared.key}::variant={variant}"


def _job(asked: Asked, server: Server, repeat: int) -> Job:
    return Job(
        target=Target(
            url=server.url,
            model=server.model,
            dialect=server.dialect_name,
            api_key_env=server.spec.api_key_env,
            ca_file=server.spec.ca_file,
            verify_tls=server.spec.verify_tls,
            proxies=server.spec.proxies,
        ),
        tasks=asked.tasks,
        limit=asked.limit,
        chat=asked.chat,
        concurrency=asked.concurrency,
        seed=asked.seed,
        timeout_s=asked.timeout_s,
        retries=asked.retries,
        repeat=repeat,
        max_gen_toks=asked.max_gen_toks,
    )
