"""A client that cannot be believed ends in seconds, and says why."""

import os
import resource
import signal
import threading
import time

import psutil
import pytest

from pytest_inferforge import validity
from pytest_inferforge.loadgen import fleet
from pytest_inferforge.loadgen.planning import make_plan
from pytest_inferforge.options import LoadOptions
from pytest_inferforge.testing.timetable import Timetable, TimetableServer

OPTIONS = LoadOptions()
SOON_S = 8.0  # of a load of half a minute


@pytest.fixture
def server():
    with TimetableServer(Timetable(ttft_s=0.02, gap_s=0.005)) as running:
        yield running


@pytest.fixture
def hands(build, target, server, tmp_path):
    """Worker processes for a load of half a minute; all are ended."""
    made = []

    def start(workers, **given):
        drawn = build(**({"arrivals": "poisson 50 req/s", "duration": "30 s"} | given))
        for k in range(workers):
            plan = make_plan(
                drawn,
                target(server.url),
                id_prefix="t",
                salt="s",
                connect_lead_s=0.05,
                worker=k,
                workers=workers,
            )
            made.append(fleet.LocalHand(plan, api_key=None, folder=tmp_path, name=f"w{k}"))
        return made

    yield start
    for hand in made:
        hand.stop()


def reasons(drive):
    client = validity.Client(
        lost=drive.lost,
        fault=drive.fault,
        cpu_share=drive.cpu_share,
        loop_lag_p99_s=max((w.loop_lag_p99_s for w in drive.workers), default=0.0),
    )
    return validity.reasons_against(drive.table, client, limits={}, options=OPTIONS)


def later(seconds, act):
    timer = threading.Timer(seconds, act)
    timer.daemon = True
    timer.start()
    return timer


def test_a_worker_that_is_killed_ends_the_run_in_seconds(hands):
    two = hands(2)
    later(2.0, lambda: os.kill(two[1].pid, signal.SIGKILL))
    began = time.monotonic()
    drive = fleet.conduct(two)
    assert time.monotonic() - began < SOON_S
    found = reasons(drive)
    assert found[0].startswith("the load client died (worker 2 of 2: exit code -9); ")
    assert drive.lost > 1000
    assert drive.table.request_counts().completed > 0  # what had been measured is kept


def test_a_ray_actor_that_is_killed_ends_the_run_in_seconds(ray_cluster, build, drive, server):
    before = {p.pid for p in psutil.process_iter() if "loadgen.worker" in " ".join(_command(p))}
    killed = []

    def kill():
        for process in psutil.process_iter():
            if _command(process)[:1] and _command(process)[0].startswith("ray::Agent"):
                killed.append(process.pid)
                process.kill()
                return

    later(6.0, kill)
    began = time.monotonic()
    found = drive(
        build(arrivals="poisson 50 req/s", duration="40 s"), server.url, f"ray:2@{ray_cluster.address}"
    )
    assert killed
    assert time.monotonic() - began < 30
    (said, *_) = reasons(found)
    assert "its Ray actor was lost" in said
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        left = {p.pid for p in psutil.process_iter() if "loadgen.worker" in " ".join(_command(p))} - before
        if not left:
            break
        time.sleep(0.2)
    assert not left  # the actor's worker does not outlive it


def _command(process):
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def test_a_client_without_file_descriptors_is_not_the_servers_fault(hands):
    (one,) = hands(1, arrivals="burst 200", duration=None)
    resource.prlimit(one.pid, resource.RLIMIT_NOFILE, (60, 60))
    drive = fleet.conduct([one])
    assert drive.table.failures()["no_descriptors"] > 50
    assert any("this machine ran out of file descriptors" in reason for reason in reasons(drive))


def test_a_machine_that_is_too_slow_is_found_out(hands):
    (one,) = hands(1, duration="4 s")
    over = threading.Event()

    def hold_up():
        while not over.wait(0.05):
            os.kill(one.pid, signal.SIGSTOP)
            time.sleep(0.05)
            os.kill(one.pid, signal.SIGCONT)

    later(1.0, hold_up)
    try:
        drive = fleet.conduct([one])
    finally:
        over.set()
    found = " ".join(reasons(drive))
    assert "the client was late: schedule lag p99 " in found
    assert "a load worker was stalled: its timers were late by " in found


def test_without_a_cluster_the_way_out_is_said(build, drive, server):
    from pytest_inferforge.errors import MeasuringError

    pytest.importorskip("ray", reason="pip install ray")
    with pytest.raises(MeasuringError) as error:
        drive(build(arrivals="burst 2"), server.url, "ray:2@127.0.0.9:6399")
    assert error.value.what == "there is no Ray cluster there"
    assert "ray start --head" in error.value.do
