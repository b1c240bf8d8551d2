"""From scrapes of a server's Prometheus metrics to numbers of the time between them.

Counters and histograms count since the server's start: what happened under the load is the difference of two
scrapes. Gauges are what they were at each scrape.
"""

from __future__ import annotations

import functools
import math
import re
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from pytest_inferforge.exposition import Series

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_inferforge.exposition import Exposition

Labels = tuple[tuple[str, str], ...]  # sorted by name
Samples = dict[str, dict[Labels, float]]  # by sample name

_STARTED = "process_start_time_seconds"
_QUANTILES = {"p50": 0.50, "p95": 0.95, "p99": 0.99}
_WIDEST_BUCKET = 2.5  # upper over lower bound
_HISTOGRAM = ("_sum", "_count", "_bucket")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scrape:
    """What one scrape held of an exposition's series. `time_s`: when it was asked for."""

    time_s: float
    samples: Samples


def parse(text: str, exposition: Exposition) -> Samples:
    """The samples that `exposition` names; the lines of all others are not looked at. NaN is left out.

    Raises:
        ValueError: a line of a series that is read is not of the text format.

    Source: Prometheus text exposition format 0.0.4.
    """
    from prometheus_client.parser import text_string_to_metric_families

    lines = "\n".join(_lines_of(exposition).findall(text)) + "\n"
    found: Samples = {}
    for family in text_string_to_metric_families(lines):
        for sample in family.samples:
            if not math.isnan(sample.value):
                found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = float(sample.value)
    return found


def state_of(scrape: Scrape, exposition: Exposition) -> Scrape:
    """What `over` needs of a scrape: a tenth of it."""
    names = {gauge.name for gauge in _gauges(exposition)}
    return Scrape(
        time_s=scrape.time_s, samples={name: s for name, s in scrape.samples.items() if name in names}
    )


def restarted(first: Scrape, last: Scrape, exposition: Exposition) -> bool:
    """Whether the server was started anew in between: a counter fell or is gone, or its process is new."""
    for name in _cumulative(exposition):
        before, after = first.samples.get(name, {}), last.samples.get(name, {})
        if any(after.get(labels, -math.inf) < value for labels, value in before.items()):
            return True
    started = [set(scrape.samples.get(_STARTED, {}).values()) for scrape in (first, last)]
    return all(started) and started[0] != started[1]


def between(
    first: Scrape, last: Scrape, exposition: Exposition, *, requests: int | None = None
) -> dict[str, float]:
    """Metrics of what the server did between two scrapes, by id; nothing when it was restarted.

    A mean is the sum over the count of what was observed in between, absent when that is nothing. Quantiles:
    see `quantile`. `requests`: how many the client saw completed, for engines that publish a sum of seconds
    without a count.
    """
    if restarted(first, last, exposition):
        return {}
    change = _Change(first, last, exposition)
    found: dict[str, float | None] = {}
    for metric_id, series in _histograms(exposition).items():
        count = change.of(series, "_count")
        found[metric_id] = _ratio(change.of(series, "_sum"), count)
        for statistic, q in _QUANTILES.items():
            found[f"{metric_id}.{statistic}"] = quantile(*change.buckets(series), q) if count else None
    for metric_id, summed in (
        ("prefill_s", exposition.prefill_seconds),
        ("decode_s", exposition.decode_seconds),
    ):
        if summed is not None and requests:
            found[metric_id] = _ratio(change.of(summed), float(requests))
    found["prefix_hit_ratio"] = _prefix_hits(change, exposition)
    found["preemptions"] = change.of(exposition.preemptions)
    drafts, accepted = change.of(exposition.drafts), change.of(exposition.accepted_tokens)
    found["spec_accepted_ratio"] = _ratio(accepted, change.of(exposition.draft_tokens))
    if exposition.accepted_tokens is None:  # the server's own token of each verification is among these
        found["spec_tokens_per_draft"] = _ratio(change.of(exposition.generation_tokens), drafts)
    elif (mean_accepted := _ratio(accepted, drafts)) is not None:
        found["spec_tokens_per_draft"] = 1.0 + mean_accepted
    return {metric_id: value for metric_id, value in found.items() if value is not None}


def generated(first: Scrape, last: Scrape, exposition: Exposition) -> float | None:
    """Output tokens by the server's own count; None: not counted, or restarted."""
    if restarted(first, last, exposition):
        return None
    return _Change(first, last, exposition).of(exposition.generation_tokens)


def over(scrapes: Sequence[Scrape], exposition: Exposition) -> dict[str, float]:
    """Metrics of a state that was looked at several times, by id: its mean and the most that was seen."""
    found: dict[str, float] = {}
    for metric_id, series, fullest in (
        ("requests_running", exposition.running, False),
        ("requests_waiting", exposition.waiting, False),
        ("kv_cache_use_ratio", exposition.kv_cache_use, True),
    ):
        if series is None:
            continue
        seen = [_chosen(scrape.samples, series.name, series, exposition) for scrape in scrapes]
        values = [max(s.values()) if fullest else sum(s.values()) for s in seen if s]
        if values:
            found[metric_id] = math.fsum(values) / len(values)
            found[f"{metric_id}.max"] = max(values)
    return found


