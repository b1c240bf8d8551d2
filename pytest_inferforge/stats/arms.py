"""Two arms measured in turns, with a drift of the machine between them taken out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pytest_inferforge.stats.compare import Difference, by_t

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmsDifference:
    """`difference`: current minus reference; `trend`: how much the values rise from one slot to the next."""

    difference: Difference
    trend: float


def in_turns(arms: Sequence[str], rounds: int) -> tuple[str, ...]:
    """The order in which to measure: each round once through, every second one backwards.

    Two arms give ABBA, then BAAB: a steady drift meets both alike.

    >>> "".join(in_turns("AB", 4)), "".join(in_turns("ABC", 2))
    ('ABBABAAB', 'ABCCBA')
    """
    order: list[str] = []
    for number in range(rounds):
        backwards = number % 4 in (1, 2)
        order += reversed(arms) if backwards else arms
    return tuple(order)


def compare_arms(
    reference: Sequence[tuple[float, float]],
    current: Sequence[tuple[float, float]],
    *,
    alpha: float,
    sd_floor: float,
) -> ArmsDifference:
    """The difference of the arms in a least-squares fit of arm and linear trend.

    reference, current: (slot, value) of each boot, slot its place in the order of boots. The residual
    standard deviation, with n + m - 3 degrees of freedom, is at least `sd_floor`.

    Source: ordinary least squares, Draper & Smith 1998, section 1.4; the design, ABBA, is Student 1938's.

    Raises:
        ValueError: fewer than 4 values, fewer than 2 of an arm, or slots that cannot tell arm from trend.
    """
    n, m = len(reference), len(current)
    if min(n, m) < 2 or n + m < 4:
        raise ValueError(f"cannot compare {n} with {m} boots and a trend")
    slots = np.array([slot for slot, _ in (*reference, *current)], dtype=float)
    values = np.array([value for _, value in (*reference, *current)], dtype=float)
    slots -= slots.mean()
    design = np.column_stack([np.ones(n + m), np.repeat([0.0, 1.0], [n, m]), slots])
    inverse = _inverse(design)
    fitted = inverse @ design.T @ values
    left = values - design @ fitted
    df = float(n + m - 3)
    sd = max(sd_floor, math.sqrt(float((left**2).sum()) / df))
    se = sd * math.sqrt(float(inverse[1, 1]))
    diff, trend = float(fitted[1]), float(fitted[2])
    return ArmsDifference(difference=by_t(diff, se, sd=sd, df=df, alpha=alpha), trend=trend)


def _inverse(design: np.ndarray) -> np.ndarray:
    crossed = design.T @ design
    if np.linalg.matrix_rank(crossed) < crossed.shape[0]:
        raise ValueError("the slots cannot tell the arms from a trend")
    inverse: np.ndarray = np.linalg.inv(crossed)
    return inverse
