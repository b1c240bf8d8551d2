"""How far a statistic of one boot's requests lies from what endless requests of that boot would give.

Requests of one boot resemble their neighbours, so nothing here takes them for independent: what varies is
the mean of consecutive batches.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from pytest_inferforge.stats.intervals import batch_means, design_effect

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Bools = NDArray[np.bool_]

_FEWEST = 4  # batches, below which their variance says nothing


def log_sd_of_mean(values: Floats, batches: int) -> float | None:
    """Of the log of the mean of positive values in the order of the run; None: too few, or nothing positive.

    values: float64 (n,), finite. Source: batch means, Law 2015, section 9.5.3; the log by the delta method.
    """
    parts = min(batches, len(values) // 2)
    mean = float(values.mean()) if len(values) else 0.0
    if parts < _FEWEST or mean <= 0.0:
        return None
    return math.sqrt(float(batch_means(values, parts).var(ddof=1)) / parts) / mean


def log_sd_of_quantile(values: Floats, q: float, batches: int) -> float | None:
    """Of the log of the q-quantile of positive values in the order of the run; None: too few.

    Half the span, in logs, between the quantiles that lie one standard error of the share below q to either
    side; beyond the largest value only the lower half is taken. The share's error has the design effect of
    its batches.

    Source: Woodruff 1952; the design effect as of an SLO on a quantile.
    """
    n = len(values)
    if n < 2 * _FEWEST or not np.all(np.isfinite(values)) or float(values.min()) <= 0.0:
        return None
    middle = float(np.quantile(values, q))
    effect = design_effect([values > middle], batches)
    reach = math.sqrt(effect * q * (1.0 - q) / n)
    low = float(np.quantile(values, max(0.0, q - reach)))
    if q + reach >= 1.0:
        return math.log(middle / low)
    return math.log(float(np.quantile(values, q + reach)) / low) / 2.0


def log_sd_of_slowest(values: Floats, share: float, batches: int) -> float | None:
    """Of the log of the mean of the slowest `share` of values (CVaR); None: too few.

    Batch means of what each value adds to it. Source: influence function, Trindade et al. 2007.
    """
    if len(values) < 2 * _FEWEST or not np.all(np.isfinite(values)):
        return None
    start = float(np.quantile(values, 1.0 - share))
    return log_sd_of_mean(start + np.maximum(values - start, 0.0) / share, batches)


def arcsine_sd_of_share(indicator: Bools, batches: int) -> float | None:
    """Of 2 asin(sqrt p), p the share of true ones; None: no values.

    Source: variance stabilising transform, Anscombe 1948, with n over the design effect for n.
    """
    n = len(indicator)
    return math.sqrt(design_effect([indicator], batches) / n) if n else None
