"""The same items answered twice: how many got worse, how many better, and what that shows.

b items were right and are wrong now ("worse"), c were wrong and are right ("better"), of n pairs; the
difference (b - c) / n is what accuracy lost.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from scipy import special

from pytest_inferforge.stats.clusters import clustered_mean, summed

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

_NOTHING = 1e-12  # of a sum of scores
_FEW = 20  # discordant pairs, below which the normal bound is too sure of itself
_STEPS = 80  # halvings


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """What pairs show: `worse` and `better` items of `n`, the mean loss and its bounds.

    `p_worse` and `p_better` are one-sided, `least_p` is the smallest that so few changes can give at all.
    `variance`: of the mean loss, times n.
    """

    worse: int
    better: int
    n: int
    loss: float
    lower: float
    upper: float
    p_worse: float
    p_better: float
    least_p: float
    variance: float


def worse_p(worse: int, better: int) -> float:
    """One-sided p for "more items got worse than better"; 1 when none changed.

    Source: McNemar 1947, exact: binomial with b + c trials and 1/2.
    """
    changed = worse + better
    return float(special.bdtrc(worse - 1, changed, 0.5)) if worse > 0 else 1.0


def least_p(worse: int, better: int) -> float:
    """The smallest p that so many changed items can give at all: all of them worse."""
    return 0.5 ** (worse + better)


def loss_upper(worse: int, better: int, n: int, alpha: float) -> float:
    """What the loss is shown to be below, one-sided at alpha.

    Source: Wald's bound for paired shares from 20 changed items on, below that Tango's score bound (1998).

    Raises:
        ValueError: no pairs, or more changes than pairs.
    """
    if n <= 0 or worse < 0 or better < 0 or worse + better > n:
        raise ValueError(f"{worse} worse and {better} better of {n} pairs")
    z = float(special.ndtri(1.0 - alpha))
    loss = (worse - better) / n
    if worse + better >= _FEW:
        return min(1.0, loss + z * math.sqrt((worse + better) / n - loss**2) / math.sqrt(n))
    low, high = loss, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2.0
        if _score(worse, better, n, middle) > -z:
            low = middle
        else:
            high = middle
    return high


def loss_of(losses: Sequence[float], clusters: Sequence[Hashable], alpha: float) -> Loss:
    """What pairs show of the loss: was less is, of each item; the bounds are one-sided at alpha each.

    Exact where each item is right or wrong and stands alone. Else t over the clusters (no clusters: over the
    items), never surer than so few changed ones can be, nor than right and wrong items that stand alone.

    Source: McNemar 1947, Tango 1998; Miller 2024 (arXiv 2411.00640), section 2.2.

    Raises:
        ValueError: no pairs, or fewer than 2 clusters of what is not counted.
    """
    n, alone = len(losses), len(set(clusters)) == len(clusters)
    worse, better = sum(v > 0.0 for v in losses), sum(v < 0.0 for v in losses)
    counts = all(v in (-1.0, 0.0, 1.0) for v in losses)
    if counts and alone:
        return _counted(worse, better, n, alpha)
    units = clusters if not alone else range(n)
    found = clustered_mean(losses, units)
    changed = sum(abs(s) > _NOTHING for s in summed(losses, units).values())
    least, half = least_p(changed, 0), found.half_width(alpha)
    if changed < _FEW:
        half = max(half, loss_upper(0, 0, n, alpha))
    by_t = Loss(
        worse=worse,
        better=better,
        n=n,
        loss=found.mean,
        lower=found.mean - half,
        upper=found.mean + half,
        p_worse=max(least, found.p_above),
        p_better=max(least, replace(found, mean=-found.mean).p_above),
        least_p=least,
        variance=found.se**2 * n,
    )
    return _less_sure(by_t, _counted(worse, better, n, alpha)) if counts else by_t


def _counted(worse: int, better: int, n: int, alpha: float) -> Loss:
    return Loss(
        worse=worse,
        better=better,
        n=n,
        loss=(worse - better) / n if n else 0.0,
        lower=-loss_upper(better, worse, n, alpha),
        upper=loss_upper(worse, better, n, alpha),
        p_worse=worse_p(worse, better),
        p_better=worse_p(better, worse),
        least_p=least_p(worse, better),
        variance=(worse + better) / n - ((worse - better) / n) ** 2,
    )


def _less_sure(one: Loss, other: Loss) -> Loss:
    return replace(
        one,
        loss=other.loss,
        lower=min(one.lower, other.lower),
        upper=max(one.upper, other.upper),
        p_worse=max(one.p_worse, other.p_worse),
        p_better=max(one.p_better, other.p_better),
        variance=max(one.variance, other.variance),
    )


def needed_pairs(variance: float, margin: float, alpha: float, power: float) -> int:
    """About how many pairs show with that power that the loss is below the margin when there is none.

    variance: of one pair's loss; the share of changed items, where each is right or wrong. With a loss,
    `margin` is how far it is from what is to be shown. At least as many as show it when nothing changes.

    Source: normal approximation, (z_alpha + z_power)^2 * variance / margin^2; Tango 1998 for no change.
    """
    z = float(special.ndtri(1.0 - alpha))
    reach = z + float(special.ndtri(power))
    unchanged = z**2 * (1.0 - margin) / margin
    return max(1, math.ceil(unchanged), math.ceil(reach**2 * variance / margin**2))


def _score(worse: int, better: int, n: int, loss: float) -> float:
    """The score statistic of a true loss; falls as it grows."""
    a = 2.0 * n
    b = -worse - better + (2.0 * n - worse + better) * loss
    c = -better * loss * (1.0 - loss)
    q = (math.sqrt(max(0.0, b * b - 4.0 * a * c)) - b) / (2.0 * a)
    variance = n * (2.0 * q + loss * (1.0 - loss))
    away = worse - better - n * loss
    return away / math.sqrt(variance) if variance > 0.0 else math.copysign(math.inf, away) if away else 0.0
