"""Which missing test a new one may have been."""

import pytest

from pytest_inferforge.baselines import vanished
from pytest_inferforge.records import Fingerprint, SessionResult, TestResult


def made(nodeid, workload="w"):
    return TestResult(nodeid=nodeid, fingerprint=Fingerprint(hard={"workload": workload}), gated=(), boots=())


def session(*tests):
    return SessionResult(
        schema=1, id="s", started_at="2026-01-01T00:00:00+00:00", version="1", seed=1,
        fingerprint=Fingerprint(), planned_boots=1, complete=True, accepted=True,
        tests=tuple(made(t) if isinstance(t, str) else t for t in tests),
    )  # fmt: skip


def renamed(now, before):
    stored, current = session(*before), session(*now)
    here = {t.nodeid for t in current.tests}
    return vanished.renamed(current, [stored], [t for t in stored.tests if t.nodeid not in here])


@pytest.mark.parametrize(
    ("now", "before", "found"),
    [
        (["a.py::test_new"], ["a.py::test_old"], {"a.py::test_new": "a.py::test_old"}),
        (["b.py::test_chat"], ["a.py::test_chat"], {"b.py::test_chat": "a.py::test_chat"}),
        (["a.py::test_old", "a.py::test_new"], ["a.py::test_old"], {}),  # nothing is missing
        (["zz.py::test_summaries"], ["a.py::bulk"], {}),
        (["a.py::test_x"], ["a.py::test_x"], {}),
        (
            ["a.py::test_one_b", "a.py::test_two_b"],
            ["a.py::test_two", "a.py::test_one"],
            {"a.py::test_one_b": "a.py::test_one", "a.py::test_two_b": "a.py::test_two"},
        ),
        (["a.py::test_new1", "a.py::test_new2"], ["a.py::test_new"], {"a.py::test_new2": "a.py::test_new"}),
    ],
)
def test_a_missing_test_is_found_under_a_near_name_once(now, before, found):
    assert renamed(now, before) == found


def test_the_same_workload_counts_for_more_than_a_nearer_name():
    before = [made("a.py::test_chat_1", "other"), made("a.py::test_talk", "same")]
    assert renamed([made("a.py::test_chat", "same")], before) == {"a.py::test_chat": "a.py::test_talk"}


def test_a_test_that_an_older_session_holds_is_not_new():
    old, newest = session("a.py::test_b"), session("a.py::test_a")
    assert vanished.renamed(session("a.py::test_b"), [old, newest], newest.tests) == {}


def test_classes_of_a_missing_test_are_not_named_beside_it():
    tests = [made("a.py::test_x"), made("a.py::test_x::class=chat"), made("a.py::test_y::class=chat")]
    assert vanished.names(tests) == ("a.py::test_x", "a.py::test_y::class=chat")
