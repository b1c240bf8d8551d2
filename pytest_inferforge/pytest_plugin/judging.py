"""A measured run and the test's SLOs: what each says, of the whole and of each class. Knows no pytest."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_inferforge import measures
from pytest_inferforge import slo as slos
from pytest_inferforge.errors import MeasuringError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_inferforge.options import JudgeOptions
    from pytest_inferforge.records import BootResult, SloResult
    from pytest_inferforge.run import Run, RunBoot
    from pytest_inferforge.slo import Slo
    from pytest_inferforge.table import RequestTable
    from pytest_inferforge.workload.spec import Workload


CLASS = "::class="


def judged(run: Run, checks: Sequence[Slo], options: JudgeOptions) -> Run:
    """The run with its SLOs judged, those of its classes too. A run without a valid boot is not judged.

    Of a stress run only its capacity is: breaking the others is what it is for.
    """
    if run.valid_boots:
        wanted = with_error_check(checks, options)
        if run.workload.stress:
            wanted = [check for check in wanted if check.metric.id == slos.CAPACITY]
        run = replace(run, slos=tuple(judge(check, run, checks, options) for check in wanted))
    return with_classes(run, checks)


def with_classes(run: Run, checks: Sequence[Slo]) -> Run:
    """The run with the requests of each class apart."""
    return replace(run, classes=tuple(_of_class(run, name, checks) for name in run.workload.class_names))


def class_key(key: str, class_name: str) -> str:
    """What the results of one class of a run's requests stand under."""
    return f"{key}{CLASS}{class_name}"


def results_by_key(key: str, run: Run) -> dict[str, BootResult]:
    """The newest boot of a run and of each of its classes."""
    return {
        key: run.boots[-1].result,
        **{class_key(key, c.class_name): c.boots[-1].result for c in run.classes},
    }


def planned_pairs(asked: int | None, boot_s: float, options: JudgeOptions) -> int:
    """Rounds of boots in turns: as asked, else fewer where boots are slow."""
    slow = boot_s >= options.slow_boot_s
    return asked or (options.pairs_of_slow_boots if slow else options.pairs_of_boots)


def check_enough(checks: Sequence[Slo], workload: Workload, options: JudgeOptions, *, boots: int) -> None:
    """Refuse an SLO that this number of requests, or of boots, can never show.

    Raises:
        MeasuringError: of that test alone.
    """
    stress = workload.stress
    step = workload if stress is None else workload.at_rate(stress.high_per_s)
    for check in checks:
        if check.confidence == "deploy" and boots < options.deploy_boots:
            raise MeasuringError(
                f'"{check.text}" is asked of the next boot, and {boots} can never show that',
                seen=f'confidence="deploy", {_boots(boots)}',
                do=f"run with --infer-boots={options.deploy_boots} or more; infer_load has one boot only",
            )
        expected = step.expected_of(check.of) if check.of else step.expected_requests
        early = workload.stop == "early"
        needed = slos.least_requests(check, options, boots=boots, stops_early=early)
        if needed is not None and expected is not None and expected * boots < needed:
            raise MeasuringError(
                f'"{check.text}" can never be shown with {expected * boots} requests',
                seen=f"{workload.describe()}, {_boots(boots)}",
                do=f"ask for at least {needed} requests, or for a lower quantile",
            )


def _boots(boots: int) -> str:
    return f"{boots} boot" if boots == 1 else f"{boots} boots"


def with_error_check(checks: Sequence[Slo], options: JudgeOptions) -> list[Slo]:
    """The test's SLOs and the error check, unless it has one of its own."""
    wanted = list(checks)
    if not any(check.metric.quantity.id == "error_ratio" and not check.of for check in wanted):
        implied = slos.parse(f"error rate <= {options.error_limit * 100:g} %")
        wanted.append(replace(implied, implicit=True))
    return wanted


def judge(check: Slo, run: Run, checks: Sequence[Slo], options: JudgeOptions) -> SloResult:
    """One SLO on the valid boots of a run."""
    tables = [_table(boot.requests, check.of) for boot in run.valid_boots]
    limits = slos.per_request_limits(checks, check.of)
    evidence = [_evidence(boot) for boot in run.valid_boots]
    looking = _looking(run, check.of, options)
    return slos.judge(check, tables, options=options, limits=limits, evidence=evidence, looking=looking)


def _looking(run: Run, of: str, options: JudgeOptions) -> slos.Looking | None:
    """None: nothing that was seen meanwhile could change how long it ran."""
    if run.workload.stress or (run.workload.stop == "planned" and options.extend == 1):
        return None
    return slos.Looking(
        further=tuple(tuple(_table(more, of) for more in boot.further) for boot in run.valid_boots),
        stopped=any(boot.stopped for boot in run.valid_boots),
    )


def _table(table: RequestTable, of: str) -> RequestTable:
    return table.of_class(of) if of else table


def _evidence(boot: RunBoot) -> slos.Evidence:
    """A stress run held at one rate and broke at the next one that was tried."""
    held = [step.rate_per_s for step in boot.steps if not step.broke]
    broke = [step.rate_per_s for step in boot.steps if step.broke]
    capacity = (max(held, default=0.0), min(broke, default=None)) if boot.steps else None
    return slos.Evidence(
        capacity_req_per_s=capacity, server_memory=boot.server_memory, metrics=boot.result.metrics
    )


def _of_class(run: Run, name: str, checks: Sequence[Slo]) -> Run:
    limits = slos.per_request_limits(checks, name)
    return replace(
        run,
        class_name=name,
        limits=limits,
        slos=tuple(r for r in run.slos if r.class_name == name),
        boots=tuple(_boot_of_class(boot, name, limits) for boot in run.boots),
    )


def _boot_of_class(boot: RunBoot, name: str, limits: measures.Limits) -> RunBoot:
    table = boot.requests.of_class(name)
    result = replace(
        boot.result,
        requests=table.request_counts(),
        metrics=measures.all_metrics(table, limits),
        tails=measures.tails(table),
    )
    further = tuple(more.of_class(name) for more in boot.further)
    return replace(boot, requests=table, result=result, further=further)
