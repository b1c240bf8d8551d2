"""forge_consistency: each question in three phrasings, the first of them asked twice.

The items of one question are a cluster. The score is whether the replies are right; whether they are the
same, right or wrong, is `agreement`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from statistics import fmean
from typing import TYPE_CHECKING

from pytest_inferforge.errors import UsageError
from pytest_inferforge.quality.packs import draws
from pytest_inferforge.quality.packs.arithmetic import SAY_NUMBER, most_subject, near, operands, sum_subject
from pytest_inferforge.quality.packs.checking import passes, said
from pytest_inferforge.quality.packs.grounded import place_check, tell
from pytest_inferforge.quality.packs.item import Check, Item, make

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

NAME = "forge_consistency"


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Shares of 0 to 1: of right replies, and of the pairs of replies to one question that agree.

    Two right replies agree, however worded; wrong ones when they say the same; saying nothing agrees with
    nothing. A share is None where there is nothing to compare.
    """

    correct_ratio: float | None
    phrasings_ratio: float | None
    repeats_ratio: float | None


def agreement(items: Sequence[Item], replies: Sequence[str]) -> Agreement:
    """Compare the replies (one per item, in the same order) within each cluster.

    Every question weighs the same, however many of its pairs are there.

    Raises:
        UsageError: there is not one reply per item.
    """
    if len(items) != len(replies):
        raise UsageError(
            "each item needs its reply",
            seen=f"{len(items)} items, {len(replies)} replies",
            do="give one reply per item, in the order of the items",
        )
    right = [passes(item, reply).correct for item, reply in zip(items, replies, strict=True)]
    clusters: dict[str, list[tuple[Item, str]]] = {}
    for item, reply, is_right in zip(items, replies, right, strict=True):
        clusters.setdefault(item.cluster, []).append((item, item.answer if is_right else said(reply)))
    phrasings, repeats = [], []
    for asked in clusters.values():
        pairs = list(combinations(asked, 2))
        phrasings.append([_same(a, b) for a, b in pairs if a[0].prompt != b[0].prompt])
        repeats.append([_same(a, b) for a, b in pairs if a[0].prompt == b[0].prompt])
    return Agreement(
        correct_ratio=fmean(right) if right else None,
        phrasings_ratio=_mean_of_means(phrasings),
        repeats_ratio=_mean_of_means(repeats),
    )


def _same(one: tuple[Item, str], other: tuple[Item, str]) -> bool:
    return one[1] == other[1] != ""


def _mean_of_means(clusters: Sequence[Sequence[bool]]) -> float | None:
    means = [fmean(cluster) for cluster in clusters if cluster]
    return fmean(means) if means else None


def _sum(rng: random.Random) -> tuple[Item, ...]:
    one, other, difficulty = operands(rng)
    phrasings = (
        f"? what is {one} + {other} ?",
        f"? {one} + {other} = ?",
        f"? how many are {one} and {other} in all ?",
    )
    subject, answer = sum_subject((one, other)), one + other
    return _cluster("sum", subject, phrasings, SAY_NUMBER, str(answer), near(rng, answer), difficulty, None)


def _most(rng: random.Random) -> tuple[Item, ...]:
    numbers = draws.some_of(rng, range(100), 4)
    texts = [str(number) for number in numbers]
    listed = " , ".join(texts)
    phrasings = (
        f"? which number is the most : {listed} ?",
        f"? of {listed} , which is the most ?",
        f"? find the most of {listed} .",
    )
    answer = str(max(numbers))
    return _cluster("most", most_subject(numbers), phrasings, SAY_NUMBER, answer, texts, len(numbers), None)


def _place(rng: random.Random) -> tuple[Item, ...]:
    """Difficulty: how many facts."""
    facts = draws.between(rng, 3, 6)
    story, k = tell(rng, facts), draws.between(rng, 0, facts - 1)
    thing, place = story.things[k], story.places[k]
    told = story.text()
    phrasings = (
        f"{told}\n? where is the {thing} ?",
        f"{told}\n? the {thing} is where ?",
        f"{told}\n? find the {thing} .",
    )
    subject = f"{told}\n{thing}"
    wrong = [*story.places, story.elsewhere]
    check = place_check(thing, place)
    return _cluster("place", subject, phrasings, "> say the place :", place, wrong, facts, check)


def _cluster(
    kind: str,
    subject: str,
    phrasings: Sequence[str],
    cue: str,
    answer: str,
    wrong: Sequence[str],
    difficulty: int,
    check: Check | None,
) -> tuple[Item, ...]:
    asked = [(phrasing, 0) for phrasing in phrasings] + [(phrasings[0], 1)]
    return tuple(
        make(
            pack=NAME,
            kind=kind,
            subject=subject,
            prompt=f"{phrasing}\n{cue}",
            answer=answer,
            wrong=wrong,
            difficulty=difficulty,
            check=check,
            repeat=repeat,
        )
        for phrasing, repeat in asked
    )


KINDS: dict[str, Callable[[random.Random], tuple[Item, ...]]] = {
    "sum": _sum,
    "most": _most,
    "place": _place,
}
