"""How far answers moved: counts, places of divergence, distributions over choices."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from pytest_inferforge.gate.drift import drift_of
from pytest_inferforge.outcomes import Outcomes, Repeat

LOGS = st.lists(st.floats(-30, 0), min_size=2, max_size=5)


def task(n=3, **more):
    fields = {
        "task": "t", "metric": "acc", "filter": "none", "higher_is_better": True,
        "keys": tuple(f"k{k}" for k in range(n)), "scores": (1.0,) * n,
    }  # fmt: skip
    return Outcomes(**{**fields, **more})


def test_what_changed_is_counted():
    then = task(replies=("a", "b", "c"), said=("one two", "three", "four"), perplexity=8.0)
    now = task(
        scores=(1.0, 0.0, 1.0), replies=("a", "x", "y"), said=("one two", "thin", "fourteen"), perplexity=9.0
    )
    found = drift_of(now, then)
    assert (found.items, found.flipped) == (3, 1)
    assert (found.replies, found.changed) == (3, 2)
    assert (found.texts, found.diverged) == (3, 2)
    assert found.diverged_at == 3.0  # "th|ree" and "four|"
    assert found.earliest_share == pytest.approx(2 / 5)
    assert found.perplexity_ratio == pytest.approx(9 / 8)
    assert found.kl_nats is None
    assert found.repeat is None


def test_nothing_changed():
    one = task(replies=("a", "b", "c"), said=("x", "y"), likelihoods=((-1.0, -2.0),) * 3, perplexity=2.0)
    found = drift_of(one, one)
    assert (found.flipped, found.changed, found.texts, found.diverged) == (0, 0, 2, 0)
    assert (found.diverged_at, found.earliest_share) == (None, None)
    assert (found.kl_nats, found.perplexity_ratio) == (0.0, 1.0)


def test_items_are_found_by_their_keys():
    then = task(keys=("a", "b", "c"), replies=("1", "2", "3"), said=("s1", "s2", "s3"))
    now = task(keys=("c", "a", "z"), replies=("3", "1", "9"), said=("s3",))
    found = drift_of(now, then)
    assert (found.items, found.replies, found.changed) == (2, 2, 0)
    assert (found.texts, found.diverged) == (1, 0)
    assert drift_of(task(keys=("x", "y", "z")), then) is None


def test_what_one_side_lacks_was_not_measured():
    found = drift_of(task(), task(replies=("a",) * 3, likelihoods=((0.0, -1.0),) * 3, perplexity=3.0))
    assert (found.replies, found.texts, found.kl_nats, found.perplexity_ratio) == (0, 0, None, None)
    assert drift_of(task(perplexity=1.0), task(perplexity=0.0)).perplexity_ratio is None


def test_the_reference_asked_twice_is_what_to_measure_by():
    here, there = Repeat(n=10, flipped=1, changed=2), Repeat(n=20, flipped=0, changed=None)
    assert drift_of(task(repeat=here), task(repeat=there)).repeat == there
    assert drift_of(task(repeat=here), task()).repeat == here


@given(LOGS, st.data())
def test_the_divergence_is_scipys(then, data):
    now = data.draw(st.lists(st.floats(-30, 0), min_size=len(then), max_size=len(then)))
    found = drift_of(task(1, likelihoods=(tuple(now),)), task(1, likelihoods=(tuple(then),)))
    expected = stats.entropy(special.softmax(then), special.softmax(now))
    assert found.kl_nats == pytest.approx(float(expected), abs=1e-9)


@given(LOGS, st.floats(-5, 5))
def test_a_constant_on_all_choices_is_no_drift(then, shift):
    now = tuple(v + shift for v in then)
    found = drift_of(task(1, likelihoods=(now,)), task(1, likelihoods=(tuple(then),)))
    assert found.kl_nats == pytest.approx(0.0, abs=1e-9)


def test_choices_without_a_number_are_left_out():
    then = task(likelihoods=((-1.0, -2.0), (-1.0, -math.inf), (-1.0, -2.0, -3.0)))
    now = task(likelihoods=((-2.0, -1.0), (-1.0, -2.0), (-1.0, -2.0)))
    p = special.softmax([-1.0, -2.0])
    assert drift_of(now, then).kl_nats == pytest.approx(float(stats.entropy(p, p[::-1])))


@pytest.mark.parametrize(
    ("one", "other", "at", "share"), [("", "abcd", 0, 0.0), ("ab", "abcd", 2, 0.5), ("xb", "ab", 0, 0.0)]
)
def test_texts_part_at_the_first_character_that_differs(one, other, at, share):
    for now, then in ((one, other), (other, one)):
        found = drift_of(task(1, said=(now,)), task(1, said=(then,)))
        assert (found.diverged_at, found.earliest_share) == (at, share)
