"""CPU time and memory, of real processes."""

import contextlib
import os
import subprocess
import sys
import time
from types import SimpleNamespace

import psutil
import pytest

from pytest_inferforge.telemetry import host
from pytest_inferforge.telemetry.host import Host, HostSample

BUSY = """
import sys, time
kept = bytearray(60_000_000)
while time.process_time() < float(sys.argv[1]):
    pass
print(flush=True)
sys.stdin.readline()
"""


@contextlib.contextmanager
def busy(cpu_s):
    """A child that has used so much CPU time, and waits."""
    child = subprocess.Popen(
        [sys.executable, "-c", BUSY, str(cpu_s)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def done(child):
    child.stdout.readline()


def test_the_cpu_time_and_memory_of_a_process_are_seen():
    with busy(0.5) as child:
        machine = Host(pids=lambda: [child.pid])
        first = machine.sample(0.0)
        done(child)
        last = machine.sample(1.0)
    assert first.server_cpu_s == 0.0
    assert 0.2 < last.server_cpu_s < 0.8
    assert last.ours_cpu_s >= last.server_cpu_s
    assert 60e6 < last.server_memory_bytes < 200e6
    assert last.pids == {child.pid}
    assert last.busy_s - first.busy_s > 0.1
    assert 0 < last.free_memory_bytes < psutil.virtual_memory().total


def test_what_an_ended_process_used_stays_and_one_that_came_counts_from_its_beginning():
    pids = []
    machine = Host(pids=lambda: list(pids), ours=tuple)
    assert machine.sample(0.0).server_memory_bytes is None
    with busy(0.2) as child:
        pids.append(child.pid)
        done(child)
        used = machine.sample(5.0).server_cpu_s
        assert 0.15 < used < 0.5
    gone = machine.sample(6.0)
    assert (gone.server_cpu_s, gone.server_memory_bytes) == (used, None)


def test_a_process_that_was_only_not_known_counts_for_no_more_than_could_be():
    pids = []
    machine = Host(pids=lambda: list(pids), ours=tuple)
    machine.sample(0.0)
    with busy(0.4) as child:
        done(child)
        pids.append(child.pid)
        assert machine.sample(0.001).server_cpu_s <= 0.001 * (os.cpu_count() or 1) + 1e-9


def test_ours_are_this_process_and_all_below_it():
    with busy(0.0) as child:
        assert {os.getpid(), child.pid} <= set(host.family())
    machine = Host(pids=tuple)
    machine.sample(0.0)
    until = time.process_time() + 0.2
    while time.process_time() < until:
        pass
    assert machine.sample(1.0).ours_cpu_s > 0.1


def machine_that_was(monkeypatch, **times):
    """A sample of a machine whose cores spent their time like this."""
    monkeypatch.setattr(psutil, "cpu_times", lambda: SimpleNamespace(_asdict=lambda: dict(times)))
    return Host(pids=tuple, ours=tuple).sample(0.0)


def test_a_system_that_knows_no_steal_does_not_tell_of_any(monkeypatch):
    sample = machine_that_was(monkeypatch, user=3.0, nice=1.0, system=2.0, idle=14.0)
    assert (sample.busy_s, sample.total_s, sample.steal_s) == (6.0, 20.0, None)


def test_guests_are_not_counted_twice(monkeypatch):
    sample = machine_that_was(
        monkeypatch, user=30.0, nice=2.0, system=4.0, idle=50.0, iowait=6.0, irq=1.0, softirq=1.0, steal=6.0,
        guest=20.0, guest_nice=1.0,
    )  # fmt: skip
    assert (sample.busy_s, sample.total_s, sample.steal_s) == (38.0, 100.0, 6.0)


def look(time_s, **seen):
    known = {
        "pids": frozenset({1}), "server_cpu_s": 0.0, "ours_cpu_s": 0.0, "server_memory_bytes": 100,
        "busy_s": 0.0, "total_s": 0.0, "steal_s": 0.0, "free_memory_bytes": 1000,
    }  # fmt: skip
    return HostSample(time_s=time_s, **(known | seen))


def test_the_busy_time_that_is_not_ours_is_foreign():
    first = look(10.0, server_cpu_s=3.0, ours_cpu_s=4.0, busy_s=100.0, total_s=400.0, steal_s=1.0)
    last = look(20.0, server_cpu_s=18.0, ours_cpu_s=21.0, busy_s=122.0, total_s=440.0, steal_s=3.0)
    assert host.metrics([first, look(15.0), last]) == pytest.approx(
        {
            "host_cpu_use_ratio": 22 / 40,
            "host_steal_ratio": 2 / 40,
            "server_cpu_cores": 1.5,
            "foreign_cpu_cores": (22 - 17) / 10,
        }
    )


def test_of_a_server_that_is_not_known_nothing_is_said():
    samples = [look(t, pids=frozenset(), busy_s=t, total_s=4 * t, steal_s=None) for t in (1.0, 2.0)]
    assert host.metrics(samples) == {"host_cpu_use_ratio": 0.25}


@pytest.mark.parametrize("samples", [[], [look(1.0)], [look(1.0), look(1.0)]])
def test_too_few_looks_tell_nothing(samples):
    assert host.metrics(samples) == {}


def test_peaks():
    samples = [
        look(0.0),
        look(1.0, server_memory_bytes=300, free_memory_bytes=800),
        look(2.0, server_memory_bytes=None),
    ]
    assert host.peaks(samples) == {"server_memory_bytes": 300.0, "host_free_memory_bytes": 800.0}
    assert host.peaks([look(0.0, server_memory_bytes=None)]) == {"host_free_memory_bytes": 1000.0}
    assert host.peaks([]) == {}
