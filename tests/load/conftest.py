"""A workload driven against the timetable server, and what the server saw of it."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from pytest_inferforge.dialects import DIALECTS
from pytest_inferforge.loadgen import crew
from pytest_inferforge.loadgen.fleet import Drive
from pytest_inferforge.loadgen.planning import Target
from pytest_inferforge.options import LoadOptions
from pytest_inferforge.testing.timetable import Timetable, TimetableServer, TrueTimes
from pytest_inferforge.words import WORDS
from pytest_inferforge.workload import arguments, schedule
from pytest_inferforge.workload.prompts import WordBank
from pytest_inferforge.workload.schedule import Schedule

OPTIONS = LoadOptions()
TEMPLATE_TOKENS = 3  # of the timetable server's chat


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
