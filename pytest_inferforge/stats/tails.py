"""The slow end of many values, kept as a few upper quantiles."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import special

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

LEVELS = (*(round(0.90 + 0.005 * k, 3) for k in range(18)), *(round(0.99 + 0.001 * k, 3) for k in range(11)))
"""0.90, 0.905, ... 0.985, then 0.99, 0.991, ... 1.0: fine where P99 lies."""
_GRID = np.linspace(LEVELS[0], 1.0, 2001)


def upper_quantiles(values: Floats) -> tuple[float, ...]:
    """The values at `LEVELS`, interpolated between order statistics; empty: no values, or infinite ones."""
    if not len(values) or not np.all(np.isfinite(values)):
        return ()
    return tuple(float(f"{v:.6g}") for v in np.quantile(values, LEVELS))


def share_above(upper: Sequence[float], limit: float) -> float:
    """Which share of the values lies above a limit, at most 0.1: what `upper_quantiles` kept of them says."""
    return 1.0 - float(np.interp(limit, upper, LEVELS, left=LEVELS[0], right=1.0))


def pooled_quantile(uppers: Sequence[Sequence[float]], q: float) -> float:
    """The limit above which the mean share of all of these is 1 - q; q from 0.9 on.

    Source: the mean share is piecewise linear between all kept quantiles, and falls.
    """
    knots = np.unique(np.concatenate([np.asarray(u) for u in uppers]))
    shares = np.mean([1.0 - np.interp(knots, u, LEVELS, left=LEVELS[0], right=1.0) for u in uppers], axis=0)
    return float(np.interp(q - 1.0, -shares, knots))


def quantile_of_fewer(upper: Sequence[float], q: float, n: int) -> float:
    """What the q-quantile of n values drawn at random from these is on average.

    A quantile of few values is lower than that of many from the same law: two sides are alike only at one n.

    Source: an order statistic of uniform values is Beta-distributed, David & Nagaraja 2003, section 2.1; here
    for the nearest rank, r = ceil(q * n).
    """
    rank = max(1, int(np.ceil(q * n - 1e-9)))
    mass = np.diff(special.betainc(rank, n - rank + 1, _GRID))
    total = float(mass.sum())
    if total <= 0.0:
        return float(upper[0])
    middles = (_GRID[:-1] + _GRID[1:]) / 2.0
    return float((mass * np.interp(middles, LEVELS, upper)).sum()) / total
