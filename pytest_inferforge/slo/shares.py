"""Quantiles and shares: each request misses the clause or does not, and a binomial law judges how many do."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pytest_inferforge import measures
from pytest_inferforge.records import SloResult, SloVerdict
from pytest_inferforge.slo.clause import needed
from pytest_inferforge.slo.evidence import common_notes, result_of, too_few_boots, undecided
from pytest_inferforge.slo.rules import Fixed, Rule, looked
from pytest_inferforge.stats import intervals, sequential
from pytest_inferforge.units import format_value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_inferforge.measures import Bools, Floats, Limits
    from pytest_inferforge.options import JudgeOptions
    from pytest_inferforge.slo.clause import Slo
    from pytest_inferforge.table import RequestTable


@dataclass(frozen=True, slots=True, kw_only=True)
class Looking:
    """How a test's runs were taken that were looked at meanwhile.

    `further`: of each boot, what was measured beyond the planned requests. `stopped`: a run was ended before
    all planned requests were sent.
    """

    further: tuple[tuple[RequestTable, ...], ...] = ()
    stopped: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The counted requests of some runs, in the order of their schedule.

    `over`: bool (k,), misses the clause. `column`: float64 (k,), its latency, +inf of a failed request, NaN
    where only is known that it is above the limit; all NaN where the clause is on no latency.
    """

    over: Bools
    column: Floats


def sequential_clause(slo: Slo) -> bool:
    """Whether a run may be ended or extended for this clause: it is a share of this boot's requests."""
    return slo.allowed_share is not None and slo.confidence == "boot"


def outcomes(slo: Slo, table: RequestTable, limits: Limits) -> tuple[Bools, Bools, Floats]:
    """Of every request, each (n,): whether it counts, whether it misses, its latency as in `Sample`."""
    quantity, nothing = slo.metric.quantity.id, np.full(len(table), math.nan)
    if quantity == "error_ratio":
        return table.ok | table.failed, table.failed, nothing
    if quantity == "goodput_ratio":
        counted, good = measures.goodness(table, limits)
        return counted, ~good, nothing
    return measures.outcomes(table, quantity, slo.limit, slo.op)


def decided(slo: Slo, sample: Sample, options: JudgeOptions) -> bool:
    """Whether the requests of one boot, as far as they are known without a gap, decide a clause already."""
    at = sequential.looks(len(sample.over), every=options.look_every, first=options.look_first)
    if slo.allowed_share is None or not len(at):
        return False
    n = int(at[-1])  # what comes after it is for the next look
    known = Sample(over=sample.over[:n], column=sample.column[:n])
    all_planned = np.ones(n, dtype=bool)
    rule = looked(_latencies([known]), [n], all_planned, slo.allowed_share, options, stopped=True)
    return rule.verdict(known.over) is not SloVerdict.INCONCLUSIVE


def least_requests(slo: Slo, options: JudgeOptions, *, boots: int, stops_early: bool = False) -> int | None:
    """The fewest planned requests, of all boots, that can show a clause to hold; None: no such number."""
    share = slo.allowed_share
    if share is None:
        return None
    if slo.confidence == "deploy":
        factor = intervals.next_boot_factor(boots, options.alpha) if boots > 1 else 1.0
        return math.ceil((needed(slo, options.alpha) or 0) * factor)
    if options.extend == 1 and not stops_early:
        return needed(slo, options.alpha)
    alpha = options.alpha / 2.0
    by_looks = sequential.needed_trials(share, alpha, first=options.look_first)
    return min(needed(slo, alpha) or 0, math.ceil(by_looks / options.extend))


def judge_share(
    slo: Slo,
    allowed: float,
    boots: Sequence[RequestTable],
    options: JudgeOptions,
    limits: Limits,
    looking: Looking | None,
) -> SloResult:
    """As `slo.judge`; `looking`: the run was looked at while it ran."""
    further = looking.further if looking and looking.further else ((),) * len(boots)
    planned = [_sample(slo, [table], limits) for table in boots]
    whole = [_sample(slo, [table, *more], limits) for table, more in zip(boots, further, strict=True)]
    counted = [k for k, sample in enumerate(whole) if len(sample.over)]
    planned, whole = [planned[k] for k in counted], [whole[k] for k in counted]
    if not whole:
        return undecided(slo, "nothing was measured: no request could be counted")
    if slo.confidence == "deploy" or looking is None:
        whole = planned
        if said := too_few_boots(slo, len(planned), options):
            return undecided(slo, said)
    rule = _rule(slo, allowed, planned, whole, options, looking)
    over = np.concatenate([sample.over for sample in whole])
    n, x, effect = len(over), int(over.sum()), rule.effect(over)
    verdict = rule.verdict(over)
    low, high = rule.share_bounds(over)
    if slo.metric.quantile is None:
        value, lower, upper = _share_in_unit(slo, x / n, low, high)
    else:
        value, lower, upper = _quantile(slo, whole, rule, over, verdict)
    reason = _reason(slo, verdict, over, rule, (low, high), options.alpha, boots=len(whole))
    return result_of(slo, verdict, value, lower, upper, n, "requests", reason, effect=effect)


def _sample(slo: Slo, tables: Sequence[RequestTable], limits: Limits) -> Sample:
    parts = [outcomes(slo, table, limits) for table in tables]
    return Sample(
        over=np.concatenate([over[counted] for counted, over, _ in parts]),
        column=np.concatenate([column[counted] for counted, _, column in parts]),
    )


