"""A measured run and the test's SLOs: what each says, of the whole and of each class. Knows no pytest."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_inferforge import measures
from pytest_inferforge import slo as slos

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_inferforge.options import JudgeOptions
    from pytest_inferforge.records import SloResult
    from pytest_inferforge.run import Run, RunBoot
    from pytest_inferforge.slo import Slo
    from pytest_inferforge.table import RequestTable


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
    return slos.judge(check, tables, options=options, limits=limits, evidence=evidence)


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
    )
    return replace(boot, requests=table, result=result)
