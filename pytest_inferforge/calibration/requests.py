"""What the sampling of requests contributes to the noise of one boot."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pytest_inferforge import measures, metrics
from pytest_inferforge.gate.evidence import BEYOND, gated_with_tails, tail_metrics
from pytest_inferforge.stats import sampling

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from pytest_inferforge.metrics import Metric
    from pytest_inferforge.records import BootResult, TestResult
    from pytest_inferforge.table import RequestTable

_BEYOND = {share: quantity for quantity, share in BEYOND.items()}
_SLOWEST = 0.05  # of cvar95
_SAME = 1e-9  # relative: the same number, read back


@dataclass(frozen=True, slots=True, kw_only=True)
class OfRequests:
    """What request rows of one boot tell: standard deviations by (test, metric), seconds of load by test."""

    sds: Mapping[tuple[str, str], float]
    load_s: Mapping[str, float]


def of_boot(test: TestResult, table: RequestTable, batches: int) -> OfRequests:
    """What the requests of a boot of that test say of each of its gated metrics."""
    beyond = {BEYOND[quantity]: 1.0 - q for quantity, q in tail_metrics(test.gated)}
    found = {
        (test.nodeid, name): request_sd(table, name, beyond=beyond.get(name), batches=batches)
        for name in gated_with_tails(test)
    }
    seconds = load_s(table)
    return OfRequests(
        sds={key: sd for key, sd in found.items() if sd is not None},
        load_s={} if seconds is None else {test.nodeid: seconds},
    )


def told(table: RequestTable, gated: Sequence[str]) -> dict[str, float]:
    """The gated metrics, as far as the requests of one boot alone tell them."""
    return {name: value for name in gated if (value := _value(table, name)) is not None}


def belongs(boot: BootResult, said: Mapping[str, float]) -> bool:
    """Whether what requests told is of that boot: every metric that they tell is the boot's."""
    return bool(said) and all(
        math.isclose(boot.metrics.get(name, math.nan), value, rel_tol=_SAME) for name, value in said.items()
    )


def request_sd(table: RequestTable, metric_id: str, *, beyond: float | None, batches: int) -> float | None:
    """Standard deviation of one boot's metric by its requests alone, on the metric's scale.

    Means and rates by batch means, the mean of the slowest by those of its influence, quantiles by the error
    of the share below them (Woodruff), shares by their design effect. `beyond`: of a share beyond a quantile,
    that share. None: not known, for it is no statistic of the requests, or there are too few.
    """
    metric = metrics.metric(metric_id)
    if metric.quantity.scale == "asin_sqrt":
        indicator = _indicator(table, metric, beyond)
        return None if indicator is None else sampling.arcsine_sd_of_share(indicator, batches)
    if metric.quantity.per == "run":
        if metric_id not in ("output_tok_per_s", "total_tok_per_s", "request_per_s"):
            return None
        return sampling.log_sd_of_mean(measures.rate_batches(table, metric_id, batches), batches)
    values = measures.samples(table, metric.quantity.id)
    if metric.statistic == "mean":
        return sampling.log_sd_of_mean(values[np.isfinite(values)], batches)
    if metric.statistic == "cvar95":
        return sampling.log_sd_of_slowest(values, _SLOWEST, batches)
    return None if metric.quantile is None else sampling.log_sd_of_quantile(values, metric.quantile, batches)


def load_s(table: RequestTable) -> float | None:
    """From the first start to the last end, in seconds; None: nothing ended."""
    ends = table.times["end_s"][~np.isnan(table.times["end_s"])]
    starts = table.start_s[~np.isnan(table.start_s)]
    return float(ends.max() - starts.min()) if len(ends) and len(starts) else None


def _value(table: RequestTable, metric_id: str) -> float | None:
    """The metric as far as the requests alone tell it."""
    metric = metrics.metric(metric_id)
    if metric.quantity.telemetry or metric_id in _BEYOND:
        return None
    if metric.quantity.per == "run":
        return measures.run_value(table, metric_id)
    return measures.statistic(measures.samples(table, metric.quantity.id), metric.statistic or "")


def _indicator(table: RequestTable, metric: Metric, beyond: float | None) -> NDArray[np.bool_] | None:
    if metric.id == "error_ratio":
        return measures.failed(table)
    quantity = _BEYOND.get(metric.id)
    if quantity is None or beyond is None:
        return None
    values = measures.samples(table, quantity)
    return values > np.quantile(values, 1.0 - beyond, method="inverted_cdf") if len(values) else None
