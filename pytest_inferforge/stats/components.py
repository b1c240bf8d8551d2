"""How much of the scatter of values lies between groups of them, and how much inside."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class Components:
    """Standard deviations of the two parts of y = mean + group + value, and what they are estimated from.

    `within_sd`: of a value inside its group; None: no group has two values, and `group_sd` is of both parts
    together. `group_sd`: None with a single group; 0 where groups differ no more than their values explain.
    `mean`: of the groups' means.
    """

    mean: float
    group_sd: float | None
    within_sd: float | None
    group_df: int
    within_df: int


def components(groups: Sequence[Sequence[float]]) -> Components:
    """Method of moments in a one-way layout, groups of unequal size allowed; a negative variance is cut to 0.

    Source: ANOVA estimators of unbalanced data, Searle, Casella & McCulloch 1992, chapter 3.

    Raises:
        ValueError: no group, or an empty one.
    """
    if not groups or not all(groups):
        raise ValueError(f"cannot part the scatter of groups of {[len(g) for g in groups]} values")
    sizes = np.array([len(g) for g in groups], dtype=float)
    means = np.array([np.mean(g) for g in groups])
    total, count = float(sizes.sum()), len(groups)
    group_df, within_df = count - 1, int(total) - count
    within = sum(float(((np.asarray(g) - m) ** 2).sum()) for g, m in zip(groups, means, strict=True))
    within_var = within / within_df if within_df else None
    group_var = None
    if group_df:
        grand = float((sizes * means).sum()) / total
        between = float((sizes * (means - grand) ** 2).sum()) / group_df
        size = (total - float((sizes**2).sum()) / total) / group_df
        group_var = max(0.0, between - (within_var or 0.0)) / size
    return Components(
        mean=float(means.mean()),
        group_sd=None if group_var is None else math.sqrt(group_var),
        within_sd=None if within_var is None else math.sqrt(within_var),
        group_df=group_df,
        within_df=within_df,
    )


def blocks_a_unit(unit_cost: float, block_cost: float, unit_sd: float, block_sd: float) -> int | None:
    """How many blocks of measurements each unit should hold, for the best mean at a given cost.

    A boot is a unit, a stretch of its load is a block; `unit_sd` without what its blocks contribute. Costs in
    one unit, of which only the ratio counts. At least 1. None: units do not differ, so one of them, with as
    many blocks as there is time for, is best.

    Source: optimal repetition counts, Kalibera & Jones 2013.
    """
    if unit_sd <= 0.0:
        return None
    return max(1, math.ceil(math.sqrt(unit_cost / block_cost) * block_sd / unit_sd - 1e-9))
