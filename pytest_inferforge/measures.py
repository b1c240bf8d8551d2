"""From the requests of one run to its numbers, as `pytest_inferforge.metrics` defines them.

Everything works on a `RequestTable` of n requests. "Counted" requests are those a check may judge:
completed and failed ones; a request that we cut when the run ended counts as exceeding a limit only when it
was already older than the limit, and is left out else (censored).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from pytest_inferforge.metrics import METRICS, STATISTICS, quantile_of
from pytest_inferforge.stats import steady
from pytest_inferforge.stats.tails import upper_quantiles

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from pytest_inferforge.table import RequestTable

    Floats = NDArray[np.float64]
    Bools = NDArray[np.bool_]

    Limits = Mapping[str, tuple[str, float]]  # quantity id -> (operator, limit)


TAILED = ("ttft_s", "tpot_s", "icl_s", "e2e_s")
"""Quantities of whose slow end more is kept than the metrics."""

# -- one value a request ---------------------------------------------------------------------------------


def values(table: RequestTable, quantity_id: str) -> Floats:
    """float64 (n,): the quantity of every request in seconds; NaN where it is not defined."""
    return _REQUEST_VALUES[quantity_id](table)


def samples(table: RequestTable, quantity_id: str) -> Floats:
    """float64 (k,), in schedule order: completed requests' values, +inf for failed ones.

    Undefined values (TPOT of a one-token answer) and censored requests are left out; what the client itself
    did (its lag, its connects) is known of every request, and a first token that came before the cut counts.
    """
    column = np.where(_fails(table, quantity_id), math.inf, values(table, quantity_id))
    known = quantity_id in _OF_THE_CLIENT or quantity_id in _REACHED
    keep = table.ok | table.failed | (table.cancelled & known)
    return column[keep & ~np.isnan(column)]


def exceeds(table: RequestTable, quantity_id: str, limit: float, op: str) -> Bools:
    """bool (k,), in schedule order: which counted requests do not satisfy `value op limit`."""
    counted, over, _ = outcomes(table, quantity_id, limit, op)
    return over[counted]


def outcomes(table: RequestTable, quantity_id: str, limit: float, op: str) -> tuple[Bools, Bools, Floats]:
    """Of every request, each (n,): whether it counts, whether it misses `value op limit`, its value.

    The value is +inf for a failed request, and NaN for one of which only is known that it is older than the
    limit, or not even that.
    """
    fails = _fails(table, quantity_id)
    known = table.ok | fails | (table.cancelled & (quantity_id in _REACHED))
    column = np.where(known, np.where(fails, math.inf, values(table, quantity_id)), math.nan)
    older = table.cancelled & (_age(table, quantity_id) > limit)
    seen = ~np.isnan(column)
    return seen | older, (seen & ~_satisfies(column, limit, op)) | older, column


def failed(table: RequestTable) -> Bools:
    """bool (k,): failed or not, of every completed or failed request, in schedule order."""
    return table.failed[table.ok | table.failed]


def meets(table: RequestTable, limits: Limits) -> Bools:
    """bool (k,): which requests completed within every per-request limit (goodput).

    Over issued requests, less those cut at the end while still inside every limit. A limit on a quantity
    that a request does not define (TPOT of one token) is vacuous for it.
    """
    counted, good = goodness(table, limits)
    return good[counted]


def goodness(table: RequestTable, limits: Limits) -> tuple[Bools, Bools]:
    """Of every request, each bool (n,): whether it counts, and whether it `meets` the limits."""
    good = table.ok.copy()
    censored = table.cancelled.copy()
    for quantity_id, (op, limit) in limits.items():
        column = values(table, quantity_id)
        good &= _satisfies(column, limit, op) | np.isnan(column)
        censored &= ~(_age(table, quantity_id) > limit)
    return ~censored, good


# -- one number a run ------------------------------------------------------------------------------------


def steady_window(table: RequestTable) -> tuple[float, float] | None:
    """Start and end of the steady window in seconds: from where the load has built up to the last start.

    What comes after the last start is the drain: fewer and fewer requests run, so it is outside. So is the
    build-up, as far as MSER over slices of the token rate finds one in the first half. When all starts lie
    together (a burst, or no more requests than slots) the window is the makespan. None: no request was
    completed.
    """
    window = _outer_window(table)
    if window is None or len(table) < _ENOUGH_FOR_MSER:
        return window
    first, last = window
    when, weight = _events(table, "output_tok_per_s", None)
    counted, _ = np.histogram(when, bins=_MSER_SLICES, range=window, weights=weight)
    return first + (last - first) * steady.build_up(counted.astype(float)) / _MSER_SLICES, last


def _outer_window(table: RequestTable) -> tuple[float, float] | None:
    start = table.start_s[~np.isnan(table.start_s)]
    if not len(start):
        return None
    first, last = float(start.min()), float(start.max())
    end = _makespan_end(table)
    if end is None:
        return None
    if last - first < 0.5 * (end - first):
        return first, end
    return first, last


def synchrony(table: RequestTable) -> float | None:
    """How far the users of a closed loop move in step: 0 not at all, 1 all together. None: no closed loop.

    Every start is put on a circle of one mean cycle (from a user's start to its next); the length of their
    mean direction, over blocks of a few cycles so that a slow drift does not hide it.

    Source: Rayleigh's statistic, Mardia & Jupp 2000, section 2.3.
    """
    users = np.isnan(table.times["due_s"]) & ~np.isnan(table.times["send_s"])
    start, end = table.times["send_s"][users], table.times["end_s"][users]
    cycle_s = float(np.nanmean(end - start)) if len(start) else 0.0
    if len(start) < _ENOUGH_FOR_MSER or cycle_s <= 0:
        return None
    turns = start / cycle_s
    block = (turns // 4).astype(int)
    lengths = [
        abs(np.exp(2j * np.pi * turns[block == k]).mean())
        for k in np.unique(block)
        if int((block == k).sum()) >= 16
    ]
    return float(np.median(lengths)) if lengths else None


def run_value(table: RequestTable, quantity_id: str, limits: Limits | None = None) -> float | None:
    """One number of a run in the quantity's unit; None: not measured (or no limits for a goodput)."""
    if quantity_id == "error_ratio":
        outcome = failed(table)
        return float(outcome.mean()) if len(outcome) else None
    if quantity_id == "goodput_ratio":
        outcome = meets(table, limits) if limits else np.empty(0, dtype=bool)
        return float(outcome.mean()) if len(outcome) else None
    if quantity_id in ("makespan_output_tok_per_s", "makespan_request_per_s"):
        return _makespan_rate(table, tokens="tok" in quantity_id)
    if quantity_id not in _RATES:
        return None
    rates = _window_rates(table, quantity_id, 1, limits)
    return float(rates[0]) if rates is not None else None


def rate_batches(table: RequestTable, quantity_id: str, batches: int) -> Floats:
    """float64 (batches,): the rate in equal slices of the steady window; empty when nothing was sent."""
    rates = _window_rates(table, quantity_id, batches, None)
    return rates if rates is not None else np.empty(0)


def goodput_batches(table: RequestTable, limits: Limits, batches: int) -> Floats:
    """float64 (batches,): good requests per second in equal slices of the steady window."""
    rates = _window_rates(table, "goodput_req_per_s", batches, limits)
    return rates if rates is not None else np.empty(0)


# -- statistics ------------------------------------------------------------------------------------------


def statistic(column: Floats, name: str) -> float | None:
    """A statistic of samples: mean over the finite ones, quantiles by nearest rank over all of them.

    `cvar95` is the mean of the slowest 5 %. None: no samples. A quantile that falls on a failed request is
    +inf, and so is a cvar95 with one among its slowest.
    Source: nearest rank, Hyndman & Fan 1996, type 1; CVaR, Rockafellar & Uryasev 2000.
    """
    if name == "mean":
        finite = column[np.isfinite(column)]
        return float(finite.mean()) if len(finite) else None
    if name == "cvar95" and len(column):
        slowest = max(1, math.ceil(0.05 * len(column) - 1e-9))
        return float(np.partition(column, len(column) - slowest)[-slowest:].mean())
    q = quantile_of(name)
    if q is None or not len(column):
        return None
    rank = max(1, math.ceil(q * len(column) - 1e-9))
    return float(np.partition(column, rank - 1)[rank - 1])


def all_metrics(table: RequestTable, limits: Limits | None = None) -> dict[str, float]:
    """Every metric id that this run has a value for; +inf where failures reach a quantile."""
    found: dict[str, float] = {}
    for quantity in METRICS.values():
        if quantity.per == "run":
            value = run_value(table, quantity.id, limits)
            if value is not None:
                found[quantity.id] = value
            continue
        column = samples(table, quantity.id)
        for name in STATISTICS:
            if (value := statistic(column, name)) is not None:
                found[f"{quantity.id}.{name}"] = value
    return found


def tails(table: RequestTable) -> dict[str, tuple[float, ...]]:
    """Quantity -> the upper quantiles of its samples, of those that are compared by their tails."""
    found = {name: upper_quantiles(samples(table, name)) for name in TAILED}
    return {name: upper for name, upper in found.items() if upper}


# -- private ---------------------------------------------------------------------------------------------


def _satisfies(column: Floats, limit: float, op: str) -> Bools:
    compare = {"<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal}[op]
    return compare(column, limit)


def _fails(table: RequestTable, quantity_id: str) -> Bools:
    """Which requests have this latency at infinity: the client's own lag and connects are no latencies."""
    if quantity_id in _OF_THE_CLIENT:
        return np.zeros(len(table), dtype=bool)
    return table.failed


def _age(table: RequestTable, quantity_id: str) -> Floats:
    """How old each request was when it ended, where the quantity had not come true by then; else NaN."""
    start = table.times["send_s"] if "service" in quantity_id else table.start_s
    column = _REACHED.get(quantity_id)
    if column is None and not quantity_id.startswith("e2e"):
        return np.full(len(table), math.nan)
    age = table.times["end_s"] - start
    if column is None:
        return age
    hit = table.times[column]
    return np.where(np.isnan(hit), age, hit - start)


def _ttft(table: RequestTable) -> Floats:
    return table.times["first_token_s"] - table.start_s


def _tpot(table: RequestTable) -> Floats:
    """(last - first) / (n - k1), with k1 = tokens of the first chunk.

    k1 is known where the server counts as it goes (`first_chunk_tokens`), and taken as 1 else. Undefined, not
    0, for a one-token answer and for one that came all at once (k1 = n).
    Source: measuring definitions in docs/metrics.md.
    """
    first = np.maximum(table.counts["first_chunk_tokens"], 1)  # -1: not known
    tokens = (table.counts["output_tokens"] - first).astype(float)
    span = table.times["last_token_s"] - table.times["first_token_s"]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where((tokens > 0) & (span > 0), span / tokens, math.nan)


def _icl(table: RequestTable) -> Floats:
    """Nearest-rank 99th percentile of each request's gaps between chunks."""
    sizes = np.diff(table.chunk_start)
    out = np.full(len(table), math.nan)
    gaps = np.diff(table.chunk_s)
    short = (sizes >= 2) & (sizes <= 100)  # fewer than 100 gaps: rank = count, the largest
    if short.any():
        inside = np.ones(len(gaps), dtype=bool)  # gaps between two requests' chunks are no gaps
        edges = table.chunk_start[1:-1] - 1
        inside[edges[(edges >= 0) & (edges < len(gaps))]] = False
        padded = np.append(np.where(inside, gaps, -math.inf), -math.inf)
        largest = np.maximum.reduceat(padded, np.minimum(table.chunk_start[:-1], len(padded) - 1))
        out[short] = largest[short]
    for i in np.flatnonzero(sizes > 100):
        start, stop = table.chunk_start[i : i + 2]
        value = statistic(np.diff(table.chunk_s[start:stop]), "p99")
        out[i] = math.nan if value is None else value
    return out


_REQUEST_VALUES: dict[str, Callable[[RequestTable], Floats]] = {
    "ttft_s": _ttft,
    "ttft_service_s": lambda t: t.times["first_token_s"] - t.times["send_s"],
    "ttft_any_s": lambda t: t.times["first_event_s"] - t.start_s,
    "ttfo_s": lambda t: t.times["first_visible_s"] - t.start_s,
    "tpot_s": _tpot,
    "icl_s": _icl,
    "e2e_s": lambda t: t.times["last_token_s"] - t.start_s,
    "e2e_service_s": lambda t: t.times["last_token_s"] - t.times["send_s"],
    "schedule_lag_s": lambda t: t.times["send_s"] - t.times["due_s"],
    "connect_s": lambda t: t.times["connect_s"],
    "tls_s": lambda t: t.times["tls_s"],
    "rtt_s": lambda t: t.times["rtt_s"],
}

_OF_THE_CLIENT = ("schedule_lag_s", "connect_s", "tls_s", "rtt_s")
_RATES = ("output_tok_per_s", "total_tok_per_s", "request_per_s", "goodput_req_per_s")
_ENOUGH_FOR_MSER = 100  # requests
_MSER_SLICES = 40
_REACHED = {
    "ttft_s": "first_token_s",
    "ttft_service_s": "first_token_s",
    "ttft_any_s": "first_event_s",
    "ttfo_s": "first_visible_s",
}


def _makespan_end(table: RequestTable) -> float | None:
    last = table.times["last_token_s"][table.ok]
    return float(last.max()) if len(last) else None


def _makespan_rate(table: RequestTable, *, tokens: bool) -> float | None:
    end = _makespan_end(table)
    if end is None:
        return None
    first = float(np.nanmin(table.times["send_s"]))
    counted = table.counts["output_tokens"][table.ok]
    amount = float(counted[counted > 0].sum()) if tokens else float(table.ok.sum())
    return amount / (end - first) if end > first else None


def _window_rates(
    table: RequestTable, quantity_id: str, batches: int, limits: Limits | None
) -> Floats | None:
    window = steady_window(table)
    if window is None or (quantity_id == "goodput_req_per_s" and not limits):
        return None
    start, end = window
    if end <= start:
        return None
    when, weight = _events(table, quantity_id, limits)
    counted, _ = np.histogram(when, bins=batches, range=(start, end), weights=weight)
    return counted.astype(float) / ((end - start) / batches)


def _events(table: RequestTable, quantity_id: str, limits: Limits | None) -> tuple[Floats, Floats]:
    """When what is counted happened, and how much of it: two float64 (events,)."""
    if quantity_id in ("request_per_s", "goodput_req_per_s"):
        good = table.ok.copy()
        if quantity_id == "goodput_req_per_s":
            for limited, (op, limit) in (limits or {}).items():
                column = values(table, limited)
                good &= _satisfies(column, limit, op) | np.isnan(column)
        when = table.times["last_token_s"][good]
        return when, np.ones(len(when))
    sizes = np.diff(table.chunk_start)
    tokens = np.where(table.counts["output_tokens"] > 0, table.counts["output_tokens"], sizes)
    share = np.divide(tokens, sizes, out=np.zeros(len(table)), where=sizes > 0)
    when, weight = table.chunk_s, np.repeat(share, sizes)
    if quantity_id == "total_tok_per_s":
        prompt = np.maximum(table.counts["prompt_tokens"], 0).astype(float)
        first = table.times["first_token_s"]
        seen = ~np.isnan(first)
        when = np.concatenate((when, first[seen]))
        weight = np.concatenate((weight, prompt[seen]))
    return when, weight
