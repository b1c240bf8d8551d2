"""The line that lives while load runs."""

from types import SimpleNamespace

import pytest

from pytest_inferforge.loadgen.plan import Progress
from pytest_inferforge.pytest_plugin.progress import line


def schedule(requests, duration_s=None):
    return SimpleNamespace(workload=SimpleNamespace(expected_requests=requests, duration_s=duration_s))


def progress(**fields):
    return Progress(
        **{
            "phase": "load",
            "sent": 130,
            "done": 118,
            "failed": 2,
            "in_flight": 10,
            "elapsed_ns": 14_000_000_000,
            **fields,
        }
    )


def test_with_a_bar():
    shown = line(progress(), schedule(400), bar=10)
    assert shown == "  load   [###.......] 120/400 requests, 10 in flight, 2 failed, 14 s"


def test_without_room_for_a_bar():
    assert line(progress(failed=0), schedule(400), bar=0) == "  load   118/400 requests, 10 in flight, 14 s"


@pytest.mark.parametrize(("elapsed_s", "full"), [(0, 0), (30, 5), (60, 10), (90, 10)])
def test_a_run_that_ends_by_time(elapsed_s, full):
    shown = line(progress(elapsed_ns=elapsed_s * 10**9), schedule(None, 60.0), bar=10)
    assert f"[{'#' * full}{'.' * (10 - full)}] 120 requests" in shown
