"""Whether something moves from the beginning to the end of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import special

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """Relative change from the beginning to the end of the fitted line, and one-sided bounds of it."""

    change: float
    lower: float
    upper: float


def relative_change(parts: NDArray[np.float64], alpha: float) -> Trend | None:
    """The change that a straight line through equally spaced values shows, with t bounds (k - 2 degrees).

    parts: float64 (k,), positive. None: fewer than 4, or nothing to be relative to. The bounds take what is
    left beside the line for independent: slices must be long against what makes neighbours alike.

    Source: ordinary least squares, Draper & Smith 1998, section 1.4.
    """
    k = len(parts)
    if k < 4 or not np.all(np.isfinite(parts)):
        return None
    x = np.arange(k) - (k - 1) / 2.0
    sxx = float((x**2).sum())
    mean = float(parts.mean())
    slope = float((x * parts).sum()) / sxx
    start = mean + slope * x[0]
    if start <= 0.0:
        return None
    left = parts - mean - slope * x
    error = float(np.sqrt((left**2).sum() / (k - 2) / sxx))
    reach = float(special.stdtrit(k - 2, 1.0 - alpha)) * error
    span = float(x[-1] - x[0])
    return Trend(
        change=slope * span / start,
        lower=(slope - reach) * span / start,
        upper=(slope + reach) * span / start,
    )
