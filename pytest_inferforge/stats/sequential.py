"""Deciding on a share while the trials come in, as often as one looks: e-processes.

Under any share that keeps the null hypothesis an e-process is a bet that wins nothing on average, so it
reaches 1 / alpha at any look at all with a probability of at most alpha. Counts may be real numbers, as in
`stats.intervals`.

Source: Ville 1939; Howard, Ramdas, McAuliffe & Sekhon 2021; mixtures of simple alternatives: Robbins 1970.
"""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pytest_inferforge.stats import intervals

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Bools = NDArray[np.bool_]
    Ints = NDArray[np.int64]

BELOW = (0.1, 0.25, 0.5, 0.75)
"""Alternatives to "at least the allowed share", as multiples of it; the bet is on one of them, each alike."""
ABOVE = (1.33, 2.0, 4.0)
"""The same to "at most the allowed share"."""
_MOST_TRIALS = 10**12
_SPARSE = 100  # looks, from which on each comes with 1 % more trials


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """The look that decided: after `n` trials, each worth 1 / `effect` of an independent one."""

    n: int
    effect: float


def log_e(x: Floats | float, n: Floats | Ints | float, allowed: float, ratios: Sequence[float]) -> Floats:
    """Natural log of the e-value of x events in n trials against a share of `allowed`, inside 0..1.

    `ratios`: BELOW or ABOVE; an alternative that would be no share is moved half way to 1.
    """
    shares = np.minimum(allowed * np.array(ratios), (1.0 + allowed) / 2.0)
    hits, others = np.asarray(x, dtype=float), np.asarray(n, dtype=float) - np.asarray(x, dtype=float)
    logs = np.multiply.outer(hits, np.log(shares / allowed))
    logs = logs + np.multiply.outer(others, np.log1p(-shares) - math.log1p(-allowed))
    found: Floats = np.logaddexp.reduce(logs, axis=-1) - math.log(len(ratios))
    return found


def looks(n: int, *, every: int, first: int) -> Ints:
    """int64 (k,): trials that were seen at each look: `first`, then `every` more, but at least 1 % more."""
    found, seen = [], first
    while seen <= n:
        found.append(seen)
        seen += max(every, seen // _SPARSE)
    return np.array(found, dtype=np.int64)


def first_look(
    over: Bools,
    allowed: float,
    alpha: float,
    ratios: Sequence[float],
    *,
    at: Ints,
    batches: int,
    reference: Callable[[int], float] | None = None,
) -> Look | None:
    """The first look at which trials in their order decide against the null of `ratios`; None: none of them.

    At a look after n trials their design effect D thins them: x / D of n / D. D is that of the trials so far,
    or `reference(n)` where that is larger.
    """
    at = at[at <= len(over)]
    if not len(at):
        return None
    x = np.cumsum(over)[at - 1].astype(np.float64)
    wanted = -math.log(alpha)
    # Thinning makes no new decision: by Jensen's inequality e(x / D, n / D) <= e(x, n) ** (1 / D) for D >= 1.
    near = np.flatnonzero(log_e(x, at, allowed, ratios) >= wanted)
    least = np.array([1.0 if reference is None else reference(n) for n in at[near].tolist()])
    near = near[log_e(x[near] / least, at[near] / least, allowed, ratios) >= wanted]
    for k in near.tolist():
        n = int(at[k])
        effect = intervals.design_effect([over[:n]], batches)
        effect = max(effect, reference(n)) if reference is not None else effect
        if float(log_e(x[k] / effect, n / effect, allowed, ratios)) >= wanted:
            return Look(n=n, effect=effect)
    return None


def needed_trials(allowed: float, alpha: float, *, first: int) -> int:
    """The fewest independent trials without an event that decide for a share below `allowed`."""
    wanted = -math.log(alpha)
    return first + bisect.bisect_left(
        range(_MOST_TRIALS), True, key=lambda more: float(log_e(0.0, first + more, allowed, BELOW)) >= wanted
    )


def common_effect(parts: Sequence[Floats], share: float, batches: int) -> float:
    """The design effect of exceeding the value that this share of all values exceeds; an array a boot.

    Events that are rare tell little of how they clump. More frequent ones on the same scale tell it sooner,
    and clump more as a rule: exceedances of a series whose extremes are independent in the limit.
    """
    values = np.concatenate(list(parts)) if parts else np.empty(0)
    if not len(values):
        return 1.0
    rank = max(1, math.ceil((1.0 - share) * len(values) - 1e-9))
    limit = np.partition(values, rank - 1)[rank - 1]
    return intervals.design_effect([part > limit for part in parts], batches)
