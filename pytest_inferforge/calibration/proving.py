"""Whether the gate saw what it should have seen, and nothing else."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_inferforge.metrics import metric
from pytest_inferforge.records import ComparisonVerdict
from pytest_inferforge.units import format_value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_inferforge.records import Comparison


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """Two sessions against the same stored ones: one like them, one slowed down by `slowdown` (0.1: 10 %).

    `power`: of what the comparisons say that they would see.
    """

    slowdown: float
    sessions: int
    power: float
    unchanged: tuple[Comparison, ...]
    slowed: tuple[Comparison, ...]

    @property
    def faults(self) -> tuple[str, ...]:
        """What is not as it should be, and what to do about it; empty: the gate is as it should be."""
        return (*self._of_unchanged(), *self._of_slowed())

    @property
    def smallest(self) -> tuple[Comparison, float] | None:
        """The comparison that shows the smallest slowdown, and that slowdown; None: none was weighed.

        Of latencies and rates, which a slowdown changes by its own factor; a share has no such factor.
        """
        known = [
            (c.mde_ratio - 1.0, k)
            for k, c in enumerate(self.slowed)
            if c.mde_ratio is not None and metric(c.metric).quantity.scale == "log"
        ]
        if not known:
            return None
        change, place = min(known)
        return self.slowed[place], change

    def _of_unchanged(self) -> tuple[str, ...]:
        if not any(c.verdict.judged for c in self.unchanged):
            return (f"the unchanged session could not be judged: {_reasons(self.unchanged)}",)
        if found := red(self.unchanged):
            names = ", ".join(f"{c.nodeid} {c.metric}" for c in found)
            why = "chance, or this machine moves; inferforge calibrate tells them apart"
            return (f"the unchanged session is red in {names}: {why}",)
        return ()

    def _of_slowed(self) -> tuple[str, ...]:
        if red(self.slowed):
            return ()
        asked, power = format_value(self.slowdown, "change"), format_value(self.power, "ratio")
        if self.smallest is None:
            return (f"the slowed session could not be judged: {_reasons(self.slowed)}",)
        best, change = self.smallest
        least = f"{math.ceil(change * 100.0 - 1e-9)} %"
        shown = f"{format_value(change, 'change')} in {best.nodeid} {best.metric}"
        if self.slowdown < change:
            what = f"{asked} is below what this machine can see with {self.sessions} sessions"
            smallest = f"smallest that is red with power {power}: {shown}"
            return (f'{what}; {smallest}; try --slowdown "{least}", or more --sessions',)
        what = f"{asked} should have been seen with power {power} (smallest: {shown}), and was not"
        why = "now and then it is not, so try again; if it stays so, it does not reach what is measured"
        return (f"{what}: {why}",)


def red(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Those that are regressed."""
    return [c for c in comparisons if c.verdict is ComparisonVerdict.REGRESSED]


def _reasons(comparisons: Sequence[Comparison]) -> str:
    return "; ".join(dict.fromkeys(c.reason for c in comparisons if c.reason)) or "it has no comparison"
