"""How far the load client is off: what it reports against what really happened, matched by request.

    python benchmarks/fidelity.py --rates 100 400 --repeats 5

One machine runs the timetable server and the client together. Exits with 1 when the 99th percentile of the
error of `ttft_service_s` is above the limit at 100 req/s (median of the repeats).

    python benchmarks/fidelity.py --vllm PYTHON --guidellm PYTHON --aiperf PYTHON

adds the same errors of other load generators, each in an environment of its own (`peers.md`).
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import driving
import numpy as np
import peers
from tabulate import tabulate

from pytest_inferforge import floor, measures
from pytest_inferforge.errors import MeasuringError
from pytest_inferforge.testing.timetable import Timetable

if TYPE_CHECKING:
    from pathlib import Path

OUTPUT_TOKENS = 64
JUDGED_RATE = 100.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One run. Errors are abs(reported - true) over requests; times in seconds."""

    requests: int
    failed: int
    achieved_per_s: float
    ttft_error_p50_s: float
    ttft_error_p99_s: float
    ttft_error_max_s: float
    icl_error_p50_s: float
    icl_error_p99_s: float
    icl_error_max_s: float
    e2e_error_p50_s: float
    e2e_error_p99_s: float
    e2e_error_max_s: float
    ttft_p99_s: float
    lag_p99_s: float
    cpu_per_chunk_s: float
    cpu_share: float


def trial(rate_per_s: float, seconds: float, seed: int) -> Trial:
    """Drive the timetable server once at a Poisson rate."""
    drive, true = driving.drive(
        Timetable(ttft_s=0.05, gap_s=0.01, spread=0.2, seed=seed),
        arrivals=f"poisson {rate_per_s} req/s",
        duration=seconds,
        output_tokens=OUTPUT_TOKENS,
        seed=seed,
    )
    table = drive.table
    errors = floor.errors_s(drive, true)
    sent_s = table.times["send_s"][table.ok]
    chunks = len(table.chunk_s)
    return Trial(
        requests=len(table),
        failed=int(table.failed.sum()),
        achieved_per_s=(len(sent_s) - 1) / float(np.ptp(sent_s)),
        **{
            f"{name}_error_{statistic}_s": _quantile(column, statistic)
            for name, column in errors.items()
            for statistic in ("p50", "p99", "max")
        },
        ttft_p99_s=_quantile(measures.samples(table, "ttft_s"), "p99"),
        lag_p99_s=_quantile(measures.samples(table, "schedule_lag_s"), "p99"),
        cpu_per_chunk_s=drive.cpu_s / chunks,
        cpu_share=drive.cpu_share,
    )


def row(rate_per_s: float, trials: list[Trial]) -> dict[str, str]:
    """A line of the table: medians over the repeats, the worst behind them where errors are shown."""

    def middle(name: str) -> float:
        return statistics.median(getattr(t, name) for t in trials)

    def ms(name: str) -> str:
        return f"{middle(name) * 1e3:.2f}"

    def errors(quantity: str) -> str:
        worst = max(getattr(t, f"{quantity}_error_p99_s") for t in trials)
        shown = " / ".join(ms(f"{quantity}_error_{name}_s") for name in ("p50", "p99", "max"))
        return shown + (f" (worst p99 {worst * 1e3:.2f})" if len(trials) > 1 else "")

    failed = sum(t.failed for t in trials)
    return {
        "rate\nreq/s": f"{rate_per_s:g}",
        "achieved\nreq/s": f"{middle('achieved_per_s'):.1f}",
        "requests": f"{sum(t.requests for t in trials)}" + (f", {failed} failed" if failed else ""),
        "ttft_service error, ms\np50 / p99 / max": errors("ttft"),
        "icl error, ms\np50 / p99 / max": errors("icl"),
        "e2e_service error, ms\np50 / p99 / max": errors("e2e"),
        "ttft p99\nms": ms("ttft_p99_s"),
        "lag p99\nms": ms("lag_p99_s"),
        "CPU\n\N{MICRO SIGN}s/chunk": f"{middle('cpu_per_chunk_s') * 1e6:.1f}",
        "CPU\nof a core": f"{middle('cpu_share'):.0%}",
    }


def lateness() -> tuple[float, float]:
    """How late this machine wakes a process that waits and goes first: p99 and largest of 2 s, in seconds.

    What no client on this machine can be better than: on a shared host other guests take the processor away.
    """
    code = (
        "import time; from pytest_inferforge.loadgen.priority import hurry; hurry(); late = []\n"
        "while len(late) < 2000:\n"
        "    due = time.monotonic() + 0.001; time.sleep(0.001); late.append(time.monotonic() - due)\n"
        "late.sort(); print(late[1979], late[-1])"
    )
    output = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True).stdout
    p99_s, largest_s = (float(word) for word in output.split())
    return p99_s, largest_s


def main() -> int:
    parser = argparse.ArgumentParser(description="How far the load client is off.")
    parser.add_argument("--rates", type=float, nargs="+", default=[20, 100, 200, 400, 800], metavar="REQ/S")
    parser.add_argument("--seconds", type=float, default=10.0, help="of arrivals, a trial")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--neighbours", type=int, default=0, help="processes that keep a core busy each")
    parser.add_argument(
        "--limit-ms", type=float, default=1.0, help=f"of the ttft error's p99 at {JUDGED_RATE:g} req/s"
    )
    parser.add_argument("--seed", type=int, default=1)
    peers.add_arguments(parser)
    arguments = parser.parse_args()
    neighbours = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(arguments.neighbours)
    ]
    rows, late = [], False
    try:
        p99_s, largest_s = lateness()
        print(f"this machine wakes processes late by p99 {p99_s * 1e3:.2f} ms, max {largest_s * 1e3:.2f} ms")
        for rate in arguments.rates:
            trials = [trial(rate, arguments.seconds, arguments.seed + k) for k in range(arguments.repeats)]
            rows.append(row(rate, trials))
            p99_s = statistics.median(t.ttft_error_p99_s for t in trials)
            late |= rate == JUDGED_RATE and p99_s * 1e3 > arguments.limit_ms
        others = _others(peers.given(arguments), arguments)
    finally:
        for neighbour in neighbours:
            neighbour.kill()
            neighbour.wait()
    seeds = f"{arguments.seed}..{arguments.seed + arguments.repeats - 1}"
    print(
        f"{arguments.repeats} repeats (medians), seeds {seeds}, {arguments.seconds:g} s of arrivals each,"
        f" {OUTPUT_TOKENS} tokens a request, {arguments.neighbours} busy neighbours"
    )
    print(tabulate(rows, headers="keys", disable_numparse=True))
    if others:
        print(
            "others, one run each; errors are of quantiles over all requests, because their ids are not ours"
        )
        print(tabulate(others, headers="keys", disable_numparse=True))
    if late:
        print(f"ttft_service error p99 at {JUDGED_RATE:g} req/s is above {arguments.limit_ms:g} ms")
    return int(late)


def _others(pythons: dict[str, Path], arguments: argparse.Namespace) -> list[dict[str, str]]:
    """The rows of the other tools; what failed is said and left out."""
    rows = []
    for name, python in pythons.items():
        for rate in arguments.rates:
            try:
                rows.append(peers.row(peers.measure(name, python, rate, arguments.seconds, arguments.seed)))
            except MeasuringError as error:
                print(f"{name} at {rate:g} req/s: {error}")
    return rows


def _quantile(column: np.ndarray, name: str) -> float:
    value = measures.statistic(column, name)
    assert value is not None
    return value


if __name__ == "__main__":
    sys.exit(main())
