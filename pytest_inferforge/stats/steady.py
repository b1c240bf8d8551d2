"""Where a run becomes steady."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def mser(values: NDArray[np.float64]) -> int:
    """How many of the first values to leave out, at most half: what is left has the least standard error.

    values: float64 (k,), in order of time.

    Source: marginal standard error rule, White 1997 (MSER); the half as Hoad, Robinson & Davies 2008 advise.
    """
    k = len(values)
    if k < 4:
        return 0
    most = k // 2
    left = np.arange(k, 0, -1)
    total, squares = np.cumsum(values[::-1])[::-1], np.cumsum(values[::-1] ** 2)[::-1]
    spread = np.maximum(squares - total**2 / left, 0.0) / left.astype(float) ** 2
    return int(np.argmin(spread[: most + 1]))


def build_up(values: NDArray[np.float64]) -> int:
    """How many of the first values belong to a build-up; 0: no start that differs from the rest.

    MSER cuts steady noise too, somewhere. What it would cut counts only when its mean lies three standard
    errors from that of the rest.
    """
    cut = mser(values)
    if not cut:
        return 0
    first, rest = values[:cut], values[cut:]
    error = float(rest.std(ddof=1)) * (1.0 / len(first) + 1.0 / len(rest)) ** 0.5
    return cut if abs(float(first.mean() - rest.mean())) > 3.0 * error else 0
