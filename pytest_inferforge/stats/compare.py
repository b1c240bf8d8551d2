"""Two small groups of independent values: how far apart, and is the second one larger."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import special

if TYPE_CHECKING:
    from collections.abc import Sequence

_WELCH_MIN = 5  # values on each side, below which unequal variances cannot be told
_WELCH_RATIO = 4.0  # of the variances


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Current minus reference, on the scale of the values (natural logs: `exp(diff)` is the ratio).

    `lower` and `upper` are one-sided bounds, each at alpha. `p_worse` is one-sided for "current is larger".
    `sd` is the standard deviation of one value, after the floor.
    """

    diff: float
    se: float
    sd: float
    df: float
    lower: float
    upper: float
    p_worse: float


def compare(
    reference: Sequence[float], current: Sequence[float], *, alpha: float, sd_floor: float
) -> Difference:
    """Pooled t of n reference and m current values; m = 1 gives the prediction interval.

    The pooled standard deviation is at least `sd_floor`: a few values that happen to agree are no proof of
    a quiet machine. Welch's t takes over when both sides have 5 values and one variance is more than 4 times
    the other.

    Source: Student 1908; Welch 1947.

    Raises:
        ValueError: an empty side, or one value on each: there is no variance to compare with.
    """
    n, m = len(reference), len(current)
    if min(n, m) < 1 or n + m < 3:
        raise ValueError(f"cannot compare {n} with {m} values")
    diff = float(np.mean(current) - np.mean(reference))
    var_n, var_m = _variance(reference), _variance(current)
    if min(n, m) >= _WELCH_MIN and max(var_n, var_m) > _WELCH_RATIO * max(min(var_n, var_m), sd_floor**2):
        part_n, part_m = max(var_n, sd_floor**2) / n, max(var_m, sd_floor**2) / m
        df = (part_n + part_m) ** 2 / (part_n**2 / (n - 1) + part_m**2 / (m - 1))
        se = math.sqrt(part_n + part_m)
        sd = math.sqrt(max(var_n, var_m))
    else:
        df = float(n + m - 2)
        sd = max(sd_floor, math.sqrt(((n - 1) * var_n + (m - 1) * var_m) / df))
        se = sd * math.sqrt(1.0 / n + 1.0 / m)
    return by_t(diff, se, sd=sd, df=df, alpha=alpha)


def by_t(diff: float, se: float, *, sd: float, df: float, alpha: float) -> Difference:
    """A difference whose standard error has `df` degrees of freedom, with its bounds and p."""
    half = float(special.stdtrit(df, 1.0 - alpha)) * se
    t = diff / se if se > 0.0 else math.copysign(math.inf, diff) if diff else 0.0
    return Difference(
        diff=diff,
        se=se,
        sd=sd,
        df=df,
        lower=diff - half,
        upper=diff + half,
        p_worse=float(special.stdtr(df, -t)),
    )


def _variance(values: Sequence[float]) -> float:
    return float(np.var(values, ddof=1)) if len(values) > 1 else 0.0
