"""The due times of an open loop, drawn at once."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from pytest_inferforge.errors import UsageError
from pytest_inferforge.workload.arrival_kinds import (
    Arrivals,
    Burst,
    Constant,
    Gamma,
    Poisson,
    Stages,
    mean_rate_per_s,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.random import Generator
    from numpy.typing import NDArray

    Times = NDArray[np.float64]

_MOST = 50_000_000  # requests: their due times are 400 MB, drawn in a few times as much
_ROUNDING = 1e-9  # requests: an area of 600.0000000001 is 600 requests


def due_times(arrivals: Arrivals, rng: Generator, *, requests: int | None, duration_s: float | None) -> Times:
    """float64 (n,): seconds from the origin, ascending; those of a duration lie before its end.

    One of `requests` and `duration_s` is given; for stages and bursts also none, when they end by
    themselves. Stages that end before the requests asked for give fewer.

    Raises:
        UsageError: the wrong number of limits, more requests than a process holds, or arrivals that
            have no due times (closed, trace, stress).
    """
    _check(arrivals, requests, duration_s)
    end_s = math.inf if duration_s is None else duration_s
    if isinstance(arrivals, Poisson):
        mean_s = 1.0 / arrivals.rate_per_s
        return _walk(lambda n: rng.exponential(mean_s, size=n), requests, end_s, arrivals.rate_per_s, 1.0)
    if isinstance(arrivals, Gamma):
        shape, scale = arrivals.burstiness, 1.0 / (arrivals.rate_per_s * arrivals.burstiness)
        return _walk(lambda n: rng.gamma(shape, scale, size=n), requests, end_s, arrivals.rate_per_s, shape)
    if isinstance(arrivals, Constant):
        n = requests if requests is not None else math.ceil(arrivals.rate_per_s * end_s) + 1
        due = np.arange(n) / arrivals.rate_per_s
    elif isinstance(arrivals, Burst):
        due = _bursts(arrivals, requests, end_s)
    elif isinstance(arrivals, Stages):
        due = _stages(arrivals, rng)[:requests]
    else:
        raise _no_due_times(arrivals)
    return due[due < end_s]


def _check(arrivals: Arrivals, requests: int | None, duration_s: float | None) -> None:
    ends = isinstance(arrivals, Stages) or (isinstance(arrivals, Burst) and arrivals.every_s is None)
    if (requests is not None and duration_s is not None) or (
        requests is None and duration_s is None and not ends
    ):
        raise UsageError(
            f"{arrivals} needs requests or a duration",
            seen="both" if requests is not None else "neither",
            do='write requests=1000 or duration="60 s"',
        )
    expected = _expected(arrivals, duration_s) if requests is None else requests
    if expected > _MOST:
        raise UsageError(
            f"more than {_MOST:,} requests cannot be scheduled",
            seen=f"{arrivals}: about {expected:,.0f}",
            do="lower the rate, the duration or the requests",
        )


def _expected(arrivals: Arrivals, duration_s: float | None) -> float:
    if isinstance(arrivals, Burst) and (duration_s is None or arrivals.every_s is None):
        return arrivals.requests
    if isinstance(arrivals, Stages):
        return math.fsum(stage.requests for stage in arrivals.stages)
    return (mean_rate_per_s(arrivals) or 0.0) * (duration_s or 0.0)


def _no_due_times(arrivals: Arrivals) -> UsageError:
    return UsageError(
        "these arrivals have no due times of their own",
        seen=str(arrivals),
        do="draw due times of poisson, constant, gamma, stages or burst",
    )


def _walk(
    gaps: Callable[[int], Times], requests: int | None, end_s: float, rate_per_s: float, shape: float
) -> Times:
    """Sums of independent gaps: so many, or all before the end, however late the last drawn one is.

    The number of gaps of a gamma law of this shape before the end has about `shape` times less
    variance than mean, which says how many to draw at first.
    """
    if requests is not None:
        return np.cumsum(gaps(requests), dtype=np.float64)
    expected = rate_per_s * end_s
    n = int(expected + 10 * math.sqrt(expected / shape) + 10)
    due = np.cumsum(gaps(n))
    while due[-1] < end_s:
        due = np.concatenate((due[:-1], np.cumsum(np.concatenate((due[-1:], gaps(n // 4 + 10))))))
    return due[due < end_s]


def _bursts(arrivals: Burst, requests: int | None, end_s: float) -> Times:
    if arrivals.every_s is None:
        return np.zeros(arrivals.requests if requests is None else min(requests, arrivals.requests))
    if requests is None:
        requests = math.ceil(end_s / arrivals.every_s) * arrivals.requests
    return np.asarray(np.arange(requests) // arrivals.requests, dtype=np.float64) * arrivals.every_s


def _stages(arrivals: Stages, rng: Generator) -> Times:
    """A process of rate 1 in the number of expected requests, taken back to time."""
    area = math.fsum(stage.requests for stage in arrivals.stages)
    if arrivals.process == "constant":
        counts = np.arange(math.ceil(area - _ROUNDING * max(1.0, area)), dtype=np.float64)
    else:
        counts = _walk(lambda n: rng.exponential(1.0, size=n), None, area, 1.0, 1.0)
    return _at_counts(arrivals, counts)


def _at_counts(arrivals: Stages, counts: Times) -> Times:
    """When so many requests are expected to have come: the inverse of the area under the rate.

    A count reached at the start of a pause is due at its end. Inside a stage with rates r0 to r1 over
    d seconds the area after t is r0 t + (r1 - r0) t^2 / 2d; its root is taken in the form that
    subtracts nothing large: t = 2a / (r0 + sqrt(r0^2 + 2a (r1 - r0) / d)).
    """
    stages = arrivals.stages
    areas = np.concatenate(([0.0], np.cumsum([stage.requests for stage in stages])))
    begins = np.concatenate(([0.0], np.cumsum([stage.duration_s for stage in stages])))
    start, end, duration = np.array([(s.start_per_s, s.end_per_s, s.duration_s) for s in stages]).T
    last = max(i for i, stage in enumerate(stages) if stage.requests > 0)
    k = np.minimum(np.searchsorted(areas, counts, side="right") - 1, last)
    left = counts - areas[k]
    root = np.sqrt(np.maximum(start[k] ** 2 + 2.0 * left * (end[k] - start[k]) / duration[k], 0.0))
    below = start[k] + root
    inside = np.divide(2.0 * left, below, out=np.zeros_like(left), where=below > 0)
    due = begins[k] + np.minimum(inside, duration[k])
    return np.maximum.accumulate(due) if len(due) else due
