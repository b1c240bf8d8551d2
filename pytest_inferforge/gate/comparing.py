"""Which sessions a comparison rests on, weighed with the session as the unit and Holm over the family."""

from __future__ import annotations

import math
import statistics
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_inferforge import metrics
from pytest_inferforge.gate.evidence import (
    SessionValue,
    differences,
    history_of,
    session_value,
    span_days,
    stored_values,
)
from pytest_inferforge.gate.scale import margin_of, scale_of
from pytest_inferforge.gate.verdicts import Weighed, decide, detectable_ratio
from pytest_inferforge.records import Comparison, ComparisonVerdict
from pytest_inferforge.stats import compare
from pytest_inferforge.stats.multiplicity import holm

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from pytest_inferforge.gate.evidence import History, StoredTest
    from pytest_inferforge.gate.scale import Scale
    from pytest_inferforge.metrics import Metric
    from pytest_inferforge.options import JudgeOptions
    from pytest_inferforge.records import Fingerprint, SessionResult, TestResult


def compare_session(
    current: SessionResult,
    reference: Sequence[SessionResult],
    *,
    name: str,
    options: JudgeOptions,
    under_test: frozenset[str] = frozenset(),
) -> tuple[Comparison, ...]:
    """Every gated metric of every test of this session against the accepted sessions of baseline `name`.

    A session is one observation, whatever its number of boots: the mean over its planned valid boots, the
    stored ones cut to as many boots as there are now. The family of Holm's rule is at least as large as the
    newest complete stored session's, so that a part of a suite is judged like the whole.
    `under_test`: identity keys that may differ.

    Source: docs/how-it-judges.md; Student 1908, Holm 1979.
    """
    history = history_of(reference, without=current.id)
    drafts = [
        (test, Comparison(
            nodeid=test.nodeid,
            metric=metric_id,
            verdict=ComparisonVerdict.INCOMPARABLE,
            reference=f"baseline:{name}",
            margin=margin_of(metrics.metric(metric_id), options),
        ))
        for test in current.tests
        for metric_id in test.gated
    ]  # fmt: skip
    weighed = [_weigh(draft, current, test, history, options, under_test) for test, draft in drafts]
    family = max(history.family_size, len(weighed))
    p = holm([w.difference.p_worse for w in weighed if isinstance(w, Weighed)], family)
    adjusted = iter(p)
    return tuple(decide(w, next(adjusted), family, options) if isinstance(w, Weighed) else w for w in weighed)


def detectable(
    reference: Sequence[SessionResult], nodeids: Collection[str], *, boots: int, options: JudgeOptions
) -> dict[tuple[str, str], float | None]:
    """What these tests would see with so many boots, before any is run: (nodeid, metric id) -> ratio > 1.

    The smallest worsening that would be red with the power asked for, after Holm over the family. None:
    the baseline is too small. Of each test only the sessions comparable with its newest one count; a test
    that the baseline does not hold is absent.
    """
    history = history_of(reference)
    by_test = {nodeid: history.by_test[nodeid] for nodeid in nodeids if nodeid in history.by_test}
    gated = [(nodeid, metric_id) for nodeid, stored in by_test.items() for metric_id in stored[0].test.gated]
    family = max(history.family_size, len(gated))
    found: dict[tuple[str, str], float | None] = {}
    for nodeid, metric_id in gated:
        metric, stored = metrics.metric(metric_id), by_test[nodeid]
        scale = scale_of(metric)
        like = [s for s in stored if not differences(stored[0].fingerprint, s.fingerprint, frozenset())]
        values = stored_values(like, metric_id, scale, boots=boots, window=options.window_sessions)
        found[nodeid, metric_id] = None
        if len(values) >= options.min_sessions:
            base = statistics.fmean(v.point for v in values)
            sd = max(statistics.stdev(v.point for v in values), _sd_floor(values, scale, options))
            margin = margin_of(metric, options)
            found[nodeid, metric_id] = detectable_ratio(scale, base, sd, len(values), margin, family, options)
    return found


def _weigh(
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
    floor = _sd_floor(stored, scale, options)
    points = [v.point for v in stored]
    difference = compare.compare(points, [now.point], alpha=options.alpha, sd_floor=floor)
    young = not scale.share and _young(stored, options)
    return Weighed(draft=draft, scale=scale, base=base, difference=difference, stored=stored, young=young)


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


def _sd_floor(values: Sequence[SessionValue], scale: Scale, options: JudgeOptions) -> float:
    """The least standard deviation of one session that is believed."""
    if scale.share:
        return math.sqrt(statistics.fmean(1.0 / max(1, v.requests) for v in values))
    return options.young_sd_floor if _young(values, options) else options.sd_floor


def _young(values: Sequence[SessionValue], options: JudgeOptions) -> bool:
    return span_days(values) < options.young_days
