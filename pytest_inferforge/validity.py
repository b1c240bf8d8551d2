"""Whether the client kept up: a run that it could not measure is INVALID, never a verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pytest_inferforge import measures
from pytest_inferforge.units import format_value

if TYPE_CHECKING:
    from pytest_inferforge.measures import Limits
    from pytest_inferforge.options import LoadOptions
    from pytest_inferforge.table import RequestTable

_MISCOUNTED_SHARE = 0.01
_FROM_DUE = frozenset({"ttft_s", "ttft_any_s", "ttfo_s", "e2e_s"})


def reasons_against(
    table: RequestTable, *, lost: int, fault: str | None, limits: Limits, options: LoadOptions
) -> tuple[str, ...]:
    """Why this run may not be judged, a sentence each; empty: it may.

    `lost`, `fault`: requests without a row and how the client ended, as `fleet.Drive` says it.
    """
    found = []
    if fault is not None:
        found.append(f"the load client died ({fault}); {lost} requests have no record")
    if not len(table):
        found.append("no request was sent")
        return tuple(found)
    lag = measures.statistic(measures.samples(table, "schedule_lag_s"), "p99")
    allowed = lag_limit_s(table, limits, options)
    if lag is not None and lag > allowed:
        found.append(
            f"the client was late: schedule lag p99 {format_value(lag, 's')},"
            f" at most {format_value(allowed, 's')} is allowed"
        )
    share = _miscounted(table)
    if share > _MISCOUNTED_SHARE:
        found.append(f"the server counts other prompt lengths than were asked for in {share:.1%} of requests")
    return tuple(found)


def lag_limit_s(table: RequestTable, limits: Limits, options: LoadOptions) -> float:
    """The schedule lag (p99) above which a run is not judged, in seconds.

    The larger of a fixed one and a share of the tightest limit on a latency that runs from the due time, or
    of the median TTFT when the test has no such limit. A late send moves no other latency.
    """
    tight = [limit for name, (_, limit) in limits.items() if name in _FROM_DUE]
    scale = min(tight) if tight else measures.statistic(measures.samples(table, "ttft_s"), "p50")
    share = options.lag_limit_share * scale if scale is not None and np.isfinite(scale) else 0.0
    return max(options.lag_limit_s, share)


def oddities(table: RequestTable) -> tuple[str, ...]:
    """What was tolerated and counted, a phrase each, for the report."""
    ok = table.ok
    exact = table.exact[ok]
    counted = {
        "replies without usage (tokens counted from chunks)": int((~exact).sum()),
        "empty chunks": int(np.maximum(table.counts["empty_chunks"], 0).sum()),
        "requests sent again after an idle connection was found closed": int(table.counts["resent"].sum()),
        "replies shorter than asked": int(
            (table.counts["output_tokens"][ok] < table.counts["output_tokens_asked"][ok]).sum()
        ),
        "requests cut at the end of the run": int(table.cancelled.sum()),
    }
    return tuple(f"{count} {what}" for what, count in counted.items() if count)


def _miscounted(table: RequestTable) -> float:
    """Share of the requests whose prompt the server counted that it counted differently."""
    seen, asked = table.counts["prompt_tokens"], table.counts["prompt_tokens_asked"]
    known = seen >= 0
    return float((seen[known] != asked[known]).mean()) if known.any() else 0.0
