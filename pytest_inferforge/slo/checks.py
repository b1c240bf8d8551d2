"""What a measurement says about one clause: pass, fail, or that it cannot tell."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pytest_inferforge import measures
from pytest_inferforge.records import SloResult, SloVerdict
from pytest_inferforge.slo.evidence import (
    CAPACITY,
    DRIFTS,
    Evidence,
    common_notes,
    judge_capacity,
    judge_drift,
    judge_telemetry,
    result_of,
    too_few_boots,
    undecided,
)
from pytest_inferforge.slo.shares import judge_share
from pytest_inferforge.stats import intervals
from pytest_inferforge.units import format_value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_inferforge.measures import Floats, Limits
    from pytest_inferforge.options import JudgeOptions
    from pytest_inferforge.slo.clause import Slo
    from pytest_inferforge.slo.shares import Looking
    from pytest_inferforge.table import RequestTable

_BATCHED = ("output_tok_per_s", "total_tok_per_s", "request_per_s", "goodput_req_per_s")


def judge(
    slo: Slo,
    boots: Sequence[RequestTable],
    *,
    options: JudgeOptions,
    limits: Limits,
    evidence: Sequence[Evidence] = (),
    looking: Looking | None = None,
) -> SloResult:
    """Judge one clause on the valid runs of a test, one table a boot, with what else is known of each boot.

    Quantiles and shares: the exact binomial rule over the pooled requests, n / D of them. Means and rates:
    t over the boots, or over batches within the only boot. `limits` are the test's `per_request_limits`,
    which goodput counts against. `looking`: the runs were looked at while they ran, and may have been ended
    early or extended; only quantiles and shares know of it, the others are judged on the planned requests.

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
        return judge_share(slo, slo.allowed_share, boots, options, limits, looking)
    return _judge_mean(slo, boots, options, limits)


# -- means and rates -------------------------------------------------------------------------------------


def _judge_mean(slo: Slo, boots: Sequence[RequestTable], options: JudgeOptions, limits: Limits) -> SloResult:
    by_boot = [(table, v) for table in boots if (v := _boot_value(slo, table, limits)) is not None]
    if not by_boot:
        return undecided(slo, "nothing was measured: no boot has a value")
    if said := too_few_boots(slo, len(by_boot), options):
        return undecided(slo, said)
    unit = "boots" if len(by_boot) > 1 else "batches"
    parts = np.array([v for _, v in by_boot])
    if unit == "batches":
        parts = _batches(slo, by_boot[0][0], options.batches, limits)
    value = float(np.mean([v for _, v in by_boot]))
    bounds = intervals.mean_bounds if unit == "boots" else intervals.batched_mean_bounds
    _, lower, upper = bounds(parts, options.alpha) if len(parts) else (value, None, None)
    lower_is_better = slo.metric.quantity.direction == "lower"
    worst, best = (upper, lower) if lower_is_better else (lower, upper)
    verdict = SloVerdict.INCONCLUSIVE
    if worst is not None and slo.satisfied_by(worst):
        verdict = SloVerdict.PASS
    elif best is not None and not slo.satisfied_by(best):
        verdict = SloVerdict.FAIL
    tables = [table for table, _ in by_boot]
    reason = _mean_reason(slo, verdict, (value, lower, upper), len(parts), tables, options)
    return result_of(slo, verdict, value, lower, upper, len(parts), unit, reason)


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
    return "; ".join((*parts, *common_notes(slo, len(tables))))