def _rule(
    slo: Slo,
    allowed: float,
    planned: Sequence[Sample],
    whole: Sequence[Sample],
    options: JudgeOptions,
    looking: Looking | None,
) -> Rule:
    sizes = [len(sample.over) for sample in whole]
    strict = slo.metric.quantile is None and slo.op in ("<", ">")  # a quantile's misses know their operator
    if looking is None or slo.confidence == "deploy":
        deploy = slo.confidence == "deploy"
        return Fixed(
            sizes=tuple(sizes),
            allowed=allowed,
            alpha=options.alpha,
            batches=options.batches,
            factor=intervals.next_boot_factor(len(sizes), options.alpha) if deploy else 1.0,
            strict=strict,
        )
    first = [np.arange(len(all_.over)) < len(some.over) for some, all_ in zip(planned, whole, strict=True)]
    return looked(
        _latencies(whole), sizes, np.concatenate(first), allowed, options,
        stopped=looking.stopped, strict=strict,
    )  # fmt: skip


def _latencies(samples: Sequence[Sample]) -> list[Floats]:
    """Of each boot, where the clause is on one; what is only known to be above the limit is infinite."""
    if all(np.isnan(sample.column).all() for sample in samples):
        return []
    return [np.nan_to_num(sample.column, nan=math.inf, posinf=math.inf) for sample in samples]


# -- in the metric's unit --------------------------------------------------------------------------------


def _share_in_unit(
    slo: Slo, share: float, low: float, high: float
) -> tuple[float, float | None, float | None]:
    """Value, lower and upper: of what misses for an error ratio, of what meets for a goodput ratio."""
    if slo.metric.quantity.direction == "lower":
        return share, low, high
    return 1.0 - share, 1.0 - high, 1.0 - low


def _quantile(
    slo: Slo, samples: Sequence[Sample], rule: Rule, over: Bools, verdict: SloVerdict
) -> tuple[float, float | None, float | None]:
    """The pooled quantile with its bounds in the metric's unit; an infinite upper bound is None.

    The bounds are the limits at which the rule begins to say pass, and fails to say fail. A request cut when
    it was already older than the limit is only known to be above it: it stands just above the limit for the
    value and the lower bound, and at infinity for the upper one.
    """
    column = np.concatenate([sample.column for sample in samples])
    at_least = np.where(np.isnan(column), math.nextafter(slo.limit, math.inf), column)
    at_most = np.where(np.isnan(column), math.inf, column)
    value = measures.statistic(at_least, slo.metric.statistic or "")
    x = int(over.sum())

    def keeps(more: Bools) -> bool:  # what is said of the limit holds of any other on that side of it
        if verdict is SloVerdict.PASS and more.sum() <= x:
            return True
        return not (verdict is not SloVerdict.PASS and more.sum() >= x) and rule.keeps(more)

    def misses(more: Bools) -> bool:
        if verdict is SloVerdict.FAIL and more.sum() >= x:
            return True
        return not (verdict is not SloVerdict.FAIL and more.sum() <= x) and rule.misses(more)

    lower = intervals.quantile_lower(at_least, misses)
    upper = intervals.quantile_upper(at_most, keeps)
    return math.inf if value is None else value, lower, None if upper == math.inf else upper


# -- in words --------------------------------------------------------------------------------------------


def _reason(
    slo: Slo,
    verdict: SloVerdict,
    over: Bools,
    rule: Rule,
    bounds: tuple[float, float],
    alpha: float,
    *,
    boots: int,
) -> str:
    allowed, x, n = slo.allowed_share or 0.0, int(over.sum()), len(over)
    effect = rule.effect(over)
    low, high = (format_value(bound, "ratio") for bound in bounds)
    if slo.metric.quantile is not None:
        what = f"took longer than {format_value(slo.limit, slo.metric.quantity.unit)}"
        what = what if slo.op == "<=" else what.replace("took longer than", "did not stay below")
    else:
        what = "failed" if slo.metric.quantity.id == "error_ratio" else "missed a limit"
    seen = (
        f"{x} of {n} requests ({format_value(x / n, 'ratio')}) {what}; {format_value(allowed, 'ratio')} may"
    )
    sure = f"at {format_value(1.0 - alpha, 'ratio')} confidence"
    said = {
        SloVerdict.PASS: f"{sure} at most {high} do",
        SloVerdict.FAIL: f"{sure} at least {low} do",
        SloVerdict.INCONCLUSIVE: f"{low} to {high} is possible; {_wanted(slo, x / n, n, effect, rule.alpha)}",
    }
    notes = [when] if (when := rule.decided(over)) else []
    notes += [f"{n} count as {n / effect:.0f} independent ones"] if effect > 1.05 else []
    return "; ".join((seen, said[verdict], *notes, *common_notes(slo, boots)))


def _wanted(slo: Slo, share: float, n: int, effect: float, alpha: float) -> str:
    """How many requests would have told."""
    least = needed(slo, alpha) or 0
    if n < least:
        return f"{slo.metric.id} needs at least {least} requests, and {n} were counted"
    wanted = intervals.needed_at_share(share, slo.allowed_share or 0.0, alpha)
    if wanted is None:
        return "the share is what may be: no number of requests tells"
    return f"about {_two_digits(max(least, wanted * effect))} requests would tell at this share"


def _two_digits(count: float) -> int:
    """Rounded up to two significant digits: it is an estimate."""
    step: int = 10 ** max(0, math.floor(math.log10(max(count, 1.0))) - 1)
    return math.ceil(count / step) * step
