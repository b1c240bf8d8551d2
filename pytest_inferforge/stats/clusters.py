"""Items that go together: those of one passage or subject, or one question asked in several ways.

They do not err independently, so that fewer of them are worth as much as independent ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from pytest_inferforge.stats import intervals

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusteredMean:
    """A mean over items, with the standard error that its clusters leave; `clusters` is their number."""

    mean: float
    se: float
    clusters: int

    def half_width(self, alpha: float) -> float:
        """From the mean to a one-sided bound. Source: Student's t, one degree less than clusters."""
        return float(special.stdtrit(self.clusters - 1, 1.0 - alpha)) * self.se

    @property
    def p_above(self) -> float:
        """One-sided p for "the true mean is above 0"; where nothing varies it is 0 or 1, by the mean."""
        if self.se <= 0.0:
            return 0.0 if self.mean > 0.0 else 1.0
        return float(special.stdtr(self.clusters - 1, -self.mean / self.se))


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """A mean score and its one-sided bounds; None: nothing shows how items vary.

    `effect`: how many of these items are worth one independent one.
    """

    value: float
    lower: float | None
    upper: float | None
    effect: float = 1.0


def summed(values: Sequence[float], clusters: Sequence[Hashable]) -> dict[Hashable, float]:
    """The sum of each cluster's values; no clusters: each item is one."""
    sums: dict[Hashable, float] = {}
    for cluster, value in zip(clusters or range(len(values)), values, strict=True):
        sums[cluster] = sums.get(cluster, 0.0) + value
    return sums


def clustered_mean(values: Sequence[float], clusters: Sequence[Hashable] = ()) -> ClusteredMean:
    """The mean of the items and its standard error when those of one cluster go together.

    Source: cluster-robust standard error, Miller 2024 (arXiv 2411.00640), section 2.2, times k / (k - 1).

    Raises:
        ValueError: fewer than 2 clusters.
    """
    mean = float(np.mean(values)) if len(values) else 0.0
    sums = summed([value - mean for value in values], clusters)
    k = len(sums)
    if k < 2:
        raise ValueError(f"{k} clusters show no spread")
    se = math.sqrt(math.fsum(s**2 for s in sums.values()) * k / (k - 1)) / len(values)
    return ClusteredMean(mean=mean, se=se, clusters=k)


def mean_score(scores: Sequence[float], clusters: Sequence[Hashable], alpha: float) -> Score:
    """The mean of 0/1 scores, or of other scores from 0 to 1, with bounds one-sided at alpha each.

    0/1: exact, after x / D of n / D where they come in clusters. Others: t over the clusters; where these are
    all alike, the bounds of 0/1 scores with that mean, which vary most.

    Source: Clopper & Pearson 1934; Korn & Graubard 1998 for D, and for (t / z)^2 of few clusters.

    Raises:
        ValueError: no scores.
    """
    n = len(scores)
    if not n:
        raise ValueError("no scores")
    value = math.fsum(scores) / n
    alone = len(set(clusters)) == len(clusters)
    right_or_wrong = all(score in (0.0, 1.0) for score in scores)
    if right_or_wrong and alone:
        return _counted(value, n, 1.0, alpha)
    if n < 2 or (not alone and len(set(clusters)) < 2):
        return Score(value=value, lower=None, upper=None)
    found = clustered_mean(scores, () if alone else clusters)
    spread = value * (1.0 - value)
    if right_or_wrong:
        effect = max(1.0, found.se**2 * n / spread if spread > 0.0 else 1.0)
        return _counted(value, n, effect * intervals.next_boot_factor(found.clusters, alpha), alpha)
    if found.se <= 0.0:
        return _counted(value, n, 1.0, alpha)
    half = found.half_width(alpha)
    effect = max(1.0, found.se**2 * n / float(np.var(scores, ddof=1)))
    return Score(value=value, lower=value - half, upper=value + half, effect=effect)


def _counted(value: float, n: int, effect: float, alpha: float) -> Score:
    worth = n / effect
    return Score(
        value=value,
        lower=intervals.binomial_lower(value * worth, worth, alpha),
        upper=intervals.binomial_upper(value * worth, worth, alpha),
        effect=effect,
    )
