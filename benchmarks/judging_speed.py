"""How long judging takes: a large suite against its baseline, and the numbers and SLOs of a million requests.

Prints the best of several repeats, beside the time of sorting a million numbers in the same process: the
ratio is what can be compared between machines. Exits with 1 above the limits, in seconds.

    python benchmarks/judging_speed.py [--repeats 5] [--limit-suite-s 1] [--limit-requests-s 2]
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING

import numpy as np

from pytest_inferforge import gate, measures, slo
from pytest_inferforge.options import JudgeOptions
from pytest_inferforge.records import BootResult, Fingerprint, RequestCounts, SessionResult, TestResult
from pytest_inferforge.stats.tails import upper_quantiles
from pytest_inferforge.table import COUNTS, TEXTS, TIMES, RequestTable

if TYPE_CHECKING:
    from collections.abc import Callable

TESTS, SESSIONS, REQUESTS = 100, 20, 1_000_000
GATED = ("ttft_s.mean", "ttft_s.p99", "tpot_s.mean", "e2e_s.p95", "output_tok_per_s")
CHECKS = ("ttft p99 < 300 ms", "tpot p95 < 40 ms", "e2e p99.9 < 9 s", "error rate <= 1 %", "ttft mean < 1 s")
OPTIONS = JudgeOptions()


def best_of(repeats: int, work: Callable[[], object]) -> float:
    found = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        found.append(time.perf_counter() - began)
    return min(found)


def sessions(rng: np.random.Generator) -> list[SessionResult]:
    """Sessions with everything that a real one holds: fingerprints, a boot, tails of its latencies."""
    counts = RequestCounts(issued=1000, completed=1000, failed=0, cancelled=0)
    keys = Fingerprint(
        hard={f"hard{k}": "x" for k in range(4)},
        identity={f"identity{k}": "x" for k in range(6)},
        soft={f"soft{k}": "x" for k in range(20)},
    )
    tail = upper_quantiles(rng.lognormal(-2.0, 0.35, 1000))
    tails = {"ttft_s": tail, "tpot_s": tail, "icl_s": tail, "e2e_s": tail}

    def test(number: int) -> TestResult:
        values = np.exp(rng.normal(0.0, 0.02, len(GATED)))
        boot = BootResult(
            boot=1,
            ready_s=1.0,
            requests=counts,
            metrics=dict(zip(GATED, values.tolist(), strict=True)),
            tails=tails,
        )
        return TestResult(nodeid=f"t.py::test_{number}", fingerprint=keys, gated=GATED, boots=(boot,))

    return [
        SessionResult(
            schema=1,
            id=f"s{day}",
            started_at=f"2026-01-{day + 1:02}T00:00:00+00:00",
            version="0",
            seed=1,
            fingerprint=keys,
            planned_boots=1,
            complete=True,
            accepted=True,
            tests=tuple(test(number) for number in range(TESTS)),
        )
        for day in range(SESSIONS + 1)
    ]


def million(rng: np.random.Generator) -> RequestTable:
    """A table of a million completed requests of 16 tokens in one chunk and a last one."""
    n = REQUESTS
    due = np.sort(rng.uniform(0.0, 1000.0, n))
    first = due + rng.lognormal(-2.0, 0.35, n)
    last = first + rng.lognormal(-1.0, 0.2, n)
    times = {name: np.full(n, np.nan) for name in TIMES}
    times |= {"due_s": due, "send_s": due, "first_token_s": first, "last_token_s": last, "end_s": last}
    counted = {name: np.full(n, -1) for name in COUNTS}
    counted |= {"prompt_tokens_asked": np.full(n, 64), "output_tokens": np.full(n, 16)}
    counted |= {"output_tokens_asked": np.full(n, 16), "resent": np.zeros(n, dtype=np.int64)}
    return RequestTable(
        times=times,
        counts=counted,
        texts=dict.fromkeys(TEXTS, (None,) * n),
        index=np.arange(n),
        cls=np.zeros(n, dtype=np.int16),
        classes=("",),
        status=np.zeros(n, dtype=np.int8),
        exact=np.ones(n, dtype=np.bool_),
        chunk_s=np.column_stack([first, last]).ravel(),
        chunk_start=np.arange(0, 2 * n + 1, 2),
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--limit-suite-s", type=float, default=1.0)
    parser.add_argument("--limit-requests-s", type=float, default=2.0)
    option = parser.parse_args()
    rng = np.random.default_rng(1)
    numbers = rng.random(REQUESTS)
    sort_s = best_of(option.repeats, lambda: np.sort(numbers))
    *stored, current = sessions(rng)
    suite_s = best_of(
        option.repeats, lambda: gate.compare_session(current, stored, name="main", options=OPTIONS)
    )
    table = million(rng)
    clauses = [slo.parse(text) for text in CHECKS]
    limits = slo.per_request_limits(clauses)

    def requests() -> None:
        measures.all_metrics(table, limits)
        for clause in clauses:
            slo.judge(clause, [table], options=OPTIONS, limits=limits)

    requests_s = best_of(option.repeats, requests)
    print(f"sorting {REQUESTS} numbers: {sort_s * 1e3:.0f} ms, best of {option.repeats}")
    for what, seconds, limit in (
        (f"{TESTS} tests x {len(GATED)} metrics x {SESSIONS} sessions", suite_s, option.limit_suite_s),
        (f"all metrics and {len(CHECKS)} SLOs of {REQUESTS} requests", requests_s, option.limit_requests_s),
    ):
        verdict = "ok" if seconds <= limit else "TOO SLOW"
        print(f"{what}: {seconds:.2f} s, {seconds / sort_s:.1f} x the sort; at most {limit:g} s: {verdict}")
    return int(suite_s > option.limit_suite_s or requests_s > option.limit_requests_s)


if __name__ == "__main__":
    sys.exit(main())
