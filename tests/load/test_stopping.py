"""A load that is ended from outside: nothing new is sent, what runs may end, and every request has a row."""

import time

import numpy as np
import pytest

from pytest_inferforge.testing.timetable import Timetable

SLOW = Timetable(ttft_s=0.4, gap_s=0.01)


def after(n):
    """Enough as soon as n requests have ended; what it was told."""
    told = []

    def enough(new, progress):
        told.append((len(new), progress.phase))
        return sum(k for k, _ in told) >= n

    return enough, told


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize(
    "arrivals", ["poisson 60 req/s", "constant 60 req/s", "closed 12", "closed 12 ramp 2 s"]
)
def test_what_runs_ends_in_order_and_nothing_new_is_sent(build, drive_timetable, arrivals, workers):
    enough, told = after(20)
    began = time.monotonic()
    drive, seen = drive_timetable(
        build(arrivals=arrivals, requests=1200, warmup=2), SLOW, workers, enough=enough
    )
    assert time.monotonic() - began < 15
    table = drive.table
    assert drive.stopped
    assert 20 <= len(table) < 600
    assert table.ok.all()
    assert drive.lost == 0
    assert drive.fault is None
    assert len(seen) == len(table) + drive.warmup
    assert sum(k for k, _ in told) <= len(table)
    assert all(phase == "load" for _, phase in told)


def test_a_loop_that_ends_by_time_may_end_before(build, drive_timetable):
    enough, _ = after(20)
    drive, _ = drive_timetable(
        build(arrivals="closed 8", duration="60 s", requests=None), SLOW, enough=enough
    )
    assert drive.stopped
    assert drive.table.ok.all()
    assert np.nanmax(drive.table.times["end_s"]) < 10


def test_a_load_of_which_it_is_never_enough_is_driven_to_its_end(build, drive_timetable):
    enough, told = after(10**9)
    drive, _ = drive_timetable(build(arrivals="poisson 60 req/s", requests=90), SLOW, enough=enough)
    assert (drive.stopped, len(drive.table)) == (False, 90)
    assert len(told) >= 2


def test_rows_are_told_once_each(build, drive_timetable):
    seen = []

    def enough(new, _progress):
        seen.extend(new.index.tolist())
        return False

    drive_timetable(build(arrivals="poisson 100 req/s", requests=200), enough=enough)
    assert len(seen) == len(set(seen)) > 50
