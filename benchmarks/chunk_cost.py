"""What a received chunk costs the load client, against a loop that only stamps and keeps what arrives.

    python benchmarks/chunk_cost.py --repeats 3

Both drive the same timetable server over the same schedule, one after the other, each in its own process.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from pathlib import Path
from time import monotonic_ns
from typing import TYPE_CHECKING

import driving
import msgspec
import uvloop
from tabulate import tabulate

from pytest_inferforge.loadgen import fleet
from pytest_inferforge.loadgen.bodies import Columns, RequestWriter
from pytest_inferforge.loadgen.plan import Plan
from pytest_inferforge.loadgen.priority import hurry
from pytest_inferforge.testing.timetable import Timetable, TimetableServer

if TYPE_CHECKING:
    from urllib.parse import SplitResult

OUTPUT_TOKENS = 64
_LAST = b"0\r\n\r\n"


class Stamping(asyncio.Protocol):
    """Stamps and keeps; knows a reply's end by its last bytes."""

    def __init__(self, idle: deque[Stamping], ended: list[tuple[list[int], list[bytes]]]) -> None:
        self.idle = idle
        self.ended = ended

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def send(self, data: bytes) -> None:
        self.stamps: list[int] = []
        self.parts: list[bytes] = []
        self.transport.write(data)

    def data_received(self, data: bytes) -> None:
        self.stamps.append(monotonic_ns())
        self.parts.append(data)
        if data.endswith(_LAST):
            self.ended.append((self.stamps, self.parts))
            self.idle.append(self)


async def stamp_only(plan: Plan, url: SplitResult) -> dict[str, float]:
    """Send the plan's requests when they are due; CPU seconds and chunks received."""
    writer, columns = RequestWriter(plan, None), Columns(plan.items)
    requests = [
        writer.request(0, f"b-{k}", writer.opening(columns, k, k), columns.output_tokens[k])
        for k in range(len(columns))
    ]
    loop = asyncio.get_running_loop()
    idle: deque[Stamping] = deque()
    ended: list[tuple[list[int], list[bytes]]] = []
    tasks = set()

    async def connect_and_send(data: bytes) -> None:
        _, made = await loop.create_connection(lambda: Stamping(idle, ended), url.hostname, url.port)
        made.send(data)

    def send(data: bytes) -> None:
        if idle:
            idle.pop().send(data)
            return
        task = loop.create_task(connect_and_send(data))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    gc.collect()
    gc.freeze()
    gc.disable()
    cpu_s, origin_s = time.process_time(), loop.time() + 0.05
    for due_ns, data in zip(columns.due_ns, requests, strict=True):
        loop.call_at(origin_s + due_ns / 1e9, send, data)
    while len(ended) < len(requests):  # noqa: ASYNC110 (an event would cost what is measured)
        await asyncio.sleep(0.1)
    cpu_s = time.process_time() - cpu_s
    return {"cpu_s": cpu_s, "chunks": sum(len(stamps) for stamps, _ in ended)}


def bare(plan_path: str) -> None:
    """The child process: drive the plan and print what it cost."""
    from urllib.parse import urlsplit

    hurry()
    plan = msgspec.msgpack.decode(Path(plan_path).read_bytes(), type=Plan)
    print(json.dumps(uvloop.run(stamp_only(plan, urlsplit(plan.url)))))


def compare(rate_per_s: float, seconds: float, seed: int) -> tuple[float, float]:
    """CPU seconds per chunk of our client and of the bare loop."""
    with TimetableServer(Timetable()) as server, tempfile.TemporaryDirectory() as folder:
        plan = driving.plan(
            server.url,
            arrivals=f"poisson {rate_per_s} req/s",
            duration=seconds,
            output_tokens=OUTPUT_TOKENS,
            seed=seed,
            warmup=0,
        )
        path = Path(folder) / "bare.plan"
        path.write_bytes(msgspec.msgpack.encode(plan))
        output = subprocess.run(
            [sys.executable, __file__, "--bare", str(path)], stdout=subprocess.PIPE, check=True
        )
        drive = fleet.drive([plan], api_key=None, folder=Path(folder), name="ours")
    stamped = json.loads(output.stdout)
    return drive.cpu_s / drive.segments, stamped["cpu_s"] / stamped["chunks"]


def main() -> int:
    parser = argparse.ArgumentParser(description="What a received chunk costs the load client.")
    parser.add_argument("--rate", type=float, default=400.0, metavar="REQ/S")
    parser.add_argument("--seconds", type=float, default=5.0, help="of arrivals, a trial")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--bare", metavar="PLAN", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.bare:
        bare(arguments.bare)
        return 0
    pairs = [compare(arguments.rate, arguments.seconds, 1 + k) for k in range(arguments.repeats)]
    ratios = [ours / stamped for ours, stamped in pairs]
    rows = [
        ["load client", statistics.median(ours for ours, _ in pairs) * 1e6],
        ["stamping loop", statistics.median(stamped for _, stamped in pairs) * 1e6],
    ]
    print(f"{arguments.rate:g} req/s x {OUTPUT_TOKENS} tokens, {arguments.repeats} repeats (medians)")
    print(tabulate(rows, headers=["", "CPU, \N{MICRO SIGN}s/chunk"], floatfmt=".1f"))
    print(f"ratio {statistics.median(ratios):.2f} (worst {max(ratios):.2f})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
