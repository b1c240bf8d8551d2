"""What the server sees of a Poisson process, however many workers make it."""

import numpy as np
import pytest
from scipy import stats

from pytest_inferforge.loadgen.bodies import Columns, RequestWriter
from pytest_inferforge.loadgen.planning import make_plan
from pytest_inferforge.testing.timetable import Timetable
from pytest_inferforge.validity import dispersion

RATE_PER_S = 250.0
REQUESTS = 2000
TIMES = Timetable(ttft_s=0.01, gap_s=0.002)


def received(true):
    """When each request reached the server, in the order of the schedule."""
    return np.array([true[f"t-{k}"].received_s for k in range(len(true))])


def check_poisson(when_s):
    """That of 2 000 arrivals; not that of a machine that stood still for 50 ms, which is tried again."""
    gaps = np.diff(np.sort(when_s))
    assert stats.kstest(gaps, stats.expon(scale=1 / RATE_PER_S).cdf).pvalue > 0.001
    assert dispersion(np.sort(when_s)) == pytest.approx(1.0, abs=0.2)  # 500 windows: sd 0.06


@pytest.fixture(scope="module")
def poisson(build):
    return build(arrivals=f"poisson {RATE_PER_S} req/s", requests=REQUESTS, output_tokens=2, seed=5)


TRIES = 4  # other guests of a shared machine may take its processors away for some 50 ms


def check_the_process(drive, poisson):
    for attempt in range(1, TRIES + 1):
        found, true = drive()
        assert found.fault is None
        assert len(true) == REQUESTS
        when_s = received(true)
        try:
            check_poisson(when_s)
            # each request at the time that the one schedule gave it
            late_s = when_s - when_s[0] - (poisson.due_s - poisson.due_s[0])
            assert np.median(np.abs(late_s)) < 0.005
        except AssertionError:
            if attempt == TRIES:
                raise
            continue
        return found
    raise AssertionError("never tried")


@pytest.mark.parametrize("workers", [1, 2, 8])
def test_the_server_sees_the_same_poisson_process_of_any_number_of_workers(workers, poisson, drive_timetable):
    check_the_process(lambda: drive_timetable(poisson, TIMES, str(workers)), poisson)


def test_ray_actors_on_two_nodes_make_the_same_process(ray_cluster, poisson, drive_timetable):
    found = check_the_process(
        lambda: drive_timetable(poisson, TIMES, f"ray:2@{ray_cluster.address}"), poisson
    )
    assert len({place.partition(" on node ")[2] for place in found.places}) == 2


def test_every_number_of_workers_executes_the_one_schedule(poisson, target):
    """The shares of any number of workers are the same requests, each once."""
    whole = shares(poisson, target, 1)
    for workers in (2, 8):
        assert shares(poisson, target, workers) == whole


def shares(poisson, target, workers):
    found = {}
    for k in range(workers):
        plan = make_plan(
            poisson,
            target("http://h"),
            id_prefix="t",
            salt="s",
            connect_lead_s=0.05,
            worker=k,
            workers=workers,
        )
        columns, writer = Columns(plan.items), RequestWriter(plan, None)
        for i in range(len(columns)):
            asked = writer.opening(columns, i, columns.index[i])
            assert columns.index[i] not in found
            found[columns.index[i]] = (columns.due_ns[i], writer.body(0, asked, columns.output_tokens[i]))
    return found
