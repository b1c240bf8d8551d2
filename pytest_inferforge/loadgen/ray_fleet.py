"""The same workers on many machines: a Ray actor on each node starts one as a process of its own.

The actor only starts the process, tells how far it is and hands over its rows, so that nothing of Ray runs
beside the timed path. Clocks: the offset of each node's monotonic clock is taken from the quickest of some
round trips (Cristian 1989), so all begin at one moment, to half of that round trip.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from time import monotonic_ns
from typing import TYPE_CHECKING, Any

import msgspec

from pytest_inferforge.errors import MeasuringError, UsageError
from pytest_inferforge.loadgen import fleet
from pytest_inferforge.loadgen.plan import Plan, Progress

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_inferforge.loadgen.fleet import Drive, OnProgress

_CONNECT_S = 5.0
_READY_S = 60.0  # for the cluster to place an actor
_ANSWER_S = 20.0  # for an actor to answer while it drives
_POLL_S = 0.25
_ROUND_TRIPS = 15
_PIECE_BYTES = 4 << 20


class Agent:
    """What runs on a node: one worker process, and what it said since it was last asked."""

    def __init__(self, plan: bytes, api_key: str | None, name: str) -> None:
        import queue
        import tempfile
        import threading

        self._folder = tempfile.TemporaryDirectory(prefix="inferforge-")
        self._hand = fleet.LocalHand(
            msgspec.msgpack.decode(plan, type=Plan),
            api_key=api_key,
            folder=Path(self._folder.name),
            name=name,
        )
        self._said: queue.SimpleQueue[Progress | None] = queue.SimpleQueue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        try:
            for progress in self._hand.progress():
                self._said.put(progress)
        finally:
            self._said.put(None)

    def node(self) -> str:
        """Where this runs, as Ray calls it."""
        import ray

        return str(ray.get_runtime_context().get_node_id())

    def clock_ns(self) -> int:
        """The node's monotonic clock."""
        return monotonic_ns()

    def pids(self) -> tuple[int, int]:
        """Of the actor and of its worker."""
        return os.getpid(), self._hand.pid

    def poll(self) -> tuple[list[bytes], bool, str | None]:
        """(what it said since, whether it has ended, how: None: in order)."""
        found: list[bytes] = []
        while not self._said.empty():
            progress = self._said.get()
            if progress is None:
                return found, True, self._hand.ended()
            found.append(msgspec.json.encode(progress))
        return found, False, None

    def go(self, origin_ns: int) -> None:
        self._hand.go(origin_ns)

    def rows(self, offset: int, size: int) -> bytes:
        """A piece of the file of rows; empty behind its end."""
        try:
            with self._hand.rows().open("rb") as file:
                file.seek(offset)
                return file.read(size)
        except FileNotFoundError:
            return b""

    def log_tail(self) -> str:
        return self._hand.log_tail()

    def stop(self) -> None:
        self._hand.stop()
        self._folder.cleanup()


@dataclass(slots=True)
class RayHand:
    """A worker behind an actor; its rows come to `path` on this machine."""

    plan: Plan
    where: str
    actor: Any
    path: Path
    offset_ns: int = 0  # the node's clock less ours
    clock_error_s: float = 0.0
    _how: str | None = None

    def synchronize(self) -> None:
        """Compare clocks: the quickest of some round trips tells."""
        best = 1 << 62
        for _ in range(_ROUND_TRIPS):
            before = monotonic_ns()
            there = self._ask("clock_ns")
            after = monotonic_ns()
            if after - before < best:
                best = after - before
                self.offset_ns = there - (before + after) // 2
        self.clock_error_s = best / 2e9

    def progress(self) -> Iterator[Progress]:
        import ray

        while True:
            try:
                said, over, how = self._ask("poll")
            except (ray.exceptions.RayError, TimeoutError) as error:
                self._how = f"its Ray actor was lost: {type(error).__name__}"
                return
            for line in said:
                yield msgspec.json.decode(line, type=Progress)
            if over:
                self._how = how
                return
            time.sleep(_POLL_S if not said or said[-1].find(b'"ready"') < 0 else 0.02)

    def go(self, origin_ns: int) -> None:
        self.actor.go.remote(origin_ns + self.offset_ns)

    def ended(self) -> str | None:
        return self._how

    def rows(self) -> Path:
        return self.path

    def send_no_more(self) -> None:
        raise NotImplementedError("a Ray worker's rows are not seen before it ends")

    def stop(self) -> None:
        """Fetch what it has, then end it."""
        import ray

        with contextlib.suppress(ray.exceptions.RayError, TimeoutError):
            self._fetch()
            self._ask("stop")
        ray.kill(self.actor)

    def _fetch(self) -> None:
        with self.path.open("wb") as file:
            while piece := self._ask("rows", file.tell(), _PIECE_BYTES):
                file.write(piece)

    def _ask(self, what: str, *arguments: object) -> Any:
        import ray

        return ray.get(getattr(self.actor, what).remote(*arguments), timeout=_ANSWER_S)


