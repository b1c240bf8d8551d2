"""Bounds on shares, quantiles and means, each one-sided at its own alpha.

Counts may be real numbers: correlated requests enter as `x / D` of `n / D`, with D the design effect.
"""

from __future__ import annotations

import bisect
import math
from typing import TYPE_CHECKING

import numpy as np
from scipy import special

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Bools = NDArray[np.bool_]

_MOST_REQUESTS = 10**12


def binomial_lower(x: float, n: float, alpha: float) -> float:
    """The share that x events of n trials show it to be above; 0 when x is 0.

    Source: Clopper & Pearson 1934, one-sided; real-valued counts as in Korn & Graubard 1998.
    """
    if x <= 0:
        return 0.0
    return float(special.betaincinv(x, n - x + 1.0, alpha))


def binomial_upper(x: float, n: float, alpha: float) -> float:
    """The share that x events of n trials show it to be below; 1 when x is n (or n is 0).

    Source: as `binomial_lower`.
    """
    if x >= n:
        return 1.0
    return float(special.betainccinv(x + 1.0, n - x, alpha))


def quantile_upper(samples: Floats, shown: Callable[[Bools], bool]) -> float | None:
    """What a quantile is shown to be at most, in the unit of the samples (any order, +inf = failed).

    `shown(over)`: whether exceedances like these, bool (n,) in the samples' order, show that no more of them
    than allowed exceed. The bound is the smallest sample for which they do. None: unbounded, there are too
    few samples.

    Source: order-statistic bound, Wilks 1941; with the exact binomial rule its rank is the smallest r with
    `binom.cdf(r - 1, n, q) >= 1 - alpha`.
    """
    ordered = np.sort(samples)
    n = len(ordered)
    kept = bisect.bisect_left(range(n), True, key=lambda k: not shown(samples > ordered[n - 1 - k])) - 1
    return None if kept < 0 else float(ordered[n - 1 - kept])


def quantile_lower(samples: Floats, shown: Callable[[Bools], bool]) -> float | None:
    """What a quantile is shown to be at least; None: unbounded. `shown(over)`: more exceed than allowed."""
    ordered = np.sort(samples)
    n = len(ordered)
    least = bisect.bisect_left(range(1, n + 1), True, key=lambda k: shown(samples >= ordered[n - k])) + 1
    return None if least > n else float(ordered[n - least])


def needed_requests(q: float, alpha: float, exceedances: int = 0) -> int:
    """The fewest independent requests that can show the q-quantile to be met with that many exceedances.

    Raises:
        ValueError: q is not inside 0..1: no number of requests shows a maximum.
    """
    if not 0.0 < q < 1.0:
        raise ValueError(f"a quantile inside 0..1, not {q}")
    return bisect.bisect_left(
        range(_MOST_REQUESTS), True, key=lambda n: binomial_upper(exceedances, n, alpha) <= 1.0 - q
    )


def needed_at_share(share: float, allowed: float, alpha: float) -> int | None:
    """About how many independent requests decide for or against `allowed` if this share of them exceeds.

    None: the share is the allowed one itself (or too near), and no number decides.
    """

    def decided(n: int) -> bool:
        if share < allowed:
            return binomial_upper(share * n, n, alpha) <= allowed
        return binomial_lower(share * n, n, alpha) > allowed

    found = bisect.bisect_left(range(_MOST_REQUESTS), True, key=decided)
    return found if found < _MOST_REQUESTS else None


def mean_bounds(values: Floats, alpha: float) -> tuple[float, float | None, float | None]:
    """Mean of k independent finite values with its lower and upper bound; bounds None when k is 1.

    Source: Student's t with k - 1 degrees of freedom.

    Raises:
        ValueError: no values.
    """
    k = len(values)
    if not k:
        raise ValueError("a mean needs at least one value")
    mean = float(values.mean())
    if k == 1:
        return mean, None, None
    half = float(special.stdtrit(k - 1, 1.0 - alpha)) * float(values.std(ddof=1)) / math.sqrt(k)
    return mean, mean - half, mean + half


def batched_mean_bounds(batches: Floats, alpha: float) -> tuple[float, float | None, float | None]:
    """As `mean_bounds` for the means of consecutive batches, wider where neighbours among them are alike.

    The variance of the mean is taken 1 + 2 r times, r their lag-1 correlation, freed of its bias of -1 / k;
    not where it is negative.

    Source: Bartlett's formula for the variance of a mean, cut after lag 1: Priestley 1981, section 5.3.
    """
    mean, lower, upper = mean_bounds(batches, alpha)
    left = batches - mean
    spread = float((left**2).sum())
    if lower is None or upper is None or spread <= 0.0:
        return mean, lower, upper
    alike = max(0.0, float((left[1:] * left[:-1]).sum()) / spread + 1.0 / len(batches))
    wider = math.sqrt(1.0 + 2.0 * alike)
    return mean, mean - wider * (mean - lower), mean + wider * (upper - mean)


def batch_means(values: Floats, batches: int) -> Floats:
    """float64 (min(batches, n),): means of consecutive stretches of nearly equal length, in order."""
    n = len(values)
    parts = min(batches, n)
    if not parts:
        return np.empty(0)
    sizes = np.full(parts, n // parts)
    sizes[: n % parts] += 1
    found: Floats = np.add.reduceat(values, np.cumsum(sizes) - sizes) / sizes
    return found


def design_effect(indicators: Sequence[Bools], batches: int, alpha: float | None = None) -> float:
    """How many correlated requests are worth one independent one: D >= 1, for one indicator array a boot.

    D = max(1, D_batch, D_run): how much more the batch means of a boot, and the shares of the boots, vary
    than those of independent requests would. 1 when nothing or everything exceeds. `alpha`: of the bound
    that D is for: what D_batch is above 1 is raised, as it comes from few batches. None: it is not.

    Source: batch means; Korn & Graubard 1998 for n / D and for the degrees of freedom.
    """
    boots = [b.astype(np.float64) for b in indicators if len(b)]
    if not boots:
        return 1.0
    share = float(np.concatenate(boots).mean())
    spread = share * (1.0 - share)
    if spread <= 0.0:
        return 1.0
    inside = [inflation for b in boots if (inflation := _batch_variance(b, batches)) is not None]
    found = [1.0, float(np.mean(inside)) / spread if inside else 1.0]
    if alpha is not None and inside:
        degrees = sum(min(batches, len(b) // 2) - 1 for b in boots if len(b) >= 4)
        found[1] = 1.0 + (found[1] - 1.0) * _few_degrees(degrees, alpha)
    if len(boots) > 1:
        size = float(np.mean([len(b) for b in boots]))
        found.append(float(np.var([b.mean() for b in boots], ddof=1)) * size / spread)
    return max(found)


def next_boot_factor(boots: int, alpha: float) -> float:
    """What the design effect is multiplied by for a claim about the next boot: (t / z) ** 2; >= 2 boots.

    Source: Korn & Graubard 1998, clusters being boots.
    """
    return _few_degrees(boots - 1, alpha)


def _few_degrees(degrees: int, alpha: float) -> float:
    """How much a variance of so many degrees of freedom must be raised, where it is taken for known."""
    return float((special.stdtrit(degrees, 1.0 - alpha) / special.ndtri(1.0 - alpha)) ** 2)


def _batch_variance(values: Floats, batches: int) -> float | None:
    """Variance of batch means times the batch's length; None: too few values for batches of two."""
    parts = min(batches, len(values) // 2)
    if parts < 2:
        return None
    return float(batch_means(values, parts).var(ddof=1)) * len(values) / parts
