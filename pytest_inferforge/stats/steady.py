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
