"""How many chunks a second one load worker takes, and what it keeps of each.

    python benchmarks/capacity.py --streams 600 700 --seconds 10

A server that writes to all streams together, every 10 ms, and prints how late it was itself; one worker. The
rate of chunks is counted while all streams run. Exits with 1 when the best is below --least chunks a second,
or when the worker keeps more than --most-bytes of each chunk after its request has ended.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass

import driving
import numpy as np
from tabulate import tabulate

from pytest_inferforge.testing.timetable import Timetable

TICK_S = 0.01
OUTPUT_TOKENS = 200  # 2 s a request


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One run. Times in seconds; `late` is chunk's arrival less the server's write."""

    streams: int
    chunks: int
    chunks_per_s: float
    server_late_p99_s: float
    late_p50_s: float
    late_p99_s: float
    cpu_share: float
    cpu_per_chunk_s: float
    kept_bytes_per_chunk: float


def trial(streams: int, seconds: float, seed: int) -> Trial:
    """Drive `streams` users at once."""
    drive, true = driving.drive(
        Timetable(ttft_s=0.02, gap_s=TICK_S, spread=0.0, seed=seed, tick_s=TICK_S),
        arrivals=f"closed {streams} ramp 1 s",
        duration=seconds,
        output_tokens=OUTPUT_TOKENS,
        seed=seed,
        warmup=0,
    )
    table, (cost,) = drive.table, drive.workers
    steady = (table.chunk_s > 2.0) & (table.chunk_s < seconds)
    written, received, ticks = _pairs(table, true)
    late = received - written
    late -= late.min()  # clocks count from different origins: the quickest chunk is taken for no time at all
    return Trial(
        streams=streams,
        chunks=len(table.chunk_s),
        chunks_per_s=float(steady.sum()) / (seconds - 2.0),
        server_late_p99_s=float(np.quantile(ticks, 0.99)),
        late_p50_s=float(np.quantile(late, 0.5)),
        late_p99_s=float(np.quantile(late, 0.99)),
        cpu_share=drive.cpu_share,
        cpu_per_chunk_s=drive.cpu_s / len(table.chunk_s),
        kept_bytes_per_chunk=max(0, cost.memory_bytes[-1][1] - cost.memory_bytes[0][1]) / len(table.chunk_s),
    )


def _pairs(table, true):
    """Of completed requests: when each token was written and received, and how late its write was."""
    written, received = [], []
    for i in np.flatnonzero(table.ok):
        chunks = table.chunk_s[table.chunk_start[i] : table.chunk_start[i + 1]]
        tokens = true[str(table.texts["id"][i])].tokens_s
        if len(chunks) == len(tokens):
            written.append(tokens)
            received.append(chunks)
    written_s, received_s = np.concatenate(written), np.concatenate(received)
    return written_s, received_s, written_s % TICK_S


def main() -> int:
    parser = argparse.ArgumentParser(description="Chunks a second of one load worker, and what it keeps.")
    parser.add_argument("--streams", type=int, nargs="+", default=[600, 700, 800])
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--least", type=float, default=60_000.0, metavar="CHUNKS/S")
    parser.add_argument("--most-bytes", type=float, default=64.0, metavar="BYTES")
    arguments = parser.parse_args()
    trials = [trial(streams, arguments.seconds, arguments.seed) for streams in arguments.streams]
    rows = [
        {
            "streams": t.streams,
            "chunks": t.chunks,
            "chunks/s": f"{t.chunks_per_s:.0f}",
            "server late\np99, ms": f"{t.server_late_p99_s * 1e3:.1f}",
            "received after write\np50 / p99, ms": f"{t.late_p50_s * 1e3:.2f} / {t.late_p99_s * 1e3:.2f}",
            "CPU\n\N{MICRO SIGN}s/chunk": f"{t.cpu_per_chunk_s * 1e6:.1f}",
            "CPU\nof a core": f"{t.cpu_share:.0%}",
            "kept\nbytes/chunk": f"{t.kept_bytes_per_chunk:.1f}",
        }
        for t in trials
    ]
    print(tabulate(rows, headers="keys", disable_numparse=True))
    best = max(t.chunks_per_s for t in trials)
    most = max(t.kept_bytes_per_chunk for t in trials)
    print(f"best {best:.0f} chunks/s of one worker (at least {arguments.least:.0f} are wanted)")
    print(f"at most {most:.1f} bytes a chunk kept (at most {arguments.most_bytes:.0f} may be)")
    return int(best < arguments.least or most > arguments.most_bytes)


if __name__ == "__main__":
    sys.exit(main())
