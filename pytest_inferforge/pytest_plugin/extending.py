"""How long one boot is measured: as planned, ended early, or measured on. Knows no pytest."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_inferforge import slo as slos
from pytest_inferforge.pytest_plugin import judging
from pytest_inferforge.pytest_plugin.stopping import Stopping
from pytest_inferforge.records import RunVerdict, SloVerdict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_inferforge.loadgen.fleet import Enough
    from pytest_inferforge.options import JudgeOptions
    from pytest_inferforge.records import SloResult
    from pytest_inferforge.run import RunBoot
    from pytest_inferforge.slo import Slo
    from pytest_inferforge.workload.schedule import Schedule
    from pytest_inferforge.workload.spec import Workload

    StoppingOf = Callable[[Schedule], Enough]
    MeasurePiece = Callable[[Workload, StoppingOf | None], RunBoot]
    JudgeBoot = Callable[[RunBoot], Sequence[SloResult]]


def measure(
    workload: Workload,
    checks: Sequence[Slo],
    options: JudgeOptions,
    *,
    measure_piece: MeasurePiece,
    judge: JudgeBoot,
) -> RunBoot:
    """Measure a workload on a boot, and further pieces of it while something that was asked for is undecided.

    A piece is the workload with the next seed. `judge`: what a boot and its further pieces say of `checks`,
    the error check among them, each with its SLO's text. Of a boot with further pieces the result, and so
    what baselines compare, stays that of the planned piece.
    """
    if workload.stress:
        return measure_piece(workload, None)
    awaited = list(checks) or judging.with_error_check((), options)
    by_share = [check for check in awaited if slos.sequential_clause(check)]
    notes = []
    early = workload.stop == "early"
    if early and len(by_share) < len(awaited):
        others = ", ".join(check.text for check in awaited if check not in by_share)
        notes.append(f"not ended early, because the whole run is needed for: {others}")
        early = False

    def piece(part: Workload, before: RunBoot | None) -> RunBoot:
        tables = () if before is None else (before.requests, *before.further)

        def stopping(schedule: Schedule) -> Enough:
            return Stopping(by_share, options, schedule.requests, classes=workload.class_names, before=tables)

        return measure_piece(part, stopping if early else None)

    found = piece(workload, None)
    wanted = {check.text for check in by_share}
    for k in range(1, options.extend):
        if found.result.verdict is RunVerdict.INVALID or found.stopped:
            break
        open_ = [r.text for r in judge(found) if r.text in wanted and r.verdict is SloVerdict.INCONCLUSIVE]
        if not open_:
            break
        more = piece(replace(workload, seed=workload.seed + k), found)
        if more.result.verdict is RunVerdict.INVALID:
            notes.append(f"not measured on: the next piece was INVALID: {'; '.join(more.result.reasons)}")
            break
        found = replace(found, further=(*found.further, more.requests))
        if more.stopped:
            break
    return replace(found, notes=(*_said(found, workload), *notes, *found.notes))


def _said(boot: RunBoot, workload: Workload) -> list[str]:
    """How long it was measured, where that is not as planned."""
    planned = len(boot.requests)
    if boot.further:
        total = planned + sum(map(len, boot.further))
        return [
            f"measured on, because an SLO was inconclusive: {total} requests where {planned} were planned"
        ]
    if boot.stopped:
        asked = workload.expected_requests
        of = f" of {asked}" if asked else ""
        return [f"ended early after {planned}{of} requests: every SLO was decided"]
    return []
