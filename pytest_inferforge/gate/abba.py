"""Fresh boots of two sides, measured in turns in one session: what they say of each gated metric."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pytest_inferforge import metrics
from pytest_inferforge.gate import tails
from pytest_inferforge.gate.scale import scale_of
from pytest_inferforge.gate.verdicts import ABBA, Weighed, decide
from pytest_inferforge.records import ComparisonVerdict, RunVerdict
from pytest_inferforge.stats import arms
from pytest_inferforge.stats.multiplicity import holm
from pytest_inferforge.units import format_value

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_inferforge.gate.scale import Scale
    from pytest_inferforge.options import JudgeOptions
    from pytest_inferforge.records import BootResult, Comparison

REFERENCE, CURRENT, CONTROL = "reference", "current", "control"


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One boot of one arm, in the order of boots, and what was measured on it: key of a test -> result."""

    arm: str
    boots: Mapping[str, BootResult]


def decided_by_turns(
    drafts: Sequence[Comparison],
    slots: Sequence[Slot],
    *,
    reference: str,
    options: JudgeOptions,
    arm: str = CURRENT,
    base_arm: str = REFERENCE,
    family: int | None = None,
) -> tuple[Comparison, ...]:
    """The verdicts of these comparisons, from these boots alone; they are one family for Holm, or a part of
    one of so many.

    One that has too few boots comes back as it was, `incomparable` with the reason. When a control arm was
    measured and differs from the reference, though it is the same server, nothing can be believed.

    Source: docs/how-it-judges.md.
    """
    slots = tails.alike_slots(drafts, slots, base_arm)
    if (fault := broken_control(drafts, slots, options, base_arm=base_arm)) is not None:
        return tuple(replace(d, verdict=ComparisonVerdict.INCOMPARABLE, reason=fault) for d in drafts)
    weighed = [
        weigh_turns(replace(d, reference=reference), slots, options, arm=arm, base_arm=base_arm)
        for d in drafts
    ]
    family = family or len(weighed)
    p = iter(holm([w.difference.p_worse for w in weighed if isinstance(w, Weighed)], family))
    return tuple(decide(w, next(p), family, options) if isinstance(w, Weighed) else w for w in weighed)


def weigh_turns(
    draft: Comparison, slots: Sequence[Slot], options: JudgeOptions, *, arm: str, base_arm: str
) -> Weighed | Comparison:
    """What the boots of two arms say, a linear drift from boot to boot taken out."""
    scale = scale_of(metrics.metric(draft.metric))
    base_points, points = (_points(draft, slots, name, scale) for name in (base_arm, arm))
    if len(base_points) < 2 or len(points) < 2 or len(base_points) + len(points) < 4:
        seen = f"{len(base_points)} of the reference and {len(points)} of this server"
        why = f"too few boots could be measured in turns: {seen}"
        return replace(draft, verdict=ComparisonVerdict.INCOMPARABLE, reason=why)
    try:
        found = arms.compare_arms(base_points, points, alpha=options.alpha, sd_floor=options.sd_floor)
    except ValueError as error:
        return replace(draft, verdict=ComparisonVerdict.INCOMPARABLE, reason=str(error))
    base = statistics.fmean(point for _, point in base_points)
    d = found.difference
    trend_ratio = None if scale.share else math.exp(scale.sign * found.trend)
    names = {base_arm: REFERENCE, arm: CURRENT}
    shown = sorted([(k, base_arm, v) for k, v in base_points] + [(k, arm, v) for k, v in points])
    order = "".join("R" if name == base_arm else "C" for _, name, _ in shown)
    notes = [f"from fresh boots alone, in turns {order} (R the reference, C this server)"]
    if trend_ratio is not None:
        notes.append(f"{format_value(trend_ratio - 1.0, 'change')} from boot to boot")
    draft = replace(
        draft,
        ratio=scale.ratio(base, d.diff),
        reference_value=scale.value(base),
        value=scale.value(base + d.diff),
        n_reference=len(base_points),
        n_current_boots=len(points),
        evidence=ABBA,
        slots=tuple((names[name], scale.value(v)) for _, name, v in shown),
        trend_ratio=trend_ratio,
    )
    return Weighed(draft=draft, scale=scale, base=base, difference=d, notes=tuple(notes))


def broken_control(
    drafts: Sequence[Comparison],
    slots: Sequence[Slot],
    options: JudgeOptions,
    *,
    base_arm: str = REFERENCE,
) -> str | None:
    """Why nothing here can be believed: two arms of the same server differ. None: they do not, or only one.

    Differ: by the margin or more, either way, significantly after Holm over these comparisons and ways.
    """
    weighed = [
        w
        for d in drafts
        if isinstance(w := weigh_turns(d, slots, options, arm=CONTROL, base_arm=base_arm), Weighed)
    ]
    if not weighed:
        return None
    two_sided = [min(1.0, 2.0 * min(w.difference.p_worse, 1.0 - w.difference.p_worse)) for w in weighed]
    for w, p in zip(weighed, holm(two_sided, len(weighed)), strict=True):
        too_much = w.scale.worse_shift(w.base, w.draft.margin or 0.0)
        if p <= options.alpha and abs(w.difference.diff) >= too_much:
            change = w.scale.describe(w.base, w.difference.diff)
            where = f"{change} in {w.draft.metric}"
            return f"this machine moves: the same server, booted as a control, came out {where}"
    return None


def _points(draft: Comparison, slots: Sequence[Slot], arm: str, scale: Scale) -> list[tuple[float, float]]:
    """(slot, value on the scale) of the valid boots of one arm."""
    found = []
    for place, slot in enumerate(slots):
        boot = slot.boots.get(draft.nodeid)
        if slot.arm != arm or boot is None or boot.verdict is not RunVerdict.VALID:
            continue
        value = boot.metrics.get(draft.metric)
        point = None if value is None else scale.point(value)
        if point is not None:
            found.append((float(place), point))
    return found
