"""What may go, which session is meant, and in what two differ: literals in, values out."""

import datetime as dt
import math

import pytest

from pytest_inferforge.baselines import keeping
from pytest_inferforge.errors import UsageError
from pytest_inferforge.records import RunVerdict

NOW = dt.datetime(2026, 2, 1, tzinfo=dt.UTC)


def removable(sessions, *, keep, pinned=(), older_than_s=None):
    found = keeping.removable(sessions, pinned=pinned, keep=keep, older_than_s=older_than_s, now=NOW)
    return [s.id for s in found]


@pytest.fixture
def five(make_session):
    return [make_session(f"s{k}", day=k, complete=k < 4, accepted=k != 2) for k in range(1, 6)]


@pytest.mark.parametrize(
    ("keep", "pinned", "gone"),
    [
        (1, (), ["s1", "s2", "s4"]),  # s3 is the newest complete one
        (2, (), ["s1", "s2"]),
        (3, (), ["s1", "s2"]),
        (4, (), []),
        (9, (), []),
        (2, ("s1",), ["s2"]),
    ],
)
def test_the_newest_accepted_ones_stay_and_so_does_what_is_pinned(five, keep, pinned, gone):
    assert removable(five, keep=keep, pinned=pinned) == gone


def test_what_is_younger_than_an_age_stays(five):
    day = 86_400.0
    assert removable(five, keep=1, older_than_s=29 * day) == ["s1", "s2"]
    assert removable(five, keep=1, older_than_s=40 * day) == []


@pytest.mark.parametrize(("text", "seconds"), [("90d", 7_776_000.0), ("1.5 h", 5400.0), ("2w", 1_209_600.0)])
def test_ages(text, seconds):
    assert keeping.age_s(text) == seconds


@pytest.mark.parametrize("text", ["", "90", "d", "-1d", "90 days ago", "1e9d"])
def test_no_ages(text):
    with pytest.raises(UsageError, match="no age"):
        keeping.age_s(text)


def test_a_session_is_found_by_the_beginning_of_its_id(make_session):
    sessions = [make_session("20260101T0000-aa"), make_session("20260101T0001-bb"), make_session("x")]
    assert keeping.find(sessions, "20260101T0001", "main").id == "20260101T0001-bb"
    assert keeping.find([*sessions, make_session("xy")], "x", "main").id == "x"  # exactly that one
    with pytest.raises(UsageError, match="more than one"):
        keeping.find(sessions, "2026", "main")


def test_differences_name_each_key_once_with_its_tests(make_session):
    metrics = {"a::x": {"tpot_s.mean": 1.0}, "a::y": {"tpot_s.mean": 1.0}}
    one = make_session("one", tests=metrics, hard={"gpu": "H100"}, soft={"driver": "1"})
    two = make_session("two", tests=metrics | {"a::z": {}}, hard={"gpu": "L4"}, soft={"driver": "1"})
    found = keeping.difference(one, two)
    assert [(c.kind, c.key, c.before, c.after, c.tests) for c in found.changes] == [
        ("hard", "gpu", "H100", "L4", ("a::x", "a::y"))
    ]
    assert (found.only_first, found.only_second) == ((), ("a::z",))


@pytest.mark.parametrize(
    ("first", "second", "ratio"), [(2.0, 3.0, 1.5), (0.0, 1.0, None), (math.inf, 1.0, None)]
)
def test_a_ratio_is_there_or_is_none(make_session, first, second, ratio):
    one, two = (make_session(tests={"t": {"tpot_s.mean": v}}) for v in (first, second))
    (pair,) = keeping.difference(one, two).pairs
    assert pair.ratio == ratio


def test_the_value_of_a_session_is_the_mean_of_its_planned_valid_boots(make_session):
    import dataclasses

    session = make_session(tests={"t": {"tpot_s.mean": 1.0}}, planned_boots=3)
    (test,) = session.tests
    (boot,) = test.boots
    boots = [
        dataclasses.replace(boot, boot=k, metrics={"tpot_s.mean": v}, verdict=verdict)
        for k, v, verdict in (
            (1, 1.0, RunVerdict.VALID), (2, 9.0, RunVerdict.INVALID), (3, 3.0, RunVerdict.VALID),
            (4, 9.0, RunVerdict.VALID),
        )
    ]  # fmt: skip
    test = dataclasses.replace(test, boots=tuple(boots))
    assert keeping.value_of(session, test, "tpot_s.mean") == 2.0
    assert keeping.value_of(session, test, "ttft_s.p50") is None
