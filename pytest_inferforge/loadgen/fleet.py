"""Starting the worker, waiting for it, and turning what it left into a table of requests."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from pytest_inferforge import processes
from pytest_inferforge.errors import MeasuringError
from pytest_inferforge.loadgen.plan import FAILED, Finish, Plan, Progress, Row
from pytest_inferforge.loadgen.rows import read_rows
from pytest_inferforge.table import RequestTable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

_GRACE_S = 1.0
_EXIT_S = 10.0  # from the end of its output to its exit


@dataclass(frozen=True, slots=True, kw_only=True)
class Drive:
    """What a worker brought back. CPU and wall times in seconds, over the measured phase.

    `priority`: how urgently the system let it run: real-time, nice -10, normal.

    `lost`: requests that were issued and have no row, because the worker died; they are in `table` as
    failures with the reason `worker_died`, and `fault` says how it ended (None: in order).
    """

    table: RequestTable
    warmup: int
    warmup_failed: int
    warmup_reason: str | None
    started_at_unix_s: float
    cpu_s: float
    wall_s: float
    segments: int
    connections: int
    priority: str
    lost: int
    fault: str | None


def drive(
    plan: Plan,
    *,
    api_key: str | None,
    folder: Path,
    name: str,
    on_progress: Callable[[Progress], None] | None = None,
) -> Drive:
    """Run one worker process over `plan`; its files go to `folder` under `name`.

    Raises:
        MeasuringError: the worker ended before it measured anything.
    """
    folder.mkdir(parents=True, exist_ok=True)
    plan_path, rows_path, log_path = (folder / f"{name}.{end}" for end in ("plan", "rows", "client.log"))
    plan_path.write_bytes(msgspec.msgpack.encode(plan))
    env = {**os.environ, "PYTHONHASHSEED": "0"}
    if api_key:
        env["INFERFORGE_WORKER_KEY"] = api_key
    argv = [sys.executable, "-m", "pytest_inferforge.loadgen.worker", str(plan_path), str(rows_path)]
    worker = processes.start(argv, env=env, log_path=log_path, grace_s=_GRACE_S, stdout_pipe=True)
    try:
        assert worker.stdout is not None
        for line in worker.stdout:
            if on_progress is not None and line.startswith(b"{"):
                on_progress(msgspec.json.decode(line, type=Progress))
        code = worker.wait(_EXIT_S)
    finally:
        worker.stop()
    rows, finish = read_rows(rows_path.read_bytes() if rows_path.exists() else b"")
    if finish is None and not rows:
        raise MeasuringError(
            "the load client ended before it measured anything",
            seen=f"exit code {code}\n{processes.tail(log_path)}".strip(),
            do=f"its whole log is {log_path}",
        )
    plan_path.unlink()
    rows_path.unlink()
    return _drive(plan, rows, finish, f"exit code {code}" if finish is None else None)


def _drive(plan: Plan, rows: list[Row], finish: Finish | None, fault: str | None) -> Drive:
    issued = finish.issued if finish else _planned(plan, rows)
    known = {row.index for row in rows}
    missing = [i for i in range(issued) if i not in known]
    rows += [_lost_row(plan, i) for i in missing]
    return Drive(
        table=as_table(plan, rows),
        warmup=finish.warmup if finish else 0,
        warmup_failed=finish.warmup_failed if finish else 0,
        warmup_reason=finish.warmup_reason if finish else None,
        started_at_unix_s=finish.origin_unix_ns / 1e9 if finish else 0.0,
        cpu_s=finish.cpu_ns / 1e9 if finish else 0.0,
        wall_s=finish.wall_ns / 1e9 if finish else 0.0,
        segments=finish.segments if finish else 0,
        connections=finish.connections if finish else 0,
        priority=finish.priority if finish else "unknown",
        lost=len(missing),
        fault=fault,
    )


def _planned(plan: Plan, rows: list[Row]) -> int:
    """How many requests a dead worker had been asked for; of a loop that ends by time, those it is known to
    have sent."""
    return max(len(plan.due_ns), plan.requests or 0, 1 + max((row.index for row in rows), default=-1))


def as_table(plan: Plan, rows: list[Row]) -> RequestTable:
    """Columns from a worker's rows, ordered by their place in the schedule."""
    rows = sorted(rows, key=lambda r: r.index)
    sizes = np.array([len(r.chunk_ns) // 8 for r in rows], dtype=np.int64)

    def times(name: str) -> NDArray[np.float64]:
        return np.array([getattr(r, name) for r in rows], dtype=float) / 1e9

    def counts(values: list[int | None]) -> NDArray[np.int64]:
        return np.array([-1 if v is None else v for v in values], dtype=np.int64)

    names = ("due", "send", "connect", "first_byte", "first_event", "first_token", "first_visible",
             "last_token", "end")  # fmt: skip
    integers = ("prompt_tokens_asked", "output_tokens_asked", "prompt_tokens", "output_tokens",
                "cached_tokens", "http_status", "empty_chunks", "resent")  # fmt: skip
    return RequestTable(
        times={f"{name}_s": times(f"{name}_ns") for name in names},
        counts={name: counts([getattr(r, name) for r in rows]) for name in integers},
        texts={
            "id": tuple(f"{plan.id_prefix}-{r.index}" for r in rows),
            "reason": tuple(r.reason for r in rows),
            "detail": tuple(r.detail for r in rows),
            "finish_reason": tuple(r.finish_reason for r in rows),
        },
        index=np.array([r.index for r in rows], dtype=np.int64),
        status=np.array([r.status for r in rows], dtype=np.int8),
        exact=np.array([r.exact for r in rows], dtype=bool),
        chunk_s=np.frombuffer(b"".join(r.chunk_ns for r in rows), dtype="<i8") / 1e9,
        chunk_start=np.concatenate((np.zeros(1, np.int64), np.cumsum(sizes))),
        closed_loop=plan.concurrency is not None,
    )


def _lost_row(plan: Plan, index: int) -> Row:
    k = index % len(plan.prompt_tokens)
    nothing = dict.fromkeys(
        ("http_status", "send_ns", "connect_ns", "first_byte_ns", "first_event_ns", "first_token_ns",
         "first_visible_ns", "last_token_ns", "end_ns", "prompt_tokens", "output_tokens", "cached_tokens",
         "finish_reason")
    )  # fmt: skip
    return Row(
        index=index,
        status=FAILED,
        reason="worker_died",
        detail="the load client died before this request ended",
        due_ns=plan.due_ns[index] if plan.due_ns else None,
        prompt_tokens_asked=plan.prompt_tokens[k],
        output_tokens_asked=plan.output_tokens[k],
        exact=False,
        chunk_ns=b"",
        empty_chunks=0,
        resent=0,
        **nothing,
    )
