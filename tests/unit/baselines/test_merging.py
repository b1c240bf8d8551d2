"""Shards put together: nothing of where a test was measured is lost, and no test is drawn twice."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_inferforge.baselines.merging import merged
from pytest_inferforge.errors import UsageError
from pytest_inferforge.records import Fingerprint


def shard(make_session, *tests, **fields):
    return make_session(
        "ci-7", tests={f"a.py::{name}": {"tpot_s.mean": value} for name, value in tests}, **fields
    )


def test_tests_are_put_together_in_the_order_of_the_shards(make_session):
    one, two = shard(make_session, ("x", 1.0), ("y", 1.0)), shard(make_session, ("z", 1.0))
    found = merged([one, two])
    assert [t.nodeid for t in found.session.tests] == ["a.py::x", "a.py::y", "a.py::z"]
    assert (found.session.id, found.session.started_at) == ("ci-7", one.started_at)
    assert found.session.complete
    assert found.session.accepted
    assert found.notes == ()


def test_of_a_test_in_two_shards_the_first_one_started_counts_and_it_is_said(make_session):
    found = merged([shard(make_session, ("x", 1.0)), shard(make_session, ("x", 2.0), day=2)])
    (test,) = found.session.tests
    assert test.boots[0].metrics == {"tpot_s.mean": 1.0}
    assert found.notes == ("a.py::x is in several shards: the first one started counts",)


def test_what_differs_between_shards_goes_down_to_their_tests(make_session):
    one = shard(make_session, ("x", 1.0), hard={"gpu": "H100", "rack": "1"}, soft={"host": "a"})
    two = shard(make_session, ("y", 1.0), hard={"gpu": "L4", "rack": "1"}, soft={"host": "a"})
    session = merged([one, two]).session
    assert session.fingerprint == Fingerprint(hard={"rack": "1"}, soft={"host": "a"})
    assert [t.fingerprint.hard["gpu"] for t in session.tests] == ["H100", "L4"]


tables = st.dictionaries(st.sampled_from("abc"), st.sampled_from("12"))


@given(st.lists(st.tuples(tables, tables, tables), min_size=1, max_size=4))
def test_every_test_keeps_the_conditions_under_which_it_was_measured(make_session, sides):
    shards = []
    for k, (hard, soft, own) in enumerate(sides):
        made = shard(make_session, (f"t{k}", 1.0), hard=hard, soft=soft)
        test = dataclasses.replace(made.tests[0], fingerprint=Fingerprint(hard=own, soft=own))
        shards.append(dataclasses.replace(made, tests=(test,)))
    session = merged(shards).session
    before = [s.fingerprint.merged(s.tests[0].fingerprint) for s in shards]
    assert [session.fingerprint.merged(t.fingerprint) for t in session.tests] == before


def test_one_red_or_torn_shard_makes_the_whole_so(make_session):
    good = shard(make_session, ("x", 1.0))
    red = merged([good, shard(make_session, ("y", 1.0), accepted=False)])
    assert not red.session.accepted
    assert red.notes == ("1 of 2 shards was red by itself",)
    torn = merged([good, shard(make_session, ("y", 1.0), complete=False)])
    assert not torn.session.complete
    assert torn.notes == ("1 of 2 shards could not measure all that they selected",)


def test_commits_that_differ_are_said_and_are_no_source(make_session):
    one = shard(make_session, ("x", 1.0), source={"commit": "a" * 40, "branch": "main", "dirty": "false"})
    two = shard(make_session, ("y", 1.0), source={"commit": "b" * 40, "branch": "main", "dirty": "true"})
    found = merged([one, two])
    assert found.session.source == {"branch": "main", "dirty": "true"}
    assert found.notes == ("the shards come from several commits: aaaaaaaaaa, bbbbbbbbbb",)


@pytest.mark.parametrize("field", ["seed", "planned_boots"])
def test_shards_that_were_measured_differently_are_refused(make_session, field):
    one = shard(make_session, ("x", 1.0))
    with pytest.raises(UsageError, match="measured alike"):
        merged([one, dataclasses.replace(one, **{field: 99})])


def test_no_shards_are_no_session():
    with pytest.raises(UsageError):
        merged([])
