"""Whether a load worker's memory stays where it is: half an hour's requests at 200 req/s, in five minutes.

    python benchmarks/soak_memory.py

360 000 requests of 8 tokens at 1 200 req/s against the timetable server, one worker. Exits with 1 when its
memory in the last minute is more than --most times that of the second minute.
"""

from __future__ import annotations

import argparse
import sys

import driving
import numpy as np
from tabulate import tabulate

from pytest_inferforge.testing.timetable import Timetable

OUTPUT_TOKENS = 8


def main() -> int:
    parser = argparse.ArgumentParser(description="Whether a load worker's memory stays where it is.")
    parser.add_argument("--rate", type=float, default=1200.0, metavar="REQ/S")
    parser.add_argument("--requests", type=int, default=360_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--most", type=float, default=1.05, metavar="TIMES")
    arguments = parser.parse_args()
    drive, _ = driving.drive(
        Timetable(ttft_s=0.05, gap_s=0.01, seed=arguments.seed),
        arrivals=f"poisson {arguments.rate:g} req/s",
        requests=arguments.requests,
        output_tokens=OUTPUT_TOKENS,
        seed=arguments.seed,
    )
    (worker,) = drive.workers
    when_s, size = (np.array(column) for column in zip(*worker.memory_bytes, strict=True))
    loaded = when_s <= drive.table.times["due_s"].max()  # not the look after the end
    when_s, size = when_s[loaded], size[loaded]
    minutes = int(when_s[-1] // 60) + 1
    rows = [
        [minute + 1, f"{size[(when_s // 60).astype(int) == minute].mean() / 1e6:.2f} MB"]
        for minute in range(minutes)
        if ((when_s // 60).astype(int) == minute).any()
    ]
    print(tabulate(rows, headers=["minute", "worker memory"]))
    last = size[when_s > when_s[-1] - 60].mean()
    second = size[(when_s >= 60) & (when_s < 120)].mean()
    counts = drive.table.request_counts()
    print(
        f"{counts.completed} of {counts.issued} requests completed, {len(drive.table.chunk_s)} chunks,"
        f" {drive.cpu_share:.0%} of a core"
    )
    print(f"last minute over second minute: {last / second:.3f} (at most {arguments.most:g} may be)")
    return int(last / second > arguments.most)


if __name__ == "__main__":
    sys.exit(main())
