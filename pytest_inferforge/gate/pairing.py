"""The same items answered twice, put side by side; and what keeps a score from being evidence."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_inferforge.stats import clusters
from pytest_inferforge.units import format_value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_inferforge.options import JudgeOptions
    from pytest_inferforge.outcomes import Outcomes


@dataclass(frozen=True, slots=True, kw_only=True)
class Paired:
    """Items that both sides answered. `losses`: how much worse each is now, in units of the score.

    `clusters`: as long, or empty. `left_out`: which items stand aside, for a person to read; empty: none.
    """

    losses: tuple[float, ...]
    clusters: tuple[str, ...]
    value: float
    reference_value: float
    left_out: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubts:
    """Facts about an evaluation that are no scores, for a person to read.

    `of_all`: no verdict may rest on such scores. `of_green`: none that says all is well. `said`: beside it.
    """

    of_all: tuple[str, ...] = ()
    of_green: tuple[str, ...] = ()
    said: tuple[str, ...] = ()


def unjudgeable(outcomes: Outcomes, options: JudgeOptions) -> str | None:
    """Why an evaluation must not be judged at all: it is a measuring error, no verdict. None: it may be."""
    answered = len(outcomes.scores)
    asked = answered + outcomes.unanswered
    if not answered:
        return f"none of {asked} items was answered"
    share = outcomes.unanswered / asked
    if share > options.unanswered_limit:
        most = format_value(options.unanswered_limit, "ratio")
        return f"{outcomes.unanswered} of {asked} items were not answered; {most} may be"
    if not all(map(math.isfinite, outcomes.scores)):
        return "a score is not a number"
    if len(set(outcomes.keys)) < answered:
        return "two items have the same key"
    return None


def pair(current: Outcomes, reference: Outcomes, options: JudgeOptions) -> Paired | str:
    """Join two evaluations on their items' keys, or say why they cannot be compared and what to do."""
    if found := _differences(current, reference):
        return f"not the same evaluation: {'; '.join(found)}; ask alike, or save a new reference"
    for side, outcomes in (("now", current), ("in the reference", reference)):
        if said := unjudgeable(outcomes, options):
            return f"{side} {said}; evaluate it again"
    then = dict(zip(reference.keys, reference.scores, strict=True))
    at = [k for k, key in enumerate(current.keys) if key in then]
    union = len(then) + len(current.keys) - len(at)
    if len(at) < options.pair_match * union:
        return (
            f"only {len(at)} of {union} items are in both, and {format_value(options.pair_match, 'ratio')} "
            "must be: data, prompts or their number differ; ask the same items, or save a new reference"
        )
    sign = 1.0 if current.higher_is_better else -1.0
    scores = [current.scores[k] for k in at]
    were = [then[current.keys[k]] for k in at]
    return Paired(
        losses=tuple(sign * (was - now) for was, now in zip(were, scores, strict=True)),
        clusters=tuple(current.clusters[k] for k in at) if current.clusters else (),
        value=math.fsum(scores) / len(at),
        reference_value=math.fsum(were) / len(at),
        left_out=_left_out(len(at), union, current.unanswered, reference.unanswered),
    )


def doubts_of(sides: Sequence[tuple[str, Outcomes]], options: JudgeOptions) -> Doubts:
    """What stands against a verdict on one evaluation, or on two; each with its name in a sentence."""
    of_all, of_green, said = [], [], []
    for name, outcomes in sides:
        n = len(outcomes.scores)
        if outcomes.tied > options.tied_limit * n:
            of_all.append(
                f"no choice was the best on {outcomes.tied} of {n} items{name}: "
                "this server gives no real log probabilities"
            )
    cut = [(name, outcomes.truncated, len(outcomes.scores)) for name, outcomes in sides]
    text = " and ".join(f"{x} of {n} replies{name}" for name, x, n in cut)
    text += " were cut at the most tokens allowed"
    if any(x > options.truncated_limit * n for _, x, n in cut):
        of_green.append(f"{text}: allow more")
    elif 0 < sum(x > 0 for _, x, _ in cut) < len(cut):
        said.append(text)
    if all(guessed(outcomes, options) for _, outcomes in sides):
        chance = format_value(sides[0][1].chance, "count")
        values = " and ".join(f"{format_value(o.value, 'count')}{name}" for name, o in sides)
        alike = "is" if len(sides) == 1 else "are"
        guess = f"{values} {alike} what guessing gets ({chance})"
        if len(sides) > 1:
            of_green.append(f"{guess}, and what was never there cannot be lost")
        else:
            said.append(guess)
    return Doubts(of_all=tuple(of_all), of_green=tuple(of_green), said=tuple(said))


def guessed(outcomes: Outcomes, options: JudgeOptions) -> bool:
    """Whether the score could be that of guessing: both its bounds hold the chance level between them."""
    if outcomes.chance is None or not outcomes.scores:
        return False
    found = clusters.mean_score(outcomes.scores, outcomes.clusters, options.alpha)
    if found.lower is None or found.upper is None:
        return False
    return found.lower <= outcomes.chance <= found.upper


def _differences(current: Outcomes, reference: Outcomes) -> list[str]:
    fields = ("task", "metric", "filter", "higher_is_better")
    before = {**{f: str(getattr(reference, f)) for f in fields}, **reference.identity}
    now = {**{f: str(getattr(current, f)) for f in fields}, **current.identity}
    keys = (k for k in sorted({*before, *now}) if before.get(k) != now.get(k))
    return [f"{k}: {before.get(k, '(absent)')} -> {now.get(k, '(absent)')}" for k in keys]


def _left_out(common: int, union: int, unanswered_now: int, unanswered_then: int) -> str:
    if common == union and not unanswered_now and not unanswered_then:
        return ""
    if common == union:
        return f"{max(unanswered_now, unanswered_then)} items were answered by neither side"
    why = [
        f"{n} unanswered {when}"
        for n, when in ((unanswered_now, "now"), (unanswered_then, "in the reference"))
        if n
    ]
    return f"{union - common} items are on one side only" + (f" ({', '.join(why)})" if why else "")
