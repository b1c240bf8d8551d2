"""The client's own error, known in the same run: a small edition of `benchmarks/fidelity.py`."""

import random
from itertools import accumulate

import numpy as np

from pytest_inferforge import measures
from pytest_inferforge.testing.timetable import Timetable

RATE_PER_S = 100.0
SECONDS = 3.0
TOKENS = 64
LIMIT_S = 0.001
TRIES = 6  # other programs, or the host of a virtual machine, may hold both cores for a while


def test_the_client_is_off_by_at_most_a_millisecond(drive_timetable):
    rng = random.Random(1)
    due_s = tuple(accumulate(rng.expovariate(RATE_PER_S) for _ in range(round(RATE_PER_S * SECONDS))))
    p99_s = []
    for _ in range(TRIES):
        drive, true = drive_timetable(Timetable(), due_s=due_s, output_tokens=TOKENS, warmup=16)
        table = drive.table
        assert table.request_counts().completed == len(due_s)
        ids = table.texts["id"]
        error_s = np.abs(measures.values(table, "ttft_service_s") - [true[name].ttft_s for name in ids])
        assert np.all(measures.values(table, "schedule_lag_s") >= 0)
        p99_s.append(measures.statistic(error_s, "p99"))
        if p99_s[-1] <= LIMIT_S:
            break
    assert min(p99_s) <= LIMIT_S
