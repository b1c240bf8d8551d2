"""On which scale a metric is compared: larger is worse on all of them, whatever the metric's direction."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_inferforge.units import format_value

if TYPE_CHECKING:
    from pytest_inferforge.metrics import Metric
    from pytest_inferforge.options import JudgeOptions

_P50, _P90, _P95 = 0.50, 0.90, 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Natural log for times and rates, 2 asin(sqrt p) for shares; negated where higher is better.

    `base` is a point on the scale (the reference), a `shift` is a distance from it, positive = worse.

    Source: variance stabilising transform of a share, Anscombe 1948; the sd of 2 asin(sqrt p) of n
    independent requests is 1 / sqrt(n).
    """

    share: bool
    sign: float  # +1 lower is better, -1 higher is better

    def point(self, value: float) -> float | None:
        """None: the value has no place here (0 or infinity on the log scale)."""
        if self.share:
            return self.sign * 2.0 * math.asin(math.sqrt(value)) if 0.0 <= value <= 1.0 else None
        return self.sign * math.log(value) if 0.0 < value < math.inf else None

    def value(self, point: float) -> float:
        """Back to the metric's unit."""
        if self.share:
            return math.sin(min(max(self.sign * point, 0.0), math.pi) / 2.0) ** 2
        return math.exp(self.sign * point)

    def ratio(self, base: float, shift: float) -> float | None:
        """Value after the shift over the value before; None: the value before is 0."""
        before = self.value(base)
        return self.value(base + shift) / before if before > 0.0 else None

    def worse_shift(self, base: float, margin: float) -> float:
        """How far a worsening by the margin is: relative on the log scale, in points for a share."""
        return self._shift_to(base, self.sign * margin) if self.share else math.log1p(margin)

    def better_shift(self, base: float, margin: float) -> float:
        """How far an improvement by the margin is; infinite when a share has no room for it."""
        return self._shift_to(base, -self.sign * margin) if self.share else math.log1p(margin)

    def describe(self, base: float, shift: float) -> str:
        """ "worse by 13.8 %" or "better by 2.1 points": by how much the value itself changes."""
        word = "better by" if shift < 0.0 else "worse by"
        if self.share:
            return f"{word} {abs(self.value(base + shift) - self.value(base)) * 100.0:.3g} points"
        return f"{word} {format_value(abs(math.expm1(self.sign * shift)), 'ratio')}"

    def describe_margin(self, margin: float) -> str:
        """ "5 %" or "2 points"; for rates 4.76 %: a slowdown by 5 % and a rate of 1 / 1.05 are one."""
        if self.share:
            return f"{margin * 100.0:.3g} points"
        return format_value(abs(math.expm1(self.sign * math.log1p(margin))), "ratio")

    def describe_detectable(self, base: float, ratio: float) -> str:
        """The smallest worsening that would be seen (a ratio above 1), as a change of the value."""
        if self.share:
            value = self.value(base)
            return f"{abs(value * ratio**self.sign - value) * 100.0:.3g} points"
        return format_value(abs(math.expm1(self.sign * math.log(ratio))), "ratio")

    def _shift_to(self, base: float, change: float) -> float:
        target = self.point(self.value(base) + change)
        return math.inf if target is None else abs(target - base)


def scale_of(metric: Metric) -> Scale:
    """The scale of a metric, from its direction and kind."""
    quantity = metric.quantity
    return Scale(share=quantity.scale == "asin_sqrt", sign=-1.0 if quantity.direction == "higher" else 1.0)


def margin_of(metric: Metric, options: JudgeOptions) -> float:
    """How much worse matters: relative, or absolute for a share."""
    if metric.quantity.id.endswith("_beyond_ratio"):
        return options.margin_beyond_points
    if metric.quantity.scale == "asin_sqrt":
        return options.margin_ratio_points
    if metric.quantity.id == "ready_s":
        return options.margin_boot_time
    if metric.statistic == "cvar95":
        return options.margin_p99
    if metric.quantile is None:
        return options.margin_mean
    if metric.quantile <= _P50:
        return options.margin_p50
    return options.margin_p90 if metric.quantile <= _P95 else options.margin_p99
