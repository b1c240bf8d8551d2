"""What a measurement says about one clause: pass, fail, or that it cannot tell."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from pytest_inferforge import measures
from pytest_inferforge.records import SloResult, SloVerdict
from pytest_inferforge.slo.clause import needed
from pytest_inferforge.slo.evidence import (
    CAPACITY,
    DRIFTS,
    ONE_BOOT,
    Evidence,
    judge_capacity,
    judge_drift,
    judge_telemetry,
    undecided,
)
from pytest_inferforge.stats import intervals
from pytest_inferforge.units import format_value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_inferforge.measures import Bools, Floats, Limits
    from pytest_inferforge.options import JudgeOptions
    from pytest_inferforge.slo.clause import Slo
    from pytest_inferforge.table import RequestTable

_BATCHED = ("output_tok_per_s", "total_tok_per_s", "request_per_s", "goodput_req_per_s")


def judge(
    slo: Slo,
    boots: Sequence[RequestTable],
    *,
    options: JudgeOptions,
    limits: Limits,
    evidence: Sequence[Evidence] = (),
) -> SloResult:
    """Judge one clause on the valid runs of a test, one table a boot, with what else is known of each boot.

    Quantiles and shares: the exact binomial rule over the pooled requests, n / D of them. Means and rates:
    t over the boots, or over batches within the only boot. `limits` are the test's `per_request_limits`,
    which goodput counts against.

    Source: docs/how-it-judges.md; Clopper & Pearson 1934.
    """
    if slo.metric.quantity.id == CAPACITY:
        return judge_capacity(slo, evidence)
    if slo.metric.quantity.id in DRIFTS:
        return judge_drift(slo, boots, evidence or [Evidence()] * len(boots), options)
    if slo.metric.quantity.telemetry:
        return judge_telemetry(slo, evidence)
    if slo.metric.quantity.id.startswith("goodput") and not limits:
        return undecided(slo, "goodput has nothing to count: no SLO of this test limits a single request")
    if slo.allowed_share is not None:
        return _judge_share(slo, slo.allowed_share, boots, options, limits)
    return _judge_mean(slo, boots, options, limits)


# -- quantiles and shares --------------------------------------------------------------------------------


def _judge_share(
    slo: Slo, allowed: float, boots: Sequence[RequestTable], options: JudgeOptions, limits: Limits
) -> SloResult:
    misses = [m for table in boots if len(m := _misses(slo, table, limits))]
    if not misses:
        return undecided(slo, "nothing was measured: no request could be counted")
    n, x = sum(map(len, misses)), int(sum(m.sum() for m in misses))
    effect = intervals.design_effect(misses, options.batches)
    low = intervals.binomial_lower(x / effect, n / effect, options.alpha)
    high = intervals.binomial_upper(x / effect, n / effect, options.alpha)
    strict = slo.metric.quantile is None and slo.op in ("<", ">")  # a quantile's misses know their operator
    verdict = SloVerdict.INCONCLUSIVE
    if high < allowed or (high == allowed and not strict):
        verdict = SloVerdict.PASS
    elif low > allowed or (low == allowed and strict):
        verdict = SloVerdict.FAIL
    if slo.metric.quantile is None:
        value, lower, upper = _share_in_unit(slo, x / n, low, high)
    else:
        value, lower, upper = _quantile(slo, boots, n, effect, options.alpha)
    return SloResult(
        text=slo.text,
        metric=slo.metric.id,
        verdict=verdict,
        value=value,
        limit=slo.limit,
        lower=lower,
        upper=upper,
        n=n,
        n_effective=n / effect,
        unit="requests",
        misses_limit=not slo.satisfied_by(value),
        reason=_share_reason(slo, verdict, x, n, effect, (low, high), options.alpha, boots=len(misses)),
        implicit=slo.implicit,
        class_name=slo.of,
    )


def _misses(slo: Slo, table: RequestTable, limits: Limits) -> Bools:
    """bool (k,): which counted requests count against the clause."""
    quantity = slo.metric.quantity.id
    if quantity == "error_ratio":
        return measures.failed(table)
    if quantity == "goodput_ratio":
        return ~measures.meets(table, limits)
    return measures.exceeds(table, quantity, slo.limit, slo.op)


def _share_in_unit(
    slo: Slo, share: float, low: float, high: float
) -> tuple[float, float | None, float | None]:
    """Value, lower and upper: of what misses for an error ratio, of what meets for a goodput ratio."""
    if slo.metric.quantity.direction == "lower":
        return share, low, high
    return 1.0 - share, 1.0 - high, 1.0 - low


def _quantile(
    slo: Slo, boots: Sequence[RequestTable], n: int, effect: float, alpha: float
) -> tuple[float, float | None, float | None]:
    """The pooled quantile with its bounds in the metric's unit; an infinite upper bound is None.

    A request cut when it was already older than the limit is only known to be above it: it stands just
    above the limit for the value and the lower bound, and at infinity for the upper one.
    """
    quantile = slo.metric.quantile or 0.0
    known = np.concatenate([measures.samples(table, slo.metric.quantity.id) for table in boots])
    cut = max(0, n - len(known))
    at_least = np.concatenate((known, np.full(cut, math.nextafter(slo.limit, math.inf))))
    at_most = np.concatenate((known, np.full(cut, math.inf)))
    value = measures.statistic(at_least, slo.metric.statistic or "")
    lower = intervals.quantile_lower(at_least, quantile, alpha, effect)
    upper = intervals.quantile_upper(at_most, quantile, alpha, effect)
    return math.inf if value is None else value, lower, None if upper == math.inf else upper


def _share_reason(
    slo: Slo,
    verdict: SloVerdict,
    x: int,
    n: int,
    effect: float,
    bounds: tuple[float, float],
    alpha: float,
    *,
    boots: int,
) -> str:
    allowed = slo.allowed_share or 0.0
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
        SloVerdict.INCONCLUSIVE: f"{low} to {high} is possible; {_wanted(slo, x / n, n, effect, alpha)}",
    }
    notes = [f"{n} count as {n / effect:.0f} independent ones"] if effect > 1.05 else []
    return "; ".join((seen, said[verdict], *notes, *_common_notes(slo, boots)))


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


# -- means and rates -------------------------------------------------------------------------------------


def _judge_mean(slo: Slo, boots: Sequence[RequestTable], options: JudgeOptions, limits: Limits) -> SloResult:
    by_boot = [(table, v) for table in boots if (v := _boot_value(slo, table, limits)) is not None]
    if not by_boot:
        return undecided(slo, "nothing was measured: no boot has a value")
    unit = "boots" if len(by_boot) > 1 else "batches"
    parts = np.array([v for _, v in by_boot])
    if unit == "batches":
        parts = _batches(slo, by_boot[0][0], options.batches, limits)
    value = float(np.mean([v for _, v in by_boot]))
    _, lower, upper = intervals.mean_bounds(parts, options.alpha) if len(parts) else (value, None, None)
    lower_is_better = slo.metric.quantity.direction == "lower"
    worst, best = (upper, lower) if lower_is_better else (lower, upper)
    verdict = SloVerdict.INCONCLUSIVE
    if worst is not None and slo.satisfied_by(worst):
        verdict = SloVerdict.PASS
    elif best is not None and not slo.satisfied_by(best):
        verdict = SloVerdict.FAIL
    return SloResult(
        text=slo.text,
        metric=slo.metric.id,
        verdict=verdict,
        value=value,
        limit=slo.limit,
        lower=lower,
        upper=upper,
        n=len(parts),
        n_effective=float(len(parts)),
        unit=unit,
        misses_limit=not slo.satisfied_by(value),
        reason=_mean_reason(
            slo, verdict, (value, lower, upper), len(parts), [t for t, _ in by_boot], options
        ),
        implicit=slo.implicit,
        class_name=slo.of,
    )


def _boot_value(slo: Slo, table: RequestTable, limits: Limits) -> float | None:
    quantity = slo.metric.quantity
    if quantity.per == "run":
        return measures.run_value(table, quantity.id, limits)
    return measures.statistic(measures.samples(table, quantity.id), "mean")


def _batches(slo: Slo, table: RequestTable, batches: int, limits: Limits) -> Floats:
    """float64 (k,): what varies within one boot; empty where a boot has one number only."""
    quantity = slo.metric.quantity
    if quantity.per == "request":
        column = measures.samples(table, quantity.id)
        return intervals.batch_means(column[np.isfinite(column)], batches)
    if quantity.id not in _BATCHED:
        return np.empty(0)
    if quantity.id == "goodput_req_per_s":
        return measures.goodput_batches(table, limits, batches)
    return measures.rate_batches(table, quantity.id, batches)


def _mean_reason(
    slo: Slo,
    verdict: SloVerdict,
    estimate: tuple[float, float | None, float | None],
    n: int,
    tables: Sequence[RequestTable],
    options: JudgeOptions,
) -> str:
    quantity = slo.metric.quantity
    value, lower, upper = estimate
    over = f"over {n} boots" if len(tables) > 1 else f"over {n} batches within one boot"
    parts = [f"the mean is {format_value(value, quantity.unit)}"]
    if lower is None or upper is None:
        parts.append("one number has no spread: it takes 2 boots to tell")
    else:
        sure = format_value(1.0 - options.alpha, "ratio")
        low, high = format_value(lower, quantity.unit), format_value(upper, quantity.unit)
        parts.append(f"{low} to {high} {over}, {sure} sure on each side")
        if verdict is SloVerdict.INCONCLUSIVE:
            limit = format_value(slo.limit, quantity.unit)
            more = "more boots" if len(tables) > 1 else "a longer run or more boots"
            parts.append(f"the limit of {limit} lies between: {more} would tell")
    failures = sum(int(table.failed.sum()) for table in tables)
    if failures and quantity.per == "request":
        parts.append(f"{failures} failed requests are not in the mean")
    return "; ".join((*parts, *_common_notes(slo, len(tables))))


# -- both ------------------------------------------------------------------------------------------------


def _common_notes(slo: Slo, boots: int) -> list[str]:
    notes = [slo.note] if slo.note else []
    return [*notes, ONE_BOOT] if boots == 1 else notes