def drive(
    plans: Sequence[Plan],
    *,
    address: str | None,
    api_key: str | None,
    folder: Path,
    name: str,
    classes: Sequence[str] = (),
    on_progress: OnProgress | None = None,
) -> Drive:
    """Run each plan on a node of the cluster, as evenly as Ray spreads them.

    Raises:
        UsageError: Ray is not installed.
        MeasuringError: no cluster there, too few processors in it, or nothing was measured.
    """
    ray = _connected(address)
    folder.mkdir(parents=True, exist_ok=True)
    remote = ray.remote(num_cpus=1, scheduling_strategy="SPREAD", max_restarts=0, max_concurrency=2)(Agent)
    actors = [
        remote.remote(msgspec.msgpack.encode(plan), api_key, f"{name}-w{plan.worker}") for plan in plans
    ]
    hands = [
        RayHand(
            plan=plan,
            where=f"Ray worker {plan.worker + 1} of {plan.workers}",
            actor=actor,
            path=folder / f"{name}-w{plan.worker}.rows",
        )
        for plan, actor in zip(plans, actors, strict=True)
    ]
    try:
        nodes = ray.get([actor.node.remote() for actor in actors], timeout=_READY_S)
        for hand, node in zip(hands, nodes, strict=True):
            hand.where += f" on node {node}"
            hand.synchronize()
    except (ray.exceptions.RayError, TimeoutError) as error:
        for actor in actors:
            ray.kill(actor)
        raise MeasuringError(
            f"Ray did not start {len(plans)} workers in {_READY_S:g} s",
            seen=f"{type(error).__name__}: {error}"[:500],
            do=f"each worker takes a CPU, and the cluster has {ray.cluster_resources().get('CPU', 0):g}",
        ) from error
    return fleet.conduct(hands, classes=classes, on_progress=on_progress)


def _connected(address: str | None) -> Any:
    try:
        import ray
    except ImportError as error:
        raise UsageError(
            "Ray is not installed", seen="--infer-workers=ray:...", do='pip install "pytest-inferforge[ray]"'
        ) from error
    if ray.is_initialized():
        if address in (None, ray.get_runtime_context().gcs_address):
            return ray
        ray.shutdown()
    try:
        where = _reachable(address) if address else {}
        ray.init(address=address or "auto", log_to_driver=False, configure_logging=False, **where)
    except (OSError, ValueError, RuntimeError) as error:
        raise MeasuringError(
            "there is no Ray cluster there",
            seen=f"{address or 'no address given'}: {error}"[:500],
            do="start one with `ray start --head`, or give its address: ray:N@HOST:PORT",
        ) from error
    return ray


def _reachable(address: str) -> dict[str, Any]:
    """Ask the address itself first: Ray would try for minutes. What else `ray.init` must be told for it.

    On Linux Ray takes 127.0.0.1 for this machine's own address; the rest of 127.0.0.0/8 it leaves as it is.

    Raises:
        OSError: nobody listens there.
    """
    ray: Any = importlib.import_module("ray")
    host, _, port = address.rpartition(":")
    loopback = host.startswith("127.") and host != "127.0.0.1"
    asked = ray.util.get_node_ip_address() if host in ("127.0.0.1", "localhost") else host
    socket.create_connection((asked, int(port)), timeout=_CONNECT_S).close()
    return {"_node_ip_address": host} if loopback else {}
