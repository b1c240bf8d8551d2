"""Metric ids: `<quantity>_<unit>[.<statistic>]`, as `ttft_s.p99`, `tpot_s.mean`, `output_tok_per_s`.

The quantities stand in `pytest_inferforge.quantities`.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

from pytest_inferforge.errors import UsageError
from pytest_inferforge.quantities import METRICS, SERVER_QUANTILES, STATISTICS, Quantity

_QUANTILE = re.compile(r"p(\d{1,2}(?:\.\d+)?)$")

__all__ = [
    "METRICS", "SERVER_QUANTILES", "STATISTICS", "Metric", "Quantity", "by_name", "metric", "quantile_of",
    "unknown_metric",
]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A quantity with its statistic: what has one value a boot."""

    quantity: Quantity
    statistic: str | None  # None for quantities of a run, which may have others beside

    @property
    def id(self) -> str:
        return f"{self.quantity.id}.{self.statistic}" if self.statistic else self.quantity.id

    @property
    def quantile(self) -> float | None:
        """0..1 for pNN and max, else None."""
        return quantile_of(self.statistic) if self.statistic else None


def quantile_of(statistic: str) -> float | None:
    """`p99` -> 0.99, `max` -> 1.0, `mean` -> None."""
    if statistic == "max":
        return 1.0
    if match := _QUANTILE.fullmatch(statistic):
        return round(float(match[1]) / 100.0, 9)
    return None


def metric(metric_id: str) -> Metric:
    """Look up `ttft_s.p99` or `output_tok_per_s`.

    Raises:
        UsageError: no such quantity or statistic; the nearest ids are named.
    """
    quantity_id, _, statistic = metric_id.partition(".")
    quantity = METRICS.get(quantity_id)
    if quantity is None:
        if (meant := by_name(quantity_id)) is not None:
            right = f"{meant.id}.{statistic}" if statistic else meant.id
            raise UsageError("a metric id carries its unit", seen=metric_id, do=f"write {right}")
        raise unknown_metric(metric_id)
    if quantity.per == "run" and statistic and statistic not in quantity.statistics:
        others = "".join(f" or {quantity_id}.{name}" for name in quantity.statistics)
        raise UsageError(
            f"{quantity_id} has no statistic {statistic}" if others else f"{quantity_id} has no statistic",
            seen=metric_id,
            do=f"write {quantity_id}: it is one number a run" + (f", the mean;{others}" if others else ""),
        )
    if quantity.per == "request" and not (
        statistic in ("mean", "cvar95") or quantile_of(statistic) is not None
    ):
        raise UsageError(
            f"{quantity_id} needs a statistic",
            seen=metric_id,
            do=f"write {quantity_id}.p99, or one of: {', '.join(STATISTICS)}",
        )
    return Metric(quantity=quantity, statistic=statistic or None)


def unknown_metric(seen: str) -> UsageError:
    """The error for a metric nobody knows, with the nearest names."""
    known = {name: name for q in METRICS.values() for name in (q.id, *q.names)}
    near = difflib.get_close_matches(seen.lower(), known, n=3, cutoff=0.5)
    do = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(METRICS)}"
    return UsageError("unknown metric", seen=seen, do=do)


def by_name(name: str) -> Quantity | None:
    """The quantity that a person means by `name` ("ttft", "error rate"), or None."""
    wanted = " ".join(name.lower().replace("_", " ").split())
    for quantity in METRICS.values():
        if wanted in (quantity.id.replace("_", " "), *(n.replace("_", " ") for n in quantity.names)):
            return quantity
    return None
