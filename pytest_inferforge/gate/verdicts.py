"""The verdict of one comparison, and the sentence that explains it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pytest_inferforge.gate.evidence import boot_sd
from pytest_inferforge.records import ComparisonVerdict
from pytest_inferforge.stats import power

if TYPE_CHECKING:
    from pytest_inferforge.gate.evidence import SessionValue
    from pytest_inferforge.gate.scale import Scale
    from pytest_inferforge.options import JudgeOptions
    from pytest_inferforge.records import Comparison
    from pytest_inferforge.stats.compare import Difference

ABBA = "abba"  # `Comparison.evidence` of fresh boots of both sides, in turns


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighed:
    """A comparison whose evidence was weighed, before the family is known."""

    draft: Comparison
    scale: Scale
    base: float  # the reference on the scale
    difference: Difference
    stored: tuple[SessionValue, ...] = ()  # the sessions behind it; none where boots are
    notes: tuple[str, ...] = ()  # what the verdict rests on, for the end of its sentence


def decide(weighed: Weighed, p_adjusted: float, family: int, options: JudgeOptions) -> Comparison:
    """Regressed: worse by the margin, after Holm. Not regressed: shown to be less than the margin worse.

    In this order: regressed, improved, not_regressed, inconclusive. The bounds are one-sided at alpha each.
    """
    scale, base, d = weighed.scale, weighed.base, weighed.difference
    too_much = scale.worse_shift(base, weighed.draft.margin or 0.0)
    if p_adjusted <= options.alpha and d.diff >= too_much:
        verdict = ComparisonVerdict.REGRESSED
    else:
        verdict = unless_regressed(weighed)
    result = replace(bounded(weighed, p_adjusted, family, options), verdict=verdict)
    return replace(result, reason=_reason(weighed, result, family, options))


def unless_regressed(weighed: Weighed) -> ComparisonVerdict:
    """Improved, not regressed or neither: what the bounds say of a comparison that is not red."""
    scale, base, d = weighed.scale, weighed.base, weighed.difference
    margin = weighed.draft.margin or 0.0
    if d.upper < 0.0 and d.diff <= -scale.better_shift(base, margin):
        return ComparisonVerdict.IMPROVED
    if d.upper < scale.worse_shift(base, margin):
        return ComparisonVerdict.NOT_REGRESSED
    return ComparisonVerdict.INCONCLUSIVE


def undecided(
    weighed: Weighed, p_adjusted: float, family: int, options: JudgeOptions, why: str
) -> Comparison:
    """A suspicious comparison that nothing more could be measured for."""
    result = replace(bounded(weighed, p_adjusted, family, options), verdict=ComparisonVerdict.INCONCLUSIVE)
    return replace(result, reason=f"{_reason(weighed, result, family, options)}; {why}")


def bounded(weighed: Weighed, p_adjusted: float, family: int, options: JudgeOptions) -> Comparison:
    """The draft with its numbers, without a verdict."""
    scale, base, d = weighed.scale, weighed.base, weighed.difference
    bounds = sorted(r for r in (scale.ratio(base, d.lower), scale.ratio(base, d.upper)) if r is not None)
    return replace(
        weighed.draft,
        lower=bounds[0] if bounds else None,
        upper=bounds[-1] if bounds else None,
        p=d.p_worse,
        p_adjusted=p_adjusted,
        mde_ratio=_mde_ratio(weighed, family, options),
    )


def detectable_ratio(
    scale: Scale,
    base: float,
    sd: float,
    n: int,
    margin: float,
    family: int,
    options: JudgeOptions,
    *,
    m: int = 1,
    spent_df: int = 2,
) -> float | None:
    """The smallest worsening, as a ratio > 1, that would be red; None: a share has no such ratio."""
    alpha = options.alpha / max(1, family)
    shift = power.detectable_shift(sd, n, m, alpha, options.power, scale.worse_shift(base, margin), spent_df)
    ratio = scale.ratio(base, shift) if math.isfinite(shift) else None
    if not ratio:
        return None
    return max(ratio, 1.0 / ratio)


def _mde_ratio(weighed: Weighed, family: int, options: JudgeOptions) -> float | None:
    draft, boots = weighed.draft, weighed.draft.evidence == ABBA
    return detectable_ratio(
        weighed.scale,
        weighed.base,
        weighed.difference.sd,
        draft.n_reference,
        draft.margin or 0.0,
        family,
        options,
        m=draft.n_current_boots if boots else 1,
        spent_df=3 if boots else 2,
    )


# -- the sentence ----------------------------------------------------------------------------------------


def _reason(weighed: Weighed, result: Comparison, family: int, options: JudgeOptions) -> str:
    scale, base, d = weighed.scale, weighed.base, weighed.difference
    margin = scale.describe_margin(result.margin or 0.0)
    change = scale.describe(base, d.diff)
    p = f"p {d.p_worse:.2g}"
    if family > 1:
        p += f", {result.p_adjusted:.2g} over {family} comparisons"
    if result.verdict is ComparisonVerdict.REGRESSED:
        said = f"{change}, the margin is {margin}; {p}"
    elif result.verdict is ComparisonVerdict.IMPROVED:
        said = f"{change}, the margin is {scale.describe_margin(result.margin or 0.0)}"
        if result.evidence != ABBA:
            said += "; accept it into the baseline if it is meant to stay"
    elif result.verdict is ComparisonVerdict.NOT_REGRESSED:
        most = scale.describe(base, d.upper)
        said = (
            f"{change}, inside the margin of {margin}" if d.lower > 0.0 else f"{change}, at the most {most}"
        )
    else:
        span = f"{scale.describe(base, d.lower)} to {scale.describe(base, d.upper)}"
        said = f"cannot tell: {span}, the margin is {margin}; {p}; {_price(weighed, result, family, options)}"
    return "; ".join((said, *weighed.notes))


def _price(weighed: Weighed, result: Comparison, family: int, options: JudgeOptions) -> str:
    """What would have been seen, and what it takes to see the margin."""
    scale, sd, n = weighed.scale, weighed.difference.sd, result.n_reference
    alpha, wanted = options.alpha / family, scale.worse_shift(weighed.base, result.margin or 0.0)
    margin = scale.describe_margin(result.margin or 0.0)
    ratio = result.mde_ratio
    seen = f"a worsening by {scale.describe_detectable(weighed.base, ratio)} would be seen" if ratio else ""
    if result.evidence == ABBA:
        pairs = power.pairs_needed(sd, alpha, options.power, wanted)
        ways = [f"{pairs} pairs of boots"] if pairs and pairs > n else []
        near = bool(pairs)
    else:
        sessions = power.more_sessions(sd, n, 1, alpha, options.power, wanted)
        ways = [f"{sessions} more stored sessions"] if sessions else []
        if (boots := _boots(weighed, n, alpha, options.power, wanted)) is not None and sessions != 0:
            ways.append(f"{boots} boots in every session")
        near = sessions == 0
    if near and not ways:
        return f"{seen}; a slowdown near {margin} falls on either side of it"
    if ways:
        price = f"{' or '.join(ways)} would show {margin}"
    elif result.evidence == ABBA:
        price = f"no number of pairs up to {power.MOST} would show {margin}: boots differ too much"
    else:
        price = f"no number of sessions up to {power.MOST} would show {margin}: sessions differ too much"
    return "; ".join(part for part in (seen, price) if part)


def _boots(weighed: Weighed, n: int, alpha: float, wanted_power: float, shift: float) -> int | None:
    """How many boots a session would do, where stored sessions show how boots differ; else None."""
    inside = boot_sd(weighed.stored)
    if inside is None:
        return None
    boots = sum(len(v.boots) for v in weighed.stored) / len(weighed.stored)
    between = math.sqrt(max(0.0, weighed.difference.sd**2 - inside**2 / boots))
    needed = power.boots_a_session(between, inside, n, 1, alpha, wanted_power, shift)
    return needed if needed is not None and needed > boots else None
