"""Clauses that the requests of a boot do not decide alone: capacity, drift over a run, telemetry."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from pytest_inferforge import measures
from pytest_inferforge.records import SloResult, SloVerdict
from pytest_inferforge.stats import trend
from pytest_inferforge.units import format_value

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_inferforge.measures import Floats
    from pytest_inferforge.options import JudgeOptions
    from pytest_inferforge.slo.clause import Slo
    from pytest_inferforge.table import RequestTable

CAPACITY = "capacity_req_per_s"
DRIFTS = {"ttft_drift_ratio": "ttft_s", "tpot_drift_ratio": "tpot_s", "server_memory_drift_ratio": None}
"""Drift -> the latency that drifts; None: the server's memory."""
ONE_BOOT = "this holds for this boot: another start of the server was not seen"
NEXT_BOOT = "this holds for the next boot"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What is known of one boot beside its requests.

    `capacity_req_per_s`: (highest rate that held, lowest that broke; None: none broke). `server_memory`:
    (seconds from the origin, bytes). `metrics`: what telemetry measured, by metric id.
    """

    capacity_req_per_s: tuple[float, float | None] | None = None
    server_memory: tuple[tuple[float, int], ...] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)


def judge_capacity(slo: Slo, boots: Sequence[Evidence]) -> SloResult:
    """Every boot must hold the rate; between what held and what broke nobody knows."""
    found = [b.capacity_req_per_s for b in boots if b.capacity_req_per_s is not None]
    if not found:
        return undecided(slo, 'only a stress run measures capacity: arrivals="stress 1 -> 64 req/s"')
    held = min(low for low, _ in found)
    broke = min((high for _, high in found if high is not None), default=None)
    verdict = SloVerdict.INCONCLUSIVE
    if slo.satisfied_by(held):
        verdict = SloVerdict.PASS
    elif broke is not None and not slo.satisfied_by(broke):
        verdict = SloVerdict.FAIL
    said = f"every SLO held at {format_value(held, 'req/s')}" if held else "the lowest rate broke an SLO"
    said += f" and one broke at {format_value(broke, 'req/s')}" if broke is not None and held else ""
    said += "" if broke is not None else "; no rate that was tried broke one"
    return result_of(slo, verdict, held, held, broke, len(found), "boots", said)


def judge_drift(
    slo: Slo, boots: Sequence[RequestTable], evidence: Sequence[Evidence], options: JudgeOptions
) -> SloResult:
    """The line through slices of each boot's run; of several boots the worst counts."""
    quantity = slo.metric.quantity.id
    parts = [slices(quantity, table, e, options.batches) for table, e in zip(boots, evidence, strict=True)]
    trends = [t for p in parts if (t := trend.relative_change(p, options.alpha)) is not None]
    if not trends:
        return undecided(slo, "the run is too short to drift, or was not measured: it takes 4 slices")
    worst = max(trends, key=lambda t: t.upper)
    verdict = SloVerdict.INCONCLUSIVE
    if slo.satisfied_by(worst.upper):
        verdict = SloVerdict.PASS
    elif not slo.satisfied_by(max(t.lower for t in trends)):
        verdict = SloVerdict.FAIL
    low, value, high = (format_value(v, "change") for v in (worst.lower, worst.change, worst.upper))
    said = f"{value} from the beginning to the end of the run, {low} to {high} over {len(parts[0])} slices"
    return result_of(slo, verdict, worst.change, worst.lower, worst.upper, len(parts[0]), "slices", said)


def judge_telemetry(slo: Slo, boots: Sequence[Evidence]) -> SloResult:
    """Every boot must keep the limit with the one number it has; nothing is known of that number's error."""
    metric_id, unit = slo.metric.id, slo.metric.quantity.unit
    known = [b.metrics[metric_id] for b in boots if metric_id in b.metrics]
    if not known:
        return undecided(slo, f"{metric_id} was not measured")
    low, high = min(known), max(known)
    worst = high if slo.op in ("<", "<=") else low
    verdict = SloVerdict.PASS if len(known) == len(boots) else SloVerdict.INCONCLUSIVE
    if not slo.satisfied_by(worst):
        verdict = SloVerdict.FAIL
    said = [f"one number a boot: {format_value(worst, unit)}"]
    if len(known) > 1:
        said = [f"{said[0]} in the worst of {len(known)}"]
    if missing := len(boots) - len(known):
        said.append(f"it was not measured in {missing} of {len(boots)} boots")
    if len(boots) == 1:
        said.append(ONE_BOOT)
    return result_of(slo, verdict, worst, low, high, len(known), "boots", "; ".join(said))


def slices(quantity_id: str, table: RequestTable, evidence: Evidence, n: int) -> Floats:
    """float64 (k,), k <= n: medians of equal slices of the run's time; empty slices are left out."""
    of = DRIFTS[quantity_id]
    if of is None:
        when = np.array([t for t, _ in evidence.server_memory])
        values = np.array([size for _, size in evidence.server_memory], dtype=float)
    else:
        when, values = table.start_s, measures.values(table, of)
    known = np.isfinite(values) & np.isfinite(when)
    when, values = when[known], values[known]
    if len(when) < 4 or np.ptp(when) <= 0:
        return np.empty(0)
    place = np.minimum((n * (when - when.min()) / np.ptp(when)).astype(int), n - 1)
    return np.array([np.median(values[place == k]) for k in range(n) if (place == k).any()])


def common_notes(slo: Slo, boots: int) -> list[str]:
    """What a reader must know beside the numbers."""
    notes = [slo.note] if slo.note else []
    if slo.confidence == "deploy":
        return [*notes, NEXT_BOOT]
    return [*notes, ONE_BOOT] if boots == 1 else notes


def too_few_boots(slo: Slo, boots: int, options: JudgeOptions) -> str | None:
    """Why nothing can be said of the next boot; None: it can, or nobody asked."""
    if slo.confidence != "deploy" or boots >= options.deploy_boots:
        return None
    return f"the next boot is told from at least {options.deploy_boots} valid boots, and there are {boots}"


def undecided(slo: Slo, reason: str) -> SloResult:
    """Nothing to judge by."""
    return result_of(slo, SloVerdict.INCONCLUSIVE, None, None, None, 0, "requests", reason)


def result_of(
    slo: Slo,
    verdict: SloVerdict,
    value: float | None,
    lower: float | None,
    upper: float | None,
    n: int,
    unit: str,
    reason: str,
    *,
    effect: float = 1.0,
) -> SloResult:
    """The result of a clause; `effect`: so many of the n are worth one independent one."""
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
        unit=unit,
        misses_limit=value is not None and not slo.satisfied_by(value),
        reason=reason,
        implicit=slo.implicit,
        class_name=slo.of,
    )
