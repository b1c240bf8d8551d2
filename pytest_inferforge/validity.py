"""Whether the client kept up, and whether the server was asked what was meant: else a run is INVALID."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pytest_inferforge import measures
from pytest_inferforge.units import format_value

if TYPE_CHECKING:
    from collections.abc import Collection

    from numpy.typing import NDArray

    from pytest_inferforge.measures import Limits
    from pytest_inferforge.options import LoadOptions
    from pytest_inferforge.table import RequestTable

_FROM_DUE = frozenset({"ttft_s", "ttft_any_s", "ttfo_s", "e2e_s"})
_OURS = {
    "no_descriptors": "this machine ran out of file descriptors (raise `ulimit -n`, or use more workers)",
    "no_ports": "this machine ran out of ports (widen net.ipv4.ip_local_port_range, or use more machines)",
    "no_memory": "this machine ran out of memory for sockets",
}
_IN_STEP = 0.7
_FEW = 50  # requests below which a rate or a dispersion says little
_LONG_S = 5.0  # a shorter run's rate moves with its last request's lag, which is judged by itself
_WINDOW_REQUESTS = 4.0  # expected in each window that arrivals are counted in


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """What is known of the client's side of a run. Times in seconds, shares of one core.

    `lost`, `fault`: requests without a row and how the workers ended, as `fleet.Drive` says it. `floor_s`:
    its own error of `ttft_service_s`, p99, measured before; None: not measured. `salted`: classes whose
    prompts share nothing; `counted`: those whose prompts the server must count as they were asked for (it
    counts images its own way); `exact_output`: the server was told to answer with exactly the tokens asked
    for; `restarted`: how the server was seen to have been started anew; None: it was not.
    """

    lost: int = 0
    fault: str | None = None
    cpu_share: float = 0.0
    loop_lag_p99_s: float = 0.0
    floor_s: float | None = None
    salted: Collection[str] = ()
    counted: Collection[str] = ("",)
    exact_output: bool = False
    restarted: str | None = None
    transport: str = "wire"


def reasons_against(
    table: RequestTable, client: Client, *, limits: Limits, options: LoadOptions
) -> tuple[str, ...]:
    """Why this run may not be judged, a sentence each; empty: it may."""
    found = []
    if client.fault is not None:
        found.append(f"the load client died ({client.fault}); {client.lost} requests have no record")
    if client.restarted is not None:
        found.append(f"the server was restarted while it was measured: {client.restarted}")
    if not len(table):
        found.append("no request was sent")
        return tuple(found)
    allowed = lag_limit_s(table, limits, options)
    if client.transport == "httpx":
        allowed = max(allowed, options.httpx_lag_limit_s)
    found += _machine(table, client, allowed, options)
    found += _arrivals(table, options)
    found += _tokens(table, client, options)
    return tuple(found)


def lag_limit_s(table: RequestTable, limits: Limits, options: LoadOptions) -> float:
    """The schedule lag (p99) above which a run is not judged, in seconds.

    The larger of a fixed one and a share of the tightest limit on a latency that runs from the due time, or
    of the median TTFT when the test has no such limit. A late send moves no other latency.
    """
    return max(options.lag_limit_s, _share_s(table, limits, options))


def oddities(table: RequestTable) -> tuple[str, ...]:
    """What was tolerated and counted, a phrase each, for the report."""
    ok = table.ok
    exact = table.exact[ok]
    counted = {
        "replies without usage (tokens counted from chunks)": int((~exact).sum()),
        "empty chunks": int(np.maximum(table.counts["empty_chunks"], 0).sum()),
        "requests sent again after an idle connection was found closed": int(table.counts["resent"].sum()),
        "replies shorter than asked": int(_short(table)[ok].sum()),
        "requests cut at the end of the run": int(table.cancelled.sum()),
    }
    said = [f"{count} {what}" for what, count in counted.items() if count]
    step = measures.synchrony(table)
    if step is not None and step > _IN_STEP:
        said.append(
            f"the users of the closed loop move in step ({step:.0%} of the way to all at once): bursts of"
            " requests wait for each other; lengths that vary, or a ramp, take them apart"
        )
    return tuple(said)


# -- private ---------------------------------------------------------------------------------------------


def _share_s(table: RequestTable, limits: Limits, options: LoadOptions) -> float:
    tight = [limit for name, (_, limit) in limits.items() if name in _FROM_DUE]
    scale = min(tight) if tight else measures.statistic(measures.samples(table, "ttft_s"), "p50")
    return options.lag_limit_share * scale if scale is not None and np.isfinite(scale) else 0.0


def _machine(table: RequestTable, client: Client, allowed_s: float, options: LoadOptions) -> list[str]:
    """What the machine of the client did not manage."""
    found = []
    lag = measures.statistic(measures.samples(table, "schedule_lag_s"), "p99")
    if lag is not None and lag > allowed_s:
        found.append(
            f"the client was late: schedule lag p99 {format_value(lag, 's')},"
            f" at most {format_value(allowed_s, 's')} is allowed"
        )
    floor_limit = max(options.floor_limit_s, allowed_s)
    if client.floor_s is not None and client.floor_s > floor_limit:
        found.append(
            f"the client's own error is too large at this rate: {format_value(client.floor_s, 's')} of TTFT"
            f" (p99, against a server of known times), at most {format_value(floor_limit, 's')} is allowed"
        )
    if client.cpu_share > options.worker_cpu_limit:
        found.append(
            f"a load worker needed {client.cpu_share:.0%} of a core, at most {options.worker_cpu_limit:.0%}"
            " is allowed: use more workers"
        )
    if client.loop_lag_p99_s > options.loop_lag_limit_s:
        found.append(
            f"a load worker was stalled: its timers were late by {format_value(client.loop_lag_p99_s, 's')}"
            f" (p99), at most {format_value(options.loop_lag_limit_s, 's')} is allowed"
        )
    failures = table.failures()
    for reason, words in _OURS.items():
        if n := failures.get(reason):
            found.append(f"{words}: {n} requests could not be sent")
    return found


def _arrivals(table: RequestTable, options: LoadOptions) -> list[str]:
    """Whether requests went out as they were scheduled to."""
    due, send = table.times["due_s"], table.times["send_s"]
    planned = ~np.isnan(due) & (table.counts["turn"] <= 0)
    both = planned & ~np.isnan(send)
    if int(both.sum()) < _FEW or np.ptp(due[both]) <= 0:
        return []
    found = []
    asked, sent = int(planned.sum()) / np.ptp(due[planned]), int(both.sum()) / np.ptp(send[both])
    if np.ptp(due[planned]) >= _LONG_S and sent < asked * (1.0 - options.achieved_rate_limit):
        found.append(
            f"only {format_value(float(sent), 'req/s')} were sent of {format_value(float(asked), 'req/s')}"
            f" asked for; {options.achieved_rate_limit:.0%} less is allowed"
        )
    before, after = dispersion(due[both]), dispersion(send[both])
    if abs(after - before) > options.dispersion_limit * max(before, 1.0):
        found.append(
            f"requests left in other bunches than scheduled: index of dispersion {after:.2f}"
            f" instead of {before:.2f}"
        )
    return found


def dispersion(when_s: NDArray[np.float64]) -> float:
    """Variance over mean of the arrivals in windows of about four; 1 for Poisson, 0 for equal gaps."""
    windows = max(1, round(len(when_s) / _WINDOW_REQUESTS))
    counted, _ = np.histogram(when_s, bins=windows, range=(float(when_s.min()), float(when_s.max())))
    return float(counted.var() / counted.mean())


def _tokens(table: RequestTable, client: Client, options: LoadOptions) -> list[str]:
    """Whether the server was asked what was meant, and answered as it was told to."""
    found = []
    if (share := _miscounted(table, client.counted)) > options.miscounted_limit:
        found.append(f"the server counts other prompt lengths than were asked for in {share:.1%} of requests")
    exact = table.ok & table.exact
    more = np.diff(table.chunk_start) > table.counts["output_tokens"]
    if exact.any() and (share := float(more[exact].mean())) > options.chunks_limit:
        found.append(f"{share:.1%} of the replies have more chunks than the tokens that the server counts")
    if client.exact_output and table.ok.any():
        share = float(_short(table)[table.ok].mean())
        if share > options.short_limit:
            found.append(
                f"{share:.1%} of the replies are shorter than the server was told to make them,"
                f" {options.short_limit:.1%} may be"
            )
    share = _cached(table, client.salted)
    if share > options.cached_limit:
        found.append(
            f"{share:.1%} of the prompt tokens came from a prefix cache, though no two prompts share a"
            " beginning: the server kept them from an earlier run"
        )
    return found


def _miscounted(table: RequestTable, counted: Collection[str]) -> float:
    """Share of the requests whose prompt the server counted that it counted differently."""
    seen, asked = table.counts["prompt_tokens"], table.counts["prompt_tokens_asked"]
    known = (seen >= 0) & (asked >= 0) & (table.counts["turn"] <= 0) & _of_classes(table, counted)
    return float((seen[known] != asked[known]).mean()) if known.any() else 0.0


def _short(table: RequestTable) -> NDArray[np.bool_]:
    asked = table.counts["output_tokens_asked"]
    return (asked > 0) & (table.counts["output_tokens"] < asked)


def _cached(table: RequestTable, salted: Collection[str]) -> float:
    known = _of_classes(table, salted) & (table.counts["cached_tokens"] >= 0)
    prompts = table.counts["prompt_tokens"][known & (table.counts["prompt_tokens"] > 0)]
    total = int(prompts.sum())
    return float(table.counts["cached_tokens"][known].sum()) / total if total else 0.0


def _of_classes(table: RequestTable, names: Collection[str]) -> NDArray[np.bool_]:
    known = np.isin(np.array(table.classes or ("",)), list(names))
    found: NDArray[np.bool_] = known[table.cls]
    return found
