"""Two arms in turns, against ordinary least squares by another hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pytest_inferforge.stats import arms

ORDER = arms.in_turns("RC", 4)
values = st.lists(st.floats(-1.0, 1.0), min_size=8, max_size=8)


def sides(y):
    return tuple([(float(k), y[k]) for k, arm in enumerate(ORDER) if arm == side] for side in "RC")


def found(y, *, sd_floor=0.0, alpha=0.05):
    reference, current = sides(y)
    return arms.compare_arms(reference, current, alpha=alpha, sd_floor=sd_floor)


def test_the_order_is_balanced_against_a_drift():
    assert "".join(ORDER) == "RCCRCRRC"
    for rounds in (2, 4, 8):
        order = arms.in_turns("RC", rounds)
        places = {side: [k for k, arm in enumerate(order) if arm == side] for side in "RC"}
        assert sum(places["R"]) == sum(places["C"])
    three = arms.in_turns("ABC", 2)
    assert sorted(three) == ["A", "A", "B", "B", "C", "C"]
    assert arms.in_turns("RC", 4)[:6] == arms.in_turns("RC", 3)  # fewer rounds are the beginning of more


@given(values)
def test_it_is_ordinary_least_squares(y):
    x = np.column_stack([np.ones(8), [arm == "C" for arm in ORDER], np.arange(8.0)])
    beta, *_ = np.linalg.lstsq(x, np.array(y), rcond=None)
    left = np.array(y) - x @ beta
    cov = np.linalg.inv(x.T @ x) * float(left @ left) / 5.0
    d = found(y)
    assert (d.difference.diff, d.trend) == pytest.approx((beta[1], beta[2]), abs=1e-9)
    assert d.difference.df == 5.0
    assert d.difference.se == pytest.approx(math.sqrt(cov[1, 1]), abs=1e-9)
    half = stats.t.ppf(0.95, 5) * math.sqrt(cov[1, 1])
    assert d.difference.lower == pytest.approx(beta[1] - half, abs=1e-8)
    if cov[1, 1] > 1e-12:
        assert d.difference.p_worse == pytest.approx(stats.t.sf(beta[1] / math.sqrt(cov[1, 1]), 5), abs=1e-6)


@given(values, st.floats(-0.5, 0.5))
def test_a_linear_drift_moves_nothing_but_the_trend(y, drift):
    still, moved = found(y), found([v + drift * k for k, v in enumerate(y)])
    assert moved.difference.diff == pytest.approx(still.difference.diff, abs=1e-9)
    assert moved.difference.se == pytest.approx(still.difference.se, abs=1e-7)
    assert moved.trend == pytest.approx(still.trend + drift, abs=1e-9)


@given(values)
def test_swapped_sides_flip_the_sign(y):
    reference, current = sides(y)
    one = arms.compare_arms(reference, current, alpha=0.05, sd_floor=0.01).difference
    other = arms.compare_arms(current, reference, alpha=0.05, sd_floor=0.01).difference
    assert other.diff == pytest.approx(-one.diff, abs=1e-9)
    assert other.p_worse == pytest.approx(1.0 - one.p_worse, abs=1e-9)


def test_values_that_agree_by_luck_are_not_believed():
    d = found([0.0] * 8, sd_floor=0.01).difference
    assert d.sd == 0.01
    assert d.se == pytest.approx(0.01 * math.sqrt(0.25 + 0.25), rel=0.05)
    assert d.p_worse == 0.5


@pytest.mark.parametrize(
    ("reference", "current"),
    [
        ([(0, 1.0)], [(1, 1.0), (2, 1.0), (3, 1.0)]),
        ([(0, 1.0), (1, 1.0)], [(2, 1.0)]),
        ([], []),
        ([(0, 1.0), (0, 1.1)], [(1, 1.0), (1, 1.2)]),  # the arm is the trend
    ],
)
def test_too_little_is_an_error(reference, current):
    with pytest.raises(ValueError):
        arms.compare_arms(reference, current, alpha=0.05, sd_floor=0.01)