def quantile(bounds: Sequence[float], counts: Sequence[float], q: float) -> float | None:
    """A quantile of what a histogram holds, as far as its buckets tell; None: they do not.

    bounds: upper bounds, ascending, the last may be infinite; counts: observations in each bucket. The value
    at the nearest rank lies in one bucket, and is put at the rank's place on the straight line between its
    bounds. It is known only where the bucket has a lower bound (the first one has none: nobody knows how far
    below its upper bound things were), an upper one, and the one is at most 2.5 times the other: the answer
    then is within that factor.

    >>> quantile([0.1, 0.2, 0.4, float("inf")], [0, 10, 0, 0], 0.5)
    0.15

    Source: linear interpolation within the bucket, as `histogram_quantile` of Prometheus; the refusals are
    ours.
    """
    total = math.fsum(counts)
    if total <= 0.0:
        return None
    rank = max(1.0, math.ceil(q * total - 1e-9))
    below = 0.0
    for i, count in enumerate(counts):
        if below + count >= rank:
            lower, upper = (bounds[i - 1] if i else 0.0), bounds[i]
            if upper > lower * _WIDEST_BUCKET * (1.0 + 1e-9):  # also where there is no lower bound
                return None
            return lower + (upper - lower) * (rank - below) / count
        below += count
    return None


# -- private ---------------------------------------------------------------------------------------------


def _histograms(exposition: Exposition) -> dict[str, Series]:
    named = {
        "queue_s": exposition.queue,
        "prefill_s": exposition.prefill,
        "decode_s": exposition.decode,
        "server_ttft_s": exposition.ttft,
        "server_e2e_s": exposition.e2e,
    }
    return {metric_id: series for metric_id, series in named.items() if series is not None}


def _gauges(exposition: Exposition) -> tuple[Series, ...]:
    gauges = (exposition.running, exposition.waiting, exposition.kv_cache_use)
    return tuple(gauge for gauge in gauges if gauge is not None)


def _cumulative(exposition: Exposition) -> frozenset[str]:
    """Names of the samples that never fall while a server runs."""
    gauges = _gauges(exposition)
    histograms = _histograms(exposition).values()
    plain = {
        value.name
        for f in fields(exposition)
        if isinstance(value := getattr(exposition, f.name), Series)
        and value not in gauges
        and value not in histograms
    }
    return frozenset(plain | {series.name + suffix for series in histograms for suffix in _HISTOGRAM})


@functools.cache
def _lines_of(exposition: Exposition) -> re.Pattern[str]:
    names = {*_cumulative(exposition), *(gauge.name for gauge in _gauges(exposition)), _STARTED}
    either = "|".join(re.escape(name) for name in sorted(names))
    return re.compile(rf"^(?:{either})[ \t{{].*$", re.MULTILINE)


def _chosen(samples: Samples, name: str, series: Series, exposition: Exposition) -> Mapping[Labels, float]:
    """The samples of a name that count: without repetitions of other ranks, and parts of totals."""
    wanted = set(series.labels)
    found = {labels: value for labels, value in samples.get(name, {}).items() if wanted <= set(labels)}
    for total in exposition.total_labels:
        if any((total, "") in labels for labels in found):
            found = {labels: value for labels, value in found.items() if (total, "") in labels}
    lowest: dict[Labels, tuple[list[tuple[int, str]], Labels]] = {}
    for labels in found:
        group = tuple(pair for pair in labels if pair[0] not in exposition.rank_labels)
        rank = [(len(value), value) for name, value in labels if name in exposition.rank_labels]
        if group not in lowest or rank < lowest[group][0]:
            lowest[group] = (rank, labels)
    return {labels: found[labels] for _, labels in lowest.values()}


class _Change:
    """By how much counters rose from one scrape to another, of a server that was not restarted.

    Series that appeared in between count from 0: client libraries make them when they are first needed.
    """

    def __init__(self, first: Scrape, last: Scrape, exposition: Exposition) -> None:
        self._first = first.samples
        self._last = last.samples
        self._exposition = exposition

    def of(self, series: Series | None, suffix: str = "") -> float | None:
        """None: the server does not publish it."""
        if series is None:
            return None
        rises = self._rises(series, suffix)
        return math.fsum(rises.values()) if rises else None

    def buckets(self, series: Series) -> tuple[list[float], list[float]]:
        """Upper bounds, and what was observed in each bucket; empty where series have different buckets."""
        by_series: dict[Labels, dict[float, float]] = {}
        for labels, rise in self._rises(series, "_bucket").items():
            rest = tuple(pair for pair in labels if pair[0] != "le")
            by_series.setdefault(rest, {})[float(dict(labels)["le"])] = rise
        if len({frozenset(rises) for rises in by_series.values()}) != 1:
            return [], []
        bounds = sorted(next(iter(by_series.values())))
        up_to = [math.fsum(rises[bound] for rises in by_series.values()) for bound in bounds]
        return bounds, [after - before for before, after in zip([0.0, *up_to], up_to, strict=False)]

    def _rises(self, series: Series, suffix: str) -> dict[Labels, float]:
        name = series.name + suffix
        before = self._first.get(name, {})
        after = _chosen(self._last, name, series, self._exposition)
        return {labels: value - before.get(labels, 0.0) for labels, value in after.items()}


def _prefix_hits(change: _Change, exposition: Exposition) -> float | None:
    hits, misses = change.of(exposition.prefix_hits), change.of(exposition.prefix_misses)
    if exposition.prefix_misses is None:
        return _ratio(hits, change.of(exposition.prefix_queries))
    return _ratio(hits, hits + misses) if hits is not None and misses is not None else None


def _ratio(part: float | None, whole: float | None) -> float | None:
    """None: one is not known, or nothing was counted."""
    return part / whole if part is not None and whole is not None and whole > 0.0 else None
