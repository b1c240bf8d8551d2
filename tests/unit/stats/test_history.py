"""Drift and steps in a series, against constructed and simulated ones."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_inferforge.stats import history


def test_z_scores_are_those_of_a_prediction():
    reference = [1.0, 2.0, 3.0, 4.0]
    sd = np.std(reference, ddof=1) * math.sqrt(1.25)
    assert history.z_scores(reference, [2.5, 2.5 + sd], sd_floor=0.0) == pytest.approx((0.0, 1.0))
    assert history.z_scores([1.0, 1.0], [1.1], sd_floor=0.1) == pytest.approx((0.1 / 0.1 / math.sqrt(1.5),))
    with pytest.raises(ValueError, match="no spread"):
        history.z_scores([1.0], [1.0], sd_floor=0.1)


def test_the_sum_by_hand():
    found = history.cusum([1.0, -2.0, 3.0, 2.0, 4.0, -9.0], slack=0.5, height=7.0)
    assert found.path == pytest.approx((0.5, 0.0, 2.5, 4.0, 7.5, 0.0))
    assert (found.alarm, found.began) == (4, 2)


def test_no_alarm_without_a_drift():
    assert history.cusum([0.4] * 100, slack=0.5, height=8.0) == history.Cusum(
        path=(0.0,) * 100, alarm=None, began=None
    )


@given(st.lists(st.floats(-3, 3), max_size=40))
def test_the_path_never_goes_below_zero(z):
    found = history.cusum(z, slack=0.5, height=8.0)
    assert len(found.path) == len(z)
    assert all(level >= 0.0 for level in found.path)
    if found.alarm is not None:
        assert found.path[found.alarm] >= 8.0
        assert 0 <= found.began <= found.alarm


def steps(values, alpha=0.001):
    return history.steps(values, alpha=alpha, least=3, permutations=1999, seed=1)


def test_a_step_is_found_where_it_is():
    rng = np.random.default_rng(4)
    values = np.concatenate([rng.normal(0, 0.02, 20), rng.normal(0.1, 0.02, 15)])
    (found,) = steps(values)
    assert found.at == 20
    assert found.shift == pytest.approx(0.1, abs=0.02)
    assert found.p <= 0.001


def test_two_steps_there_and_back():
    rng = np.random.default_rng(5)
    values = np.concatenate([rng.normal(m, 0.01, 12) for m in (0.0, 0.08, 0.0)])
    found = steps(values)
    assert [s.at for s in found] == [12, 24]
    assert [round(s.shift, 2) for s in found] == pytest.approx([0.08, -0.08], abs=0.011)


def test_noise_has_no_steps_more_often_than_alpha():
    rng = np.random.default_rng(6)
    false = sum(
        bool(history.steps(rng.normal(size=24), alpha=0.05, least=3, permutations=199, seed=k))
        for k in range(200)
    )
    assert false <= 200 * 0.05 + 3 * math.sqrt(200 * 0.05 * 0.95)


@pytest.mark.parametrize("values", [[], [1.0], [1.0] * 5, [1.0] * 50])
def test_too_few_or_equal_values_have_none(values):
    assert steps(values) == ()


def test_cusum_against_a_pinned_reference():
    """40 sessions that vary by 3 %: nothing, 0.3 % more each, a step of 8 %; against 10 pinned ones."""
    rng = np.random.default_rng(7)
    alarms = dict.fromkeys(("none", "drift", "step"), 0)
    where = {"drift": [], "step": []}
    for _ in range(300):
        reference = rng.normal(0.0, 0.03, 10)
        noise = rng.normal(0.0, 0.03, 40)
        for name, moved in (
            ("none", np.zeros(40)), ("drift", 0.003 * np.arange(40)), ("step", np.full(40, math.log(1.08)))
        ):  # fmt: skip
            z = history.z_scores(reference, noise + moved, sd_floor=0.005)
            found = history.cusum(z, slack=0.5, height=8.0)
            alarms[name] += found.alarm is not None
            if name in where and found.alarm is not None:
                where[name].append(found.alarm + 1)
    shares = {name: n / 300 for name, n in alarms.items()}
    assert shares["none"] <= 0.15
    assert shares["drift"] >= 0.97
    assert shares["step"] >= 0.99
    assert 10 <= np.median(where["drift"]) <= 22
    assert 2 <= np.median(where["step"]) <= 6
