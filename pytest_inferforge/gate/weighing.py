"""The evidence of one comparison: the session's value beside the stored ones that are like it."""

from __future__ import annotations

import math
import statistics
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_inferforge import metrics
from pytest_inferforge.gate.evidence import (
    SessionValue,
    differences,
    session_value,
    span_days,
    stored_values,
)
from pytest_inferforge.gate.scale import scale_of
from pytest_inferforge.gate.verdicts import Weighed
from pytest_inferforge.records import ComparisonVerdict
from pytest_inferforge.stats import compare
from pytest_inferforge.units import format_value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_inferforge.gate.evidence import History, StoredTest
    from pytest_inferforge.gate.scale import Scale
    from pytest_inferforge.metrics import Metric
    from pytest_inferforge.options import JudgeOptions
    from pytest_inferforge.records import Comparison, Fingerprint, SessionResult, TestResult


def weigh(
    draft: Comparison,
    current: SessionResult,
    test: TestResult,
    history: History,
    options: JudgeOptions,
    under_test: frozenset[str],
) -> Weighed | Comparison:
    """The evidence of one comparison, or the comparison itself when there is nothing to weigh."""
    metric = metrics.metric(draft.metric)
    scale = scale_of(metric)
    now = session_value(current, test, metric.id, scale, boots=None)
    if isinstance(now, str):
        return replace(draft, reason=now)
    draft = replace(draft, value=scale.value(now.point), n_current_boots=len(now.boots))
    here = current.fingerprint.merged(test.fingerprint)
    holding = history.by_test.get(test.nodeid, ())
    like = [s for s in holding if not differences(here, s.fingerprint, under_test)]
    if not like:
        return _not_comparable(draft, here, holding, under_test)
    stored = stored_values(like, metric.id, scale, boots=len(now.boots), window=options.window_sessions)
    if not stored:
        why = f"the baseline has no usable {metric.id} of this test"
        return replace(draft, verdict=ComparisonVerdict.NO_BASELINE, reason=why)
    base = statistics.fmean(v.point for v in stored)
    shift = now.point - base
    draft = replace(
        draft, ratio=scale.ratio(base, shift), reference_value=scale.value(base), n_reference=len(stored)
    )
    if len(stored) < options.min_sessions:
        return _too_few(draft, metric, scale, base, shift, options)
    least = sd_floor(stored, scale, options)
    points = [v.point for v in stored]
    difference = compare.compare(points, [now.point], alpha=options.alpha, sd_floor=least)
    notes = (_assumed(options),) if not scale.share and _young(stored, options) else ()
    return Weighed(draft=draft, scale=scale, base=base, difference=difference, stored=stored, notes=notes)


def _not_comparable(
    draft: Comparison, here: Fingerprint, holding: Sequence[StoredTest], under_test: frozenset[str]
) -> Comparison:
    if not holding:
        why = "the baseline has no accepted session with this test"
        return replace(draft, verdict=ComparisonVerdict.NO_BASELINE, reason=why)
    found = "; ".join(differences(here, holding[0].fingerprint, under_test))
    why = f"measured under other conditions than the baseline's {len(holding)} sessions: {found}"
    return replace(draft, verdict=ComparisonVerdict.INCOMPARABLE, reason=why)


def _too_few(
    draft: Comparison, metric: Metric, scale: Scale, base: float, shift: float, options: JudgeOptions
) -> Comparison:
    """No verdict below the minimum, except that a gross loss of a mean or a rate needs no statistics."""
    sessions = f"{draft.n_reference} comparable session" + ("s" if draft.n_reference > 1 else "")
    steady = metric.statistic == "mean" or metric.quantity.unit in ("tok/s", "req/s")
    if steady and shift >= math.log(options.gross_ratio):
        why = f"gross: {scale.describe(base, shift)} against {sessions}"
        return replace(draft, verdict=ComparisonVerdict.REGRESSED, reason=why)
    why = f"the baseline has {sessions} and {options.min_sessions} are needed"
    return replace(draft, verdict=ComparisonVerdict.NO_BASELINE, reason=why)


def sd_floor(values: Sequence[SessionValue], scale: Scale, options: JudgeOptions) -> float:
    """The least standard deviation of one session that is believed."""
    if scale.share:
        return math.sqrt(statistics.fmean(1.0 / max(1, v.requests) for v in values))
    return options.young_sd_floor if _young(values, options) else options.sd_floor


def _young(values: Sequence[SessionValue], options: JudgeOptions) -> bool:
    return span_days(values) < options.young_days


def _assumed(options: JudgeOptions) -> str:
    floor = format_value(options.young_sd_floor, "ratio")
    return f"the stored sessions span less than {options.young_days:g} days: {floor} noise assumed"
