"""How far answers moved from a reference's, whether they got worse or not: it is told, and judges nothing."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_inferforge.outcomes import Outcomes, Repeat

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """Replies and choices of one task beside a reference's; None: it was not recorded on both sides.

    `changed` of `replies` items were replied to otherwise, `flipped` of `items` changed their score.
    `repeat`: the same of one boot that was asked twice (the reference's, else this one's): what changes
    though nothing did. `diverged` of `texts` compared texts part somewhere: `diverged_at` is the median
    position, in characters, `earliest_share` the earliest one as a share of the longer text.
    `kl_nats`: from the reference's distribution over the choices to this one's, mean over the items.
    """

    items: int
    flipped: int
    replies: int
    changed: int
    texts: int
    diverged: int
    diverged_at: float | None
    earliest_share: float | None
    kl_nats: float | None
    perplexity_ratio: float | None  # this one's over the reference's
    repeat: Repeat | None


def drift_of(current: Outcomes, reference: Outcomes) -> Drift | None:
    """What changed on the items that both sides answered; None: they have none in common."""
    scores = _both(current.keys, current.scores, reference.keys, reference.scores)
    if not scores:
        return None
    replies = _both(current.keys, current.replies, reference.keys, reference.replies)
    texts = _both(current.keys, current.said, reference.keys, reference.said)
    choices = _both(current.keys, current.likelihoods, reference.keys, reference.likelihoods)
    parted = [(_parted_at(now, then), max(len(now), len(then))) for now, then in texts if now != then]
    kl = [found for now, then in choices if (found := _kl_nats(then, now)) is not None]
    return Drift(
        items=len(scores),
        flipped=sum(now != then for now, then in scores),
        replies=len(replies),
        changed=sum(now != then for now, then in replies),
        texts=len(texts),
        diverged=len(parted),
        diverged_at=statistics.median(at for at, _ in parted) if parted else None,
        earliest_share=min(at / length for at, length in parted) if parted else None,
        kl_nats=math.fsum(kl) / len(kl) if kl else None,
        perplexity_ratio=_ratio(current.perplexity, reference.perplexity),
        repeat=reference.repeat or current.repeat,
    )


def _both(
    keys: Sequence[str], values: Sequence[_T], reference_keys: Sequence[str], reference_values: Sequence[_T]
) -> list[tuple[_T, _T]]:
    """(now, then) of the items that have a value on both sides; values may be of the first items only."""
    then = dict(zip(reference_keys, reference_values, strict=False))
    return [(now, then[key]) for key, now in zip(keys, values, strict=False) if key in then]


def _parted_at(one: str, other: str) -> int:
    """The first character in which they differ; where one ends."""
    shared = zip(one, other, strict=False)
    return next((k for k, (a, b) in enumerate(shared) if a != b), min(len(one), len(other)))


def _kl_nats(then: Sequence[float], now: Sequence[float]) -> float | None:
    """Kullback-Leibler divergence of the choices; None: other choices, or a likelihood without a number.

    Source: Kullback & Leibler 1951, over the softmax of the log-likelihoods.
    """
    if len(then) != len(now) or not then or not all(map(math.isfinite, (*then, *now))):
        return None
    p, q = _log_softmax(then), _log_softmax(now)
    return max(0.0, math.fsum(math.exp(a) * (a - b) for a, b in zip(p, q, strict=True)))


def _log_softmax(values: Sequence[float]) -> list[float]:
    highest = max(values)
    total = highest + math.log(math.fsum(math.exp(v - highest) for v in values))
    return [v - total for v in values]


def _ratio(now: float | None, then: float | None) -> float | None:
    return now / then if now is not None and then else None
