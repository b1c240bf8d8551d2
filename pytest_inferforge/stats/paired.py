"""The same items answered twice: how many got worse, how many better, and what that shows.

b items were right and are wrong now ("worse"), c were wrong and are right ("better"), of n pairs; the
difference (b - c) / n is what accuracy lost.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy import special

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

_FEW = 20  # discordant pairs, below which the normal bound is too sure of itself
_STEPS = 80  # halvings


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


def clustered_upper(
    losses: Sequence[float], clusters: Sequence[Hashable], alpha: float
) -> tuple[float, float]:
    """Mean loss and its upper bound when items of one cluster (a passage, a subject) go together.

    losses: was less is, of each item, in any unit. t with one degree of freedom less than clusters.

    Source: cluster-robust standard error, Miller 2024 (arXiv 2411.00640), section 2.2.

    Raises:
        ValueError: fewer than 2 clusters.
    """
    values = np.asarray(losses, dtype=float)
    mean = float(values.mean()) if len(values) else 0.0
    sums: dict[Hashable, float] = {}
    for value, cluster in zip(values.tolist(), clusters, strict=True):
        sums[cluster] = sums.get(cluster, 0.0) + value - mean
    if len(sums) < 2:
        raise ValueError(f"{len(sums)} clusters show no spread")
    k = len(sums)
    se = math.sqrt(sum(s**2 for s in sums.values()) * k / (k - 1)) / len(values)
    return mean, mean + float(special.stdtrit(k - 1, 1.0 - alpha)) * se


def needed_pairs(changed_share: float, margin: float, alpha: float, power: float) -> int:
    """About how many pairs show with that power that the loss is below the margin when there is none.

    Source: normal approximation, (z_alpha + z_power)^2 * share of changed items / margin^2.
    """
    reach = float(special.ndtri(1.0 - alpha)) + float(special.ndtri(power))
    return max(1, math.ceil(reach**2 * changed_share / margin**2))


def _score(worse: int, better: int, n: int, loss: float) -> float:
    """The score statistic of a true loss; falls as it grows."""
    a = 2.0 * n
    b = -worse - better + (2.0 * n - worse + better) * loss
    c = -better * loss * (1.0 - loss)
    q = (math.sqrt(max(0.0, b * b - 4.0 * a * c)) - b) / (2.0 * a)
    variance = n * (2.0 * q + loss * (1.0 - loss))
    away = worse - better - n * loss
    return away / math.sqrt(variance) if variance > 0.0 else math.copysign(math.inf, away) if away else 0.0
