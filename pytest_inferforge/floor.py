"""The client's own error, measured on this machine by the workers that measure, at a workload's own rate.

They drive a server that knows its true times; what they report less what happened is the floor below which
no latency of a session means anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pytest_inferforge import measures
from pytest_inferforge.dialects import DIALECTS
from pytest_inferforge.loadgen.planning import Target
from pytest_inferforge.testing.timetable import Timetable, TimetableServer
from pytest_inferforge.words import WORDS
from pytest_inferforge.workload import arguments, files, schedule
from pytest_inferforge.workload import lengths as _lengths
from pytest_inferforge.workload.arrivals import Closed, Stages, Trace, mean_rate_per_s
from pytest_inferforge.workload.prompts import WordBank

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from pytest_inferforge.loadgen.fleet import Drive
    from pytest_inferforge.options import LoadOptions
    from pytest_inferforge.testing.timetable import TrueTimes
    from pytest_inferforge.workload.schedule import Schedule
    from pytest_inferforge.workload.spec import Workload

    DriveFunction = Callable[[Schedule, Target], Drive]

_SIZES = (4, 16, 64)  # tokens of a reply: so few that workloads share a floor; more only takes longer
_TTFT_S = 0.05
_GAP_S = 0.01
_USUAL_TOKENS = 64  # where a prompt file or a trace says how many
_CHUNKS_PER_S_AND_USER = 100.0  # what a closed loop is reckoned with before it was seen


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """Errors are abs(reported - true) over requests, in seconds.

    `what`: the load they were measured at. `cpu_per_chunk_s`: of one core. `attempts`: how often it was
    measured until it was small enough, or given up.
    """

    what: str
    requests: int
    ttft_error_p50_s: float
    ttft_error_p99_s: float
    icl_error_p99_s: float
    e2e_error_p99_s: float
    lag_p99_s: float | None
    cpu_per_chunk_s: float
    attempts: int = 1


def floor_workload(workload: Workload, options: LoadOptions) -> Workload:
    """What measures the floor of a workload: its own rate or concurrency, for some seconds.

    A slower rate is measured at that which takes `floor_seconds` for `floor_requests`. Answers have 4, 16 or
    64 tokens, the next size up.
    """
    closed = sum(lane.arrivals.concurrency for lane in workload.lanes if isinstance(lane.arrivals, Closed))
    rate = rate_per_s(workload)
    if rate or not closed:
        least = options.floor_requests / options.floor_seconds
        rate = max(rate, least)
        arrivals = f"poisson {rate:g} req/s"
        requests = max(options.floor_requests, round(rate))
    else:
        arrivals, requests = f"closed {closed}", max(options.floor_requests, 2 * closed)
    given = {
        "arrivals": arrivals,
        "requests": requests,
        "prompt_tokens": 32,
        "output_tokens": _tokens(workload),
        "transport": workload.transport,
        "seed": workload.seed,
        "warmup": 16,
    }
    return arguments.from_arguments(given, options)


def rate_per_s(workload: Workload) -> float:
    """Requests a second that the open loops of a workload ask for at their fastest."""
    total = 0.0
    for lane in workload.lanes:
        if isinstance(lane.arrivals, Stages):
            total += max(max(stage.start_per_s, stage.end_per_s) for stage in lane.arrivals.stages)
        elif isinstance(lane.arrivals, Trace) and workload.trace is not None:
            due_s = files.trace_of(workload.trace, lane.arrivals.format).due_s * lane.arrivals.time_scale
            total += len(due_s) / float(np.ptp(due_s)) if np.ptp(due_s) > 0 else 0.0
        elif not isinstance(lane.arrivals, Closed):
            total += (mean_rate_per_s(lane.arrivals) or 0.0) * (workload.mean_turns(lane) or 1.0)
    return total


def chunks_per_s(workload: Workload) -> float:
    """Chunks a second that a workload may bring; a closed loop's users are reckoned with 100 each."""
    tokens = float(np.mean([_mean_tokens(workload, k) for k in range(len(workload.classes))]))
    users = sum(lane.arrivals.concurrency for lane in workload.lanes if isinstance(lane.arrivals, Closed))
    return rate_per_s(workload) * tokens + users * _CHUNKS_PER_S_AND_USER


