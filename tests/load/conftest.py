"""A workload driven against the timetable server, and what the server saw of it."""

import asyncio
import itertools
import os
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from pytest_inferforge.dialects import DIALECTS
from pytest_inferforge.loadgen import crew, fleet
from pytest_inferforge.loadgen.fleet import Drive
from pytest_inferforge.loadgen.plan import Plan
from pytest_inferforge.loadgen.planning import Target
from pytest_inferforge.options import LoadOptions
from pytest_inferforge.testing.timetable import Timetable, TimetableServer, TrueTimes
from pytest_inferforge.words import WORDS
from pytest_inferforge.workload import arguments, schedule
from pytest_inferforge.workload.prompts import WordBank
from pytest_inferforge.workload.schedule import Schedule

OPTIONS = LoadOptions()
TEMPLATE_TOKENS = 3  # of the timetable server's chat

Answer = Callable[[socket.socket], Coroutine[Any, Any, None]]


@pytest.fixture(scope="session")
def build() -> Callable[..., Schedule]:
    """The schedule of a workload's arguments."""

    def build(folder: Path | None = None, **given: Any) -> Schedule:
        given = {"prompt_tokens": 16, "output_tokens": 4, "warmup": 0} | given
        workload = arguments.from_arguments(
            {k: v for k, v in given.items() if v is not None}, OPTIONS, folder=folder
        )
        return schedule.build(workload, warmup_waves=2, warmup_max_concurrency=32)

    return build


@pytest.fixture
def target() -> Callable[[str], Target]:
    """A timetable server as a target."""

    def target(url: str) -> Target:
        return Target(
            base_url=url,
            model="timetable",
            dialect=DIALECTS["vllm"],
            banks={
                "completions": WordBank(words=WORDS, overhead_tokens=1),
                "chat": WordBank(words=WORDS, overhead_tokens=1 + TEMPLATE_TOKENS),
            },
        )

    return target


@pytest.fixture
def drive(tmp_path: Path, target: Callable[[str], Target]) -> Callable[..., Drive]:
    """Drive a schedule at a server that runs."""

    def drive(drawn: Schedule, url: str, workers: str = "1", **more: Any) -> Drive:
        asked = crew.parse(workers)
        return crew.drive(
            asked,
            asked.count or 1,
            drawn,
            target(url),
            api_key=None,
            folder=tmp_path,
            name="load",
            id_prefix="t",
            salt="a salt",
            connect_lead_s=OPTIONS.connect_lead_s,
            **more,
        )

    return drive


@pytest.fixture
def drive_timetable(
    drive: Callable[..., Drive],
) -> Callable[..., tuple[Drive, Mapping[str, TrueTimes]]]:
    """Drive a schedule at a timetable server of its own; what came back, and what really happened."""

    def run(
        drawn: Schedule, timetable: Timetable | None = None, workers: str = "1", **more: Any
    ) -> tuple[Drive, Mapping[str, TrueTimes]]:
        with TimetableServer(timetable or Timetable(ttft_s=0.01, gap_s=0.002)) as server:
            found = drive(drawn, server.url, workers, **more)
            return found, server.true_times()

    return run


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the machine that runs the tests are none of their business."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)


@pytest.fixture
def drive_plan(load_plan: Callable[..., Plan], tmp_path: Path) -> Callable[..., Drive]:
    """Drive a plan of `load_plan` at a server that runs."""
    number = itertools.count()

    def drive_plan(url: str, **plan: Any) -> Drive:
        return fleet.drive(
            [load_plan(url, **plan)], api_key=None, folder=tmp_path, name=f"worker-{next(number)}"
        )

    return drive_plan


@pytest.fixture
def serve() -> Iterator[Callable[[Answer], int]]:
    """Starts a server on a port of 127.0.0.1: a coroutine function that gets each accepted socket."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    running: set[asyncio.Task[None]] = set()
    listeners: list[socket.socket] = []

    def keep(coroutine: Coroutine[Any, Any, None]) -> None:
        task = loop.create_task(coroutine)
        running.add(task)
        task.add_done_callback(running.discard)

    async def accept(listener: socket.socket, answer: Answer) -> None:
        while True:
            sock, _ = await loop.sock_accept(listener)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            keep(answer(sock))

    async def stop() -> None:
        left = [task for task in running if task is not asyncio.current_task()]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    def serve(answer: Answer) -> int:
        listeners.append(socket.create_server(("127.0.0.1", 0)))
        listeners[-1].setblocking(False)
        loop.call_soon_threadsafe(keep, accept(listeners[-1], answer))
        return listeners[-1].getsockname()[1]

    yield serve
    asyncio.run_coroutine_threadsafe(stop(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()
    for listener in listeners:
        listener.close()


class RayCluster:
    """Two nodes on this machine, each with a processor of its own as far as Ray knows."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        self._cluster = Cluster(
            initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False, **_LOOPBACK}
        )
        self._cluster.add_node(num_cpus=1, **_LOOPBACK)
        self._cluster.wait_for_nodes()
        self.address = self._cluster.address  # Ray takes 127.0.0.1 for this machine's outer address

    def nodes(self) -> list[str]:
        """Ids of the nodes that live."""
        import ray

        return [node["NodeID"] for node in ray.nodes() if node["Alive"]]

    def close(self) -> None:
        import ray

        ray.shutdown()
        self._cluster.shutdown()


_LOOPBACK = {"node_ip_address": "127.0.0.2", "object_store_memory": 100 << 20}


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[RayCluster]:
    pytest.importorskip("ray", reason="pip install ray")
    cluster = RayCluster()
    yield cluster
    cluster.close()
