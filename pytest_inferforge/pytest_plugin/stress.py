"""A stress run: the rate is raised until an SLO breaks, and the breaking point narrowed. Knows no pytest."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_inferforge import policy
from pytest_inferforge.policy import Consequence
from pytest_inferforge.records import RunVerdict
from pytest_inferforge.run import Step
from pytest_inferforge.slo import CAPACITY
from pytest_inferforge.units import format_value

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_inferforge.records import SloResult
    from pytest_inferforge.run import RunBoot
    from pytest_inferforge.workload.arrivals import Stress
    from pytest_inferforge.workload.spec import Workload

    MeasureStep = Callable[[Workload], RunBoot]
    JudgeStep = Callable[[RunBoot], Sequence[SloResult]]

_NARROWINGS = 2  # halvings, on the log scale, between what held and what broke


def measure(workload: Workload, measure_step: MeasureStep, judge_step: JudgeStep) -> RunBoot:
    """Measure step after step on one boot; its requests are those of the highest rate that held.

    A step at which the client did not keep up ends the raising: what the server bears is not known there.
    """
    stress = workload.stress
    assert stress is not None
    steps: list[Step] = []
    boots: dict[float, RunBoot] = {}
    notes: list[str] = []

    def run_step(rate_per_s: float) -> bool:
        """Whether every SLO held."""
        boot = measure_step(workload.at_rate(rate_per_s))
        boots[rate_per_s] = boot
        if boot.result.verdict is not RunVerdict.VALID:
            notes.append(
                f"the client could not measure {format_value(rate_per_s, 'req/s')}:"
                f" {'; '.join(boot.result.reasons)}"
            )
            raise _ClientGaveUpError
        broke = tuple(_words(r) for r in judge_step(boot) if policy.of_slo(r, "default") is Consequence.FAIL)
        steps.append(Step(rate_per_s=rate_per_s, broke=broke, metrics=boot.result.metrics))
        return not broke

    with contextlib.suppress(_ClientGaveUpError):
        _raise_and_narrow(stress, run_step)
    held = [step.rate_per_s for step in steps if not step.broke]
    if not steps:  # the first step is INVALID, and so is the whole
        return next(iter(boots.values()))
    shown = boots[max(held)] if held else boots[steps[0].rate_per_s]
    metrics = {**shown.result.metrics, CAPACITY: max(held, default=0.0)}
    return replace(
        shown, result=replace(shown.result, metrics=metrics), steps=tuple(steps), notes=(*notes, *shown.notes)
    )


class _ClientGaveUpError(Exception):
    pass


def _raise_and_narrow(stress: Stress, holds: Callable[[float], bool]) -> None:
    rate, held = stress.low_per_s, 0.0
    while holds(rate):
        held = rate
        if rate >= stress.high_per_s:
            return
        rate = min(rate * stress.factor, stress.high_per_s)
    broke = rate
    for _ in range(_NARROWINGS if held else 0):
        middle = round((held * broke) ** 0.5, 3)
        if holds(middle):
            held = middle
        else:
            broke = middle


def _words(result: SloResult) -> str:
    return f"{result.text}: {result.reason}"