def measure(workload: Workload, drive: DriveFunction, options: LoadOptions, *, enough_s: float) -> Floor:
    """Measure the floor; again, a few times, while it is above `enough_s`: machines are busy for moments."""
    best: Floor | None = None
    for attempt in range(1, options.floor_attempts + 1):
        found = _once(workload, drive, options, attempt)
        if best is None or found.ttft_error_p99_s < best.ttft_error_p99_s:
            best = found
        if best.ttft_error_p99_s <= enough_s:
            break
    assert best is not None
    return best


def errors_s(drive: Drive, true: dict[str, TrueTimes]) -> dict[str, NDArray[np.float64]]:
    """abs(reported - true) of each completed request, float64 (k,): `ttft`, `icl` (mean gap), `e2e`."""
    table = drive.table
    done = np.flatnonzero(table.ok)
    times = [true[str(table.texts["id"][i])] for i in done]
    ttft_s, e2e_s = (measures.values(table, name)[done] for name in ("ttft_service_s", "e2e_service_s"))
    gaps = np.maximum(np.diff(table.chunk_start)[done] - 1, 1)
    icl_s = (e2e_s - ttft_s) / gaps
    true_ttft = np.array([t.ttft_s for t in times])
    true_e2e = np.array([t.e2e_s for t in times])
    true_icl = (true_e2e - true_ttft) / np.array([max(1, len(t.tokens_s) - 1) for t in times])
    pairs = {"ttft": (ttft_s, true_ttft), "icl": (icl_s, true_icl), "e2e": (e2e_s, true_e2e)}
    return {name: np.abs(ours - theirs) for name, (ours, theirs) in pairs.items()}


def _once(workload: Workload, drive: DriveFunction, options: LoadOptions, attempt: int) -> Floor:
    asked = floor_workload(workload, options)
    drawn = schedule.build(
        asked, warmup_waves=options.warmup_waves, warmup_max_concurrency=options.warmup_max_concurrency
    )
    with TimetableServer(_timetable(asked, options)) as server:
        target = Target(
            base_url=server.url,
            model="timetable",
            dialect=DIALECTS["vllm"],
            banks={"completions": WordBank(words=WORDS, overhead_tokens=1)},
        )
        found = drive(drawn, target)
        errors = errors_s(found, server.true_times())
    lag = measures.samples(found.table, "schedule_lag_s")
    return Floor(
        what=asked.describe(),
        requests=int(found.table.ok.sum()),
        ttft_error_p50_s=_quantile(errors["ttft"], "p50"),
        ttft_error_p99_s=_quantile(errors["ttft"], "p99"),
        icl_error_p99_s=_quantile(errors["icl"], "p99"),
        e2e_error_p99_s=_quantile(errors["e2e"], "p99"),
        lag_p99_s=measures.statistic(lag, "p99"),
        cpu_per_chunk_s=found.cpu_s / max(1, len(found.table.chunk_s)),
        attempts=attempt,
    )


def _timetable(asked: Workload, options: LoadOptions) -> Timetable:
    """A closed loop's answers take as long as lets `floor_requests` come in `floor_seconds`."""
    if not isinstance(asked.arrivals, Closed) or asked.requests is None:
        return Timetable(ttft_s=_TTFT_S, gap_s=_GAP_S, seed=asked.seed)
    tokens = _mean_tokens(asked, 0)
    usual_s = _TTFT_S + (tokens - 1) * _GAP_S
    each_s = min(usual_s, asked.arrivals.concurrency * options.floor_seconds / asked.requests)
    share = each_s / usual_s
    return Timetable(ttft_s=_TTFT_S * share, gap_s=_GAP_S * share, seed=asked.seed)


def _tokens(workload: Workload) -> int:
    tokens = max(_mean_tokens(workload, k) for k in range(len(workload.classes)))
    return next((size for size in _SIZES if tokens <= size), _SIZES[-1])


def _mean_tokens(workload: Workload, place: int) -> float:
    law = workload.classes[place].output_tokens
    return _USUAL_TOKENS if law is None else _lengths.mean(law)


def _quantile(column: NDArray[np.float64], name: str) -> float:
    value = measures.statistic(column, name)
    return float("inf") if value is None else value
