"""Which stored evaluation a task is paired with."""

from dataclasses import replace

import pytest

from pytest_inferforge.gate.stored_quality import judge_stored, stored_quality, unpaired
from pytest_inferforge.options import JudgeOptions
from pytest_inferforge.outcomes import Outcomes
from pytest_inferforge.records import Fingerprint, TestResult

NODEID = "test_a.py::test_q"


def outcomes(wrong=20, n=200, task="small", **more):
    return Outcomes(
        task=task, metric="acc", filter="none", higher_is_better=True,
        keys=tuple(f"k{k}" for k in range(n)), scores=tuple(float(k >= wrong) for k in range(n)), **more,
    )  # fmt: skip


@pytest.fixture
def session(make_session):
    def make(id_, *quality, day=1, identity=None, hard=None, test_hard=None, **fields):
        test = TestResult(
            nodeid=NODEID,
            fingerprint=Fingerprint(identity=identity or {"model": "m"}, hard=test_hard or {}),
            gated=(),
            boots=(),
            quality=quality,
        )
        return replace(make_session(id_, day=day, hard=hard, **fields), tests=(test,))

    return make


def found(current, *reference, under_test=frozenset()):
    return stored_quality(current, current.tests[0], reference, under_test)


def test_the_newest_accepted_session_and_the_one_before_it(session):
    now = session("now", outcomes(), day=9)
    old = [session(f"s{day}", outcomes(day), day=day) for day in (1, 2, 3)]
    red = session("red", outcomes(99), day=4, accepted=False)
    without = session("none", day=5)
    got = found(now, *old, red, without, now)
    assert (got.session, got.refused) == ("s3", "")
    assert got.outcomes["small"].value == outcomes(3).value
    assert got.before["small"].value == outcomes(2).value


def test_alone_it_has_none_before(session):
    assert found(session("now", outcomes()), session("s1", outcomes())).before is None
    assert found(session("now", outcomes())) is None


def test_another_model_is_refused_unless_it_is_under_test(session):
    now = session("now", outcomes(), day=9)
    other = session("s1", outcomes(), identity={"model": "n"})
    assert "model: n -> m" in found(now, other).refused
    assert found(now, other, under_test=frozenset({"model"})).refused == ""


def test_what_is_asked_does_not_depend_on_the_hardware_or_the_load(session):
    now = session("now", outcomes(), day=9, test_hard={"cpu_model": "a", "workload": "x"})
    there = session("s1", outcomes(), test_hard={"cpu_model": "b", "workload": "y"})
    assert found(now, there).refused == ""
    key = session("s2", outcomes(), hard={"gpu": "H100"})  # said by --infer-key: it must be the same
    assert "gpu" in found(now, key).refused


def test_only_comparable_sessions_may_stand_before(session):
    now = session("now", outcomes(), day=9)
    alien = session("s1", outcomes(1), day=1, identity={"model": "n"})
    mine = session("s2", outcomes(2), day=2)
    assert found(now, alien, mine).before is None


def test_what_is_not_paired_says_why(session):
    now = session("now", outcomes(), outcomes(task="other"), day=9)
    none = unpaired(now.tests[0], None, reference_name="baseline:main")
    assert [(r.task, r.verdict, r.n, r.value) for r in none] == [
        ("small", "no_baseline", 200, 0.9),
        ("other", "no_baseline", 200, 0.9),
    ]
    refused = found(now, session("s1", outcomes(), identity={"model": "n"}))
    (first, _) = unpaired(now.tests[0], refused, reference_name="baseline:main")
    assert (first.verdict, first.reason) == ("incomparable", refused.refused)


def judged(now, *reference):
    return {
        r.task: r
        for r in judge_stored(now, reference, name="main", options=JudgeOptions(), under_test=frozenset())
    }


def test_stored_sessions_are_judged_by_one_boot_and_say_so(session):
    before = session("s1", outcomes(20), outcomes(20, task="other"), day=1)
    results = judged(session("now", outcomes(40), outcomes(20, task="other"), day=9), before)
    assert results["small"].verdict == "regressed"
    assert results["small"].reason.endswith("by one boot, none could be asked a second time")
    assert results["small"].reference == "baseline:main, session s1"
    assert results["other"].verdict == "not_regressed"
    assert results["small"].p_adjusted == pytest.approx(2 * results["small"].p)


def test_the_margin_is_the_one_that_the_test_asked_for(session):
    wide = replace(outcomes(40), margin=0.2)
    assert (
        judged(session("now", wide, day=9), session("s1", outcomes(20)))["small"].verdict == "not_regressed"
    )


def test_a_task_that_is_new_has_no_baseline(session):
    results = judged(session("now", outcomes(task="new"), day=9), session("s1", outcomes()))
    assert results["new"].verdict == "no_baseline"
    assert "has no evaluation of this task" in results["new"].reason
