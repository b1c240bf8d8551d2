"""Workers that share one schedule: started together, begun at one moment, gathered into one table."""

from __future__ import annotations

import os
import queue
import sys
import threading
from dataclasses import dataclass
from time import monotonic_ns
from typing import TYPE_CHECKING, Protocol

import msgspec

from pytest_inferforge import processes
from pytest_inferforge.errors import MeasuringError
from pytest_inferforge.loadgen.gathering import Gathering, gather
from pytest_inferforge.loadgen.plan import Finish, Plan, Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path
    from typing import BinaryIO

    from pytest_inferforge.table import RequestTable

    OnProgress = Callable[[Progress], None]
    Enough = Callable[[RequestTable, Progress], bool]
    """Given the requests that ended since it was last asked: whether no more need to be sent."""

_GRACE_S = 1.0
_EXIT_S = 10.0  # from the end of its output to its exit
_SETTLE_NS = 30_000_000  # from the barrier to the origin, beside the lead of connections
_PHASES = ("warmup", "ready", "load", "drain")


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerCost:
    """What one worker took and how it did. Times in seconds, over its measured phase.

    `priority`: how urgently the system let it run: real-time, nice -10, normal. `loop_lag_s`: how late a
    timer of its loop was, p99 and largest. `memory_bytes`: (seconds from the origin, resident), in order.
    """

    cpu_s: float
    wall_s: float
    segments: int
    connections: int
    priority: str
    loop_lag_p99_s: float
    loop_lag_max_s: float
    memory_bytes: tuple[tuple[float, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drive:
    """What the workers brought back.

    `lost`: requests that were planned and have no row, because their worker died; they are in `table` as
    failures with the reason `worker_died`, and `fault` says who ended how (None: all in order).
    """

    table: RequestTable
    warmup: int
    warmup_failed: int
    warmup_reason: str | None
    started_at_unix_s: float
    workers: tuple[WorkerCost, ...]
    lost: int
    fault: str | None
    places: tuple[str, ...] = ()  # where each worker ran
    stopped: bool = False  # before all was sent that was planned, because it was enough

    @property
    def cpu_s(self) -> float:
        return sum(w.cpu_s for w in self.workers)

    @property
    def wall_s(self) -> float:
        return max((w.wall_s for w in self.workers), default=0.0)

    @property
    def cpu_share(self) -> float:
        """Of one core, of the worker that took most."""
        return max((w.cpu_s / w.wall_s for w in self.workers if w.wall_s), default=0.0)

    @property
    def connections(self) -> int:
        return sum(w.connections for w in self.workers)

    @property
    def segments(self) -> int:
        """How often bytes arrived."""
        return sum(w.segments for w in self.workers)


class Hand(Protocol):
    """A worker wherever it runs: `fleet.LocalHand`, or one on another machine."""

    plan: Plan
    where: str

    def progress(self) -> Iterator[Progress]:
        """What it says, until it ends; blocks."""
        ...

    def go(self, origin_ns: int) -> None:
        """Begin at that time of *this* process's monotonic clock."""
        ...

    def ended(self) -> str | None:
        """After `progress`: None: in order; else how it ended."""
        ...

    def rows(self) -> Path:
        """The file with its rows, on this machine."""
        ...

    def send_no_more(self) -> None:
        """Let end what runs, and begin nothing; after `go`."""
        ...

    def stop(self) -> None: ...


class LocalHand:
    """A worker process on this machine; its files go to `folder` under `name`."""

    def __init__(self, plan: Plan, *, api_key: str | None, folder: Path, name: str) -> None:
        self.plan = plan
        self.where = f"worker {plan.worker + 1} of {plan.workers}"
        self._plan_path, self._rows_path, self._go_path, self._stop_path, self.log_path = (
            folder / f"{name}.{end}" for end in ("plan", "rows", "go", "stop", "client.log")
        )
        self._plan_path.write_bytes(msgspec.msgpack.encode(plan))
        env = {**os.environ, "PYTHONHASHSEED": "0"}
        if api_key:
            env["INFERFORGE_WORKER_KEY"] = api_key
        argv = [sys.executable, "-m", "pytest_inferforge.loadgen.worker"]
        argv += [str(self._plan_path), str(self._rows_path), str(self._go_path), str(self._stop_path)]
        self._worker = processes.start(
            argv, env=env, log_path=self.log_path, grace_s=_GRACE_S, stdout_pipe=True
        )

    def progress(self) -> Iterator[Progress]:
        assert self._worker.stdout is not None
        for line in self._worker.stdout:
            if line.startswith(b"{"):
                yield msgspec.json.decode(line, type=Progress)

    def go(self, origin_ns: int) -> None:
        draft = self._go_path.with_suffix(".draft")
        draft.write_text(str(origin_ns))
        draft.replace(self._go_path)

    def send_no_more(self) -> None:
        self._stop_path.touch()

    def ended(self) -> str | None:
        code = self._worker.wait(_EXIT_S)
        return None if code == 0 else f"exit code {code}"

    def rows(self) -> Path:
        return self._rows_path

    @property
    def pid(self) -> int:
        return self._worker.pid

    def log_tail(self) -> str:
        return processes.tail(self.log_path)

    def stop(self) -> None:
        self._worker.stop()
        for path in (self._plan_path, self._go_path, self._stop_path):
            path.unlink(missing_ok=True)


def drive(
    plans: Sequence[Plan],
    *,
    api_key: str | None,
    folder: Path,
    name: str,
    classes: Sequence[str] = (),
    on_progress: OnProgress | None = None,
    enough: Enough | None = None,
) -> Drive:
    """Run one process on this machine for each plan; files go to `folder` under `name`.

    `enough` ends the sending; it is asked four times a second.

    Raises:
        MeasuringError: they ended before anything was measured.
    """
    folder.mkdir(parents=True, exist_ok=True)
    hands: list[LocalHand] = []
    try:
        for plan in plans:
            suffix = f"-w{plan.worker}" if len(plans) > 1 else ""
            hands.append(LocalHand(plan, api_key=api_key, folder=folder, name=f"{name}{suffix}"))
    except BaseException:
        for hand in hands:
            hand.stop()
        raise
    return conduct(hands, classes=classes, on_progress=on_progress, enough=enough)


def conduct(
    hands: Sequence[Hand],
    *,
    classes: Sequence[str] = (),
    on_progress: OnProgress | None = None,
    enough: Enough | None = None,
) -> Drive:
    """Let the workers begin together when all are ready; when one dies, end the others.

    `enough` needs hands whose rows are on this machine while they work.

    Raises:
        MeasuringError: they ended before anything was measured.
    """
    watch = None if enough is None else _Watch(hands, classes, enough)
    try:
        fault = _run(hands, on_progress, watch)
    finally:
        for hand in hands:
            hand.stop()
        if watch is not None:
            watch.close()
    gathering = Gathering()
    finishes, lost = [], 0
    for hand in hands:
        finish, missing = gather(hand.plan, hand.rows(), gathering)
        finishes += [finish] if finish else []
        lost += missing
    if not finishes and lost == len(gathering) and fault is not None:
        raise _nothing_measured(hands, fault)
    for hand in hands:
        hand.rows().unlink(missing_ok=True)
    reasons = [f.warmup_reason for f in finishes if f.warmup_reason]
    return Drive(
        table=gathering.table(hands[0].plan, classes=classes),
        warmup=sum(f.warmup for f in finishes),
        warmup_failed=sum(f.warmup_failed for f in finishes),
        warmup_reason=reasons[0] if reasons else None,
        started_at_unix_s=min((f.origin_unix_ns / 1e9 for f in finishes), default=0.0),
        workers=tuple(_cost(f) for f in finishes),
        lost=lost,
        fault=fault,
        places=tuple(hand.where for hand in hands),
        stopped=watch is not None and watch.stopped,
    )


class _Watch:
    """Reads what the hands have written so far, and tells them when it is enough."""

    def __init__(self, hands: Sequence[Hand], classes: Sequence[str], enough: Enough) -> None:
        self._hands = hands
        self._classes = classes
        self._enough = enough
        self._files: dict[int, BinaryIO] = {}
        self.stopped = False

    def look(self, progress: Progress) -> None:
        if self.stopped or progress.phase != "load":
            return
        new = Gathering()
        for k, hand in enumerate(self._hands):
            if k not in self._files and hand.rows().exists():
                self._files[k] = hand.rows().open("rb")
            if k in self._files:
                new.read(self._files[k])
        if self._enough(new.table(self._hands[0].plan, classes=self._classes), progress):
            self.stopped = True
            for hand in self._hands:
                hand.send_no_more()

    def close(self) -> None:
        for file in self._files.values():
            file.close()


def _run(hands: Sequence[Hand], on_progress: OnProgress | None, watch: _Watch | None) -> str | None:
    """Until all have ended; how the first one ended that did so too early."""
    said: queue.Queue[tuple[int, Progress | None]] = queue.Queue()

    def listen(k: int, hand: Hand) -> None:
        try:
            for progress in hand.progress():
                said.put((k, progress))
        finally:
            said.put((k, None))

    for k, hand in enumerate(hands):
        threading.Thread(target=listen, args=(k, hand), daemon=True).start()
    latest: dict[int, Progress] = {}
    running, gone = set(range(len(hands))), False
    while running:
        k, progress = said.get()
        if progress is None:
            running.discard(k)
            if (how := hands[k].ended()) is not None:
                return f"{hands[k].where}: {how}"
            continue
        latest[k] = progress
        if not gone and len(latest) == len(hands) and all(p.phase == "ready" for p in latest.values()):
            gone = True
            origin_ns = monotonic_ns() + _SETTLE_NS + max(h.plan.connect_lead_ns for h in hands)
            for hand in hands:
                hand.go(origin_ns)
        together = _together(list(latest.values()))
        if on_progress is not None:
            on_progress(together)
        if watch is not None and k == 0:  # of several workers each tells, one is time enough
            watch.look(together)
    return None


def _together(said: Sequence[Progress]) -> Progress:
    return Progress(
        phase=min((p.phase for p in said), key=_PHASES.index),
        sent=sum(p.sent for p in said),
        done=sum(p.done for p in said),
        failed=sum(p.failed for p in said),
        in_flight=sum(p.in_flight for p in said),
        elapsed_ns=max(p.elapsed_ns for p in said),
    )


def _cost(finish: Finish) -> WorkerCost:
    return WorkerCost(
        cpu_s=finish.cpu_ns / 1e9,
        wall_s=finish.wall_ns / 1e9,
        segments=finish.segments,
        connections=finish.connections,
        priority=finish.priority,
        loop_lag_p99_s=finish.loop_lag_p99_ns / 1e9,
        loop_lag_max_s=finish.loop_lag_max_ns / 1e9,
        memory_bytes=tuple((when / 1e9, size) for when, size in finish.rss_bytes),
    )


def _nothing_measured(hands: Sequence[Hand], fault: str) -> MeasuringError:
    tails = [hand.log_tail() for hand in hands if isinstance(hand, LocalHand)]
    logs = [str(hand.log_path) for hand in hands if isinstance(hand, LocalHand)]
    seen = "\n".join([fault, *(tail for tail in tails if tail)])
    return MeasuringError(
        "the load client ended before it measured anything",
        seen=seen,
        do=f"its whole log is {logs[0]}" if logs else "see the logs of the machines it ran on",
    )
