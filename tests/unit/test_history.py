"""The history of a baseline: what is in a series, where it drifts and steps; what bisect is told."""

import math

import numpy as np
import pytest

from pytest_inferforge import gate
from pytest_inferforge.cli import history as command
from pytest_inferforge.options import JudgeOptions
from pytest_inferforge.records import (
    BootResult,
    Fingerprint,
    RequestCounts,
    SessionResult,
    TestResult,
)
from pytest_inferforge.report import history_lines

OPTIONS = JudgeOptions()
COUNTS = RequestCounts(issued=9, completed=9, failed=0, cancelled=0)
MEAN, RATE = "ttft_s.mean", "output_tok_per_s"


def session(day, value, *, metric=MEAN, accepted=True, cpu="A", nodeid="t.py::test_a"):
    boot = BootResult(boot=1, ready_s=None, requests=COUNTS, metrics={metric: float(value)})
    test = TestResult(nodeid=nodeid, fingerprint=Fingerprint(), gated=(metric,), boots=(boot,))
    return SessionResult(
        schema=1, id=f"s{day:02}", started_at=f"2026-{1 + day // 28:02}-{1 + day % 28:02}T00:00:00+00:00",
        version="0", seed=1, fingerprint=Fingerprint(hard={"cpu_model": cpu}), planned_boots=1,
        complete=True, accepted=accepted, tests=(test,), source={"commit": f"c{day:02}"},
    )  # fmt: skip


def sessions(values, **more):
    return [session(day, value, **more) for day, value in enumerate(values)]


def series(found, pinned=(), **more):
    (only,) = gate.series_of(found, pinned, OPTIONS, **more)
    return only


NOISE = np.random.default_rng(3).normal(0.0, 0.02, 60)


def test_a_steady_history_has_neither_drift_nor_steps():
    s = series(sessions(0.1 * np.exp(NOISE[:30])))
    assert (s.alarm, s.changes, len(s.moments), s.left_out) == (None, (), 30, 0)
    assert [m.z is None for m in s.moments] == [True] * 10 + [False] * 20
    assert s.reference == "the first accepted sessions, 10"


def test_a_slow_drift_is_seen_against_where_it_began():
    values = 0.1 * np.exp(NOISE[:40] + 0.003 * np.maximum(0, np.arange(40) - 10))
    s = series(sessions(values))
    assert 15 < int(s.alarm.id[1:]) < 40
    assert int(s.began.id[1:]) <= int(s.alarm.id[1:])
    # the same against sessions pinned later, when the drift was half done
    pinned = sessions(values)[25:31]
    later = series(sessions(values), pinned)
    assert later.reference == "pinned sessions, 6"
    assert all(m.z is None for m in later.moments[:31])


def test_a_step_names_the_first_bad_session():
    values = 0.1 * np.exp(NOISE[:30] + np.where(np.arange(30) >= 18, math.log(1.1), 0.0))
    s = series(sessions(values))
    (change,) = s.changes
    assert (change.first.id, change.worse) == ("s18", True)
    assert change.described.startswith("worse by 1")
    rates = series(sessions(1000 / values, metric=RATE))
    assert [(c.first.id, c.worse) for c in rates.changes] == [("s18", True)]
    better = series(sessions(1 / values))
    assert [(c.first.id, c.worse) for c in better.changes] == [("s18", False)]


def test_sessions_under_other_conditions_are_left_out_and_counted():
    s = series([session(0, 9.0, cpu="B"), *sessions([0.1, 0.1, 0.1])[1:]])
    assert (len(s.moments), s.left_out) == (2, 1)
    renamed = gate.series_of([session(0, 0.1, nodeid="t.py::test_b"), session(1, 0.1)], (), OPTIONS)
    assert [x.nodeid for x in renamed] == ["t.py::test_a", "t.py::test_b"]


def test_sessions_that_were_not_accepted_are_shown_but_are_no_reference():
    found = sessions([0.1, 0.1, 0.1, 0.1])
    red = session(4, 0.2, accepted=False)
    s = series([*found, red])
    assert len(s.moments) == 5
    assert s.moments[-1].z is None or s.moments[-1].z > 3


def test_what_a_person_reads():
    values = 0.1 * np.exp(NOISE[:30] + np.where(np.arange(30) >= 18, math.log(1.1), 0.0))
    lines = history_lines.lines([series(sessions(values))], OPTIONS.cusum_height)
    assert lines[0] == "t.py::test_a"
    assert "30 sessions" in lines[1]
    assert any("first bad session s18 (2026-01-19 c18)" in line for line in lines)
    assert any("DRIFT for the worse: alarm at" in line for line in lines)
    assert len(history_lines.sparkline([1.0, 2.0, 3.0])) == 3
    assert len(history_lines.sparkline(list(range(100)))) == 60


def c(verdict, *, ratio=1.0, metric=MEAN, margin=0.05):
    return {"verdict": verdict, "ratio": ratio, "metric": metric, "margin": margin}


def document(*comparisons, verdict="pass"):
    return {"comparisons": comparisons, "session": {"verdict": verdict, "exit_reason": "x"}}


@pytest.mark.parametrize(
    ("code", "content", "expected"),
    [
        (0, document(c("not_regressed"), c("inconclusive", ratio=1.01)), 0),
        (0, document(c("improved")), 0),
        (1, document(c("not_regressed"), c("regressed"), verdict="fail"), 1),
        (1, document(c("regressed"), verdict="error"), 1),
        (0, document(c("inconclusive", ratio=1.03)), 125),
        (0, document(c("inconclusive", ratio=0.97, metric=RATE)), 125),
        (0, document(c("inconclusive", ratio=1.03, metric=RATE)), 0),
        (0, document(c("no_baseline")), 125),
        (0, document(c("not_regressed"), c("incomparable", ratio=None)), 125),
        (0, document(), 125),
        (1, document(c("not_regressed"), verdict="fail"), 125),
        (1, document(c("not_regressed"), verdict="error"), 125),
        (2, document(c("not_regressed")), 125),
        (4, None, 125),
        (-9, None, 125),
    ],
)
def test_what_bisect_is_told(code, content, expected):
    verdict, why = command.told(code, content)
    assert verdict == expected
    assert why
