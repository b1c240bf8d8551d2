"""Whether answers got worse: items paired with the same items of a reference, and floors."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pytest_inferforge.gate.evidence import gated_with_tails, history_of
from pytest_inferforge.gate.pairing import Doubts, doubts_of, pair
from pytest_inferforge.outcomes import QualityKind, QualityResult, QualityVerdict
from pytest_inferforge.stats import clusters, intervals, paired
from pytest_inferforge.stats.multiplicity import holm
from pytest_inferforge.units import format_value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_inferforge.options import JudgeOptions
    from pytest_inferforge.outcomes import Outcomes
    from pytest_inferforge.records import SessionResult
    from pytest_inferforge.stats.clusters import Score
    from pytest_inferforge.stats.paired import Loss

_ROUNDING = 1e-9  # of a loss or a score against its margin or limit: sums of floats
_MOST_ITEMS = 10_000_000  # a number beyond it decides nothing that anybody could ask


@dataclass(frozen=True, slots=True, kw_only=True)
class WeighedQuality:
    """A quality comparison whose items are paired, before the family is known."""

    draft: QualityResult  # without a verdict's numbers over the family
    evidence: Loss
    doubts: Doubts
    notes: tuple[str, ...] = ()  # for the end of the sentence


def family_of(current: SessionResult, reference: Sequence[SessionResult]) -> int:
    """How many comparisons, of speed and of quality, Holm's rule runs over: of this session or, if more, of
    the newest complete stored one.
    """
    here = sum(len(gated_with_tails(test)) + len(test.quality) for test in current.tests)
    return max(here, history_of(reference, without=current.id).family_size)


def fewest_items(margin: float, options: JudgeOptions) -> int:
    """With fewer items a loss of the margin can never be ruled out, were none of them to change."""
    n = 1
    while paired.loss_upper(0, 0, n, options.alpha) >= margin:
        n *= 2
    low, high = n // 2, n
    while high - low > 1:
        middle = (low + high) // 2
        if paired.loss_upper(0, 0, middle, options.alpha) >= margin:
            low = middle
        else:
            high = middle
    return high


def compare_quality(
    current: Outcomes,
    reference: Outcomes | None,
    *,
    nodeid: str,
    kind: QualityKind,
    reference_name: str,
    margin: float,
    options: JudgeOptions,
) -> WeighedQuality | QualityResult:
    """Pair one task with its reference, which must be one run of it: no mean of runs, no better engine.

    margin: how much worse it may be, in units of the score. A result is already decided: nothing could be
    paired. None for `reference`: there is none.

    Source: docs/how-it-judges.md.
    """
    draft = QualityResult(
        nodeid=nodeid,
        task=current.task,
        metric=current.metric,
        kind=kind,
        verdict=QualityVerdict.INCOMPARABLE,
        value=current.value,
        n=0,
        margin=margin,
        reference=reference_name,
        reference_value=reference.value if reference else None,
    )
    if reference is None:
        why = f"{reference_name} has no evaluation of this task"
        return replace(draft, verdict=QualityVerdict.NO_BASELINE, reason=why)
    found = pair(current, reference, options)
    if isinstance(found, str):
        return replace(draft, reason=found)
    if len(set(found.clusters) or found.losses) < 2:
        why = "one item, or one cluster of them, shows no spread"
        return replace(draft, verdict=QualityVerdict.INCONCLUSIVE, n=len(found.losses), reason=why)
    evidence = paired.loss_of(found.losses, found.clusters, options.alpha)
    doubts = doubts_of((("", current), (" of the reference", reference)), options)
    return WeighedQuality(
        draft=replace(
            draft,
            value=found.value,
            reference_value=found.reference_value,
            n=evidence.n,
            worse=evidence.worse,
            better=evidence.better,
            loss=evidence.loss,
            lower=evidence.lower,
            upper=evidence.upper,
            p=evidence.p_worse,
        ),
        evidence=evidence,
        doubts=doubts,
        notes=(*doubts.said, *([found.left_out] if found.left_out else [])),
    )


def decide_quality(
    weighed: Sequence[WeighedQuality | QualityResult], *, family: int, options: JudgeOptions
) -> tuple[QualityResult, ...]:
    """The verdicts, in the order given, after Holm over `family` comparisons (`family_of`).

    In this order: regressed, improved, not_regressed, inconclusive. What is `regressed` here is only a
    candidate: see `confirm`.
    """
    known = [w for w in weighed if isinstance(w, WeighedQuality)]
    size = max(family, len(known))
    worse = iter(holm([w.evidence.p_worse for w in known], size))
    better = iter(holm([w.evidence.p_better for w in known], size))
    return tuple(
        _decided(w, next(worse), next(better), size, options) if isinstance(w, WeighedQuality) else w
        for w in weighed
    )


def confirm(
    first: QualityResult, second: WeighedQuality | QualityResult | str, options: JudgeOptions
) -> QualityResult:
    """The verdict once a candidate's items were asked again of a fresh boot; anything else stays as it is.

    `second`: the same comparison of that boot, or why there is none. Red when that boot is worse by itself
    (p at most alpha, unadjusted) and both together lose the margin on average.
    """
    if first.verdict is not QualityVerdict.REGRESSED:
        return first
    again = _again(first, second, options)
    if not again:
        said = _change(second.evidence.loss) if isinstance(second, WeighedQuality) else ""
        return replace(first, reason=f"{first.reason}; confirmed on a second boot: {said}")
    return replace(
        first,
        verdict=QualityVerdict.INCONCLUSIVE,
        reason=f"not confirmed on a second boot: {again}; the first was {first.reason}",
    )


def floor(outcomes: Outcomes, limit: float, *, nodeid: str, options: JudgeOptions) -> QualityResult:
    """Whether the score is shown to keep its limit: to be at least it, or at most where lower is better.

    Source: `stats.clusters.mean_score`. Of no answered items the caller makes an error: `unjudgeable`.
    """
    score = clusters.mean_score(outcomes.scores, outcomes.clusters, options.alpha)
    doubts = doubts_of((("", outcomes),), options)
    verdict = _kept(score, limit, higher_is_better=outcomes.higher_is_better)
    beyond = limit - score.value if outcomes.higher_is_better else score.value - limit
    needed = None
    if verdict is QualityVerdict.INCONCLUSIVE:
        needed = _needed_for_floor(score, limit, outcomes, options)
    said = _floor_said(score, limit, outcomes, verdict, needed)
    against = doubts.of_all + (doubts.of_green if verdict is QualityVerdict.PASS else ())
    return QualityResult(
        nodeid=nodeid,
        task=outcomes.task,
        metric=outcomes.metric,
        kind=QualityKind.AT_LEAST,
        verdict=QualityVerdict.INCONCLUSIVE if against else verdict,
        value=score.value,
        n=len(outcomes.scores),
        lower=score.lower,
        upper=score.upper,
        limit=limit,
        needed=needed,
        misses_limit=beyond > _ROUNDING,
        reason="; ".join((*against, *said, *doubts.said)),
    )


# -- comparisons -----------------------------------------------------------------------------------------


def _decided(
    weighed: WeighedQuality, p_adjusted: float, p_better: float, family: int, options: JudgeOptions
) -> QualityResult:
    e, margin, doubts = weighed.evidence, weighed.draft.margin or 0.0, weighed.doubts
    verdict = QualityVerdict.INCONCLUSIVE
    if p_adjusted <= options.alpha and e.loss >= margin - _ROUNDING:
        verdict = QualityVerdict.REGRESSED
    elif p_better <= options.alpha and -e.loss >= margin - _ROUNDING:
        verdict = QualityVerdict.IMPROVED
    elif e.upper < margin:
        verdict = QualityVerdict.NOT_REGRESSED
    needed = _needed(e, margin, family, options) if verdict is QualityVerdict.INCONCLUSIVE else None
    result = replace(weighed.draft, verdict=verdict, p_adjusted=p_adjusted, needed=needed)
    said = _said(weighed, result, family, options)
    against = doubts.of_all + (doubts.of_green if verdict is QualityVerdict.NOT_REGRESSED else ())
    return replace(
        result,
        verdict=QualityVerdict.INCONCLUSIVE if against else verdict,
        reason="; ".join((*against, *said, *weighed.notes)),
    )


def _again(first: QualityResult, second: WeighedQuality | QualityResult | str, options: JudgeOptions) -> str:
    """Why a candidate is not confirmed; empty: it is."""
    if isinstance(second, str):
        return second
    if isinstance(second, QualityResult):
        return second.reason
    if second.doubts.of_all:
        return "; ".join(second.doubts.of_all)
    e, margin = second.evidence, first.margin or 0.0
    if e.p_worse > options.alpha or e.loss <= 0.0:
        return f"{_change(e.loss)}, p {e.p_worse:.2g}"
    mean = ((first.loss or 0.0) + e.loss) / 2.0
    if mean < margin - _ROUNDING:
        return (
            f"{_change(e.loss)}, so that both lose {_points(mean)} on average; {_points(margin)} may be lost"
        )
    return ""


def _needed(e: Loss, margin: float, family: int, options: JudgeOptions) -> int | None:
    """About how many items would decide at this loss; None: it is the margin itself, or nearly.

    Inside the margin: to show that. Beyond it: to show a loss at alpha divided by the family.
    """
    inside = e.loss < margin
    away, alpha = (margin - e.loss, options.alpha) if inside else (e.loss, options.alpha / max(1, family))
    if away <= _ROUNDING:
        return None
    variance = max(e.variance, 1.0 / e.n if not e.worse + e.better else 0.0)
    found = paired.needed_pairs(variance, away, alpha, options.power)
    return max(found, e.n + 1) if found <= _MOST_ITEMS else None


def _said(weighed: WeighedQuality, result: QualityResult, family: int, options: JudgeOptions) -> list[str]:
    e, margin = weighed.evidence, result.margin or 0.0
    p = f"p {e.p_worse:.2g}" + (f", {result.p_adjusted:.2g} over {family} comparisons" if family > 1 else "")
    items = f"{e.worse} of {e.n} items got worse and {e.better} better"
    if result.verdict is QualityVerdict.REGRESSED:
        return [f"{_change(e.loss)}, the margin is {_points(margin)}", items, p]
    if result.verdict is QualityVerdict.IMPROVED:
        return [f"{_change(e.loss)}, the margin is {_points(margin)}", items]
    if result.verdict is QualityVerdict.NOT_REGRESSED and e.lower > 0.0:
        return [f"{_change(e.loss)}, inside the margin of {_points(margin)}", items]
    most = f"at the most {_points(e.upper)} worse"
    if result.verdict is QualityVerdict.NOT_REGRESSED:
        return [f"{_change(e.loss)}, {most}; the margin is {_points(margin)}", items]
    told = [f"cannot tell: {_change(e.loss)}, {most}; the margin is {_points(margin)}", items, p]
    if e.least_p * family > options.alpha:
        told.append("so few changes could not show a loss if all were for the worse")
    return [*told, _price(result.needed)]


def _change(loss: float) -> str:
    if abs(loss) < _ROUNDING:
        return "as good as before"
    return f"{_points(abs(loss))} {'worse' if loss > 0.0 else 'better'}"


def _points(share: float) -> str:
    return f"{format_value(100.0 * share, 'count')} pt"


def _price(needed: int | None) -> str:
    if needed is None:
        return "no number of items would decide: it is on the border"
    return f"about {round(needed, 2 - len(str(needed)))} items would decide"


# -- floors ----------------------------------------------------------------------------------------------


def _kept(score: Score, limit: float, *, higher_is_better: bool) -> QualityVerdict:
    worst, best = (score.lower, score.upper) if higher_is_better else (score.upper, score.lower)
    if worst is None or best is None:
        return QualityVerdict.INCONCLUSIVE
    sign = 1.0 if higher_is_better else -1.0
    if sign * (worst - limit) >= -_ROUNDING:
        return QualityVerdict.PASS
    return QualityVerdict.FAIL if sign * (best - limit) < -_ROUNDING else QualityVerdict.INCONCLUSIVE


def _needed_for_floor(score: Score, limit: float, outcomes: Outcomes, options: JudgeOptions) -> int | None:
    value = score.value
    if not (0.0 < limit < 1.0 and 0.0 <= value <= 1.0):
        return None
    missed, allowed = (1.0 - value, 1.0 - limit) if outcomes.higher_is_better else (value, limit)
    wanted = intervals.needed_at_share(missed, allowed, options.alpha)
    if wanted is None or wanted * score.effect > _MOST_ITEMS:
        return None
    return max(len(outcomes.scores) + 1, math.ceil(wanted * score.effect))


def _floor_said(
    score: Score, limit: float, outcomes: Outcomes, verdict: QualityVerdict, needed: int | None
) -> list[str]:
    value, n = format_value(score.value, "count"), len(outcomes.scores)
    bound = "at least" if outcomes.higher_is_better else "at most"
    told = [f"{value} on {n} items; {bound} {format_value(limit, 'count')} is wanted"]
    if score.lower is None or score.upper is None:
        return [*told, "all items are of one cluster, which shows no spread"]
    low, high = format_value(score.lower, "count"), format_value(score.upper, "count")
    if verdict is QualityVerdict.INCONCLUSIVE:
        told.append(f"{low} to {high} is possible")
        return [*told, _price(needed)] if needed else told
    shown = {True: f"it is shown to be at least {low}", False: f"it is shown to be at most {high}"}
    return [*told, shown[(verdict is QualityVerdict.PASS) is outcomes.higher_is_better]]
