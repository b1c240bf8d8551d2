"""A series of sessions: does it leave where it was, and where does it step."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cusum:
    """The path of the one-sided sum, and where it first reached the alarm's height (None: never).

    `began`: the place from which the sum rose without a break up to the alarm: the change began about there.
    """

    path: tuple[float, ...]
    alarm: int | None
    began: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The series changes its level at place `at` (the first value of the new level).

    `shift`: new mean less the old one, of the stretches on both sides; `p`: by permutation.
    """

    at: int
    shift: float
    p: float


def z_scores(reference: Sequence[float], values: Sequence[float], *, sd_floor: float) -> tuple[float, ...]:
    """How far each value lies above the reference's mean, in standard deviations of a prediction.

    Raises:
        ValueError: fewer than two reference values.
    """
    n = len(reference)
    if n < 2:
        raise ValueError(f"{n} reference values have no spread")
    mean = float(np.mean(reference))
    sd = max(sd_floor, float(np.std(reference, ddof=1))) * math.sqrt(1.0 + 1.0 / n)
    return tuple((v - mean) / sd for v in values)


def cusum(z: Sequence[float], *, slack: float, height: float) -> Cusum:
    """Sum up what lies more than `slack` above 0; alarm at `height`.

    Source: Page 1954: g = max(0, g + z - slack).
    """
    path: list[float] = []
    level, alarm, began, rising = 0.0, None, None, 0
    for place, value in enumerate(z):
        before = level
        level = max(0.0, level + value - slack)
        if before == 0.0:
            rising = place
        path.append(level)
        if alarm is None and level >= height:
            alarm, began = place, rising
    return Cusum(path=tuple(path), alarm=alarm, began=began)


def steps(
    values: Sequence[float], *, alpha: float, least: int, permutations: int, seed: int
) -> tuple[Step, ...]:
    """Where the level changes, in order: the clearest stretch apart is cut out, then each part again.

    A stretch is cut out when at most a share `alpha` of random orders of the values around it have one as
    clear; each part keeps at least `least` values.

    Source: circular binary segmentation, Olshen et al. 2004: a step there and back is one stretch.
    """
    rng = np.random.default_rng(seed)
    found: list[tuple[int, float]] = []

    def cut(low: int, high: int) -> None:
        part = np.asarray(values[low:high], dtype=float)
        begin, end, best = _clearest(part, least)
        if end == begin:
            return
        p = _share_as_clear(part, best, least, rng, alpha, permutations)
        if p > alpha:
            return
        edges = [0, *(place for place in (begin, end) if 0 < place < len(part)), len(part)]
        found.extend((low + place, p) for place in edges[1:-1])
        for a, b in itertools.pairwise(edges):
            cut(low + a, low + b)

    cut(0, len(values))
    found.sort()
    edges = [0, *(at for at, _ in found), len(values)]
    means = [float(np.mean(values[a:b])) for a, b in itertools.pairwise(edges) if b > a]
    return tuple(Step(at=at, shift=means[k + 1] - means[k], p=p) for k, (at, p) in enumerate(found))


def _share_as_clear(
    part: Floats, best: float, least: int, rng: np.random.Generator, alpha: float, permutations: int
) -> float:
    """The p of the clearest stretch; it is left at once when it cannot be within alpha any more."""
    as_clear = 0
    for _ in range(permutations):
        as_clear += _clearest(rng.permutation(part), least)[2] >= best
        if (as_clear + 1) / (permutations + 1) > alpha:
            return 1.0
    return (as_clear + 1) / (permutations + 1)


def _clearest(part: Floats, least: int) -> tuple[int, int, float]:
    """(begin, end, how clear) of the stretch whose mean differs most from the rest's; (0, 0, 0): none."""
    n = len(part)
    if n < 2 * least:
        return 0, 0, 0.0
    sums = np.concatenate([[0.0], np.cumsum(part - part.mean())])
    length = np.arange(n + 1)[None, :] - np.arange(n + 1)[:, None]
    begin, end = np.arange(n + 1)[:, None], np.arange(n + 1)[None, :]
    usable = (length >= least) & (n - length >= least)
    usable &= ((begin == 0) | (begin >= least)) & ((end == n) | (n - end >= least))
    usable &= (begin == 0) | (end < n)  # the stretch up to the end is that from the beginning, turned over
    inside = np.where(usable, length, 1)
    clear = np.where(usable, (sums[None, :] - sums[:, None]) ** 2 * n / (inside * (n - inside + 0.0)), -1.0)
    place = int(np.argmax(clear))
    low, high = divmod(place, n + 1)
    best = float(clear[low, high])
    return (low, high, best) if best > 1e-12 else (0, 0, 0.0)
