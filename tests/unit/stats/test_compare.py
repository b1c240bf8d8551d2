"""The two-sample t against scipy, and its behaviour with few values."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pytest_inferforge.stats.compare import compare

values = st.lists(st.floats(-3, 3), min_size=3, max_size=12)


def test_pooled_t_is_scipys():
    reference, current = [0.0, 0.03, -0.01, 0.02], [0.05, 0.08, 0.06]
    found = compare(reference, current, alpha=0.05, sd_floor=0.0)
    expected = stats.ttest_ind(current, reference, alternative="greater")
    assert found.p_worse == pytest.approx(expected.pvalue)
    assert found.df == expected.df == 5
    assert found.lower == pytest.approx(expected.confidence_interval(0.95).low)
    two_sided = stats.ttest_ind(current, reference).confidence_interval(0.90)
    assert (found.lower, found.upper) == (pytest.approx(two_sided.low), pytest.approx(two_sided.high))


def test_one_current_value_gives_the_prediction_interval():
    reference = [0.01, -0.02, 0.03, 0.0, 0.01]
    found = compare(reference, [0.1], alpha=0.05, sd_floor=0.0)
    sd = np.std(reference, ddof=1)
    assert found.df == 4
    assert found.se == pytest.approx(sd * math.sqrt(1 + 1 / 5))
    assert found.upper - found.diff == pytest.approx(stats.t.ppf(0.95, 4) * found.se)


def test_welch_takes_over_when_variances_differ():
    rng = np.random.default_rng(5)
    reference, current = rng.normal(0, 0.01, 8), rng.normal(0.02, 0.1, 6)
    found = compare(reference, current, alpha=0.05, sd_floor=0.0)
    expected = stats.ttest_ind(current, reference, equal_var=False, alternative="greater")
    assert found.p_worse == pytest.approx(expected.pvalue)
    assert found.df == pytest.approx(expected.df)


@pytest.mark.parametrize(("n", "m", "df"), [(4, 8, 10), (8, 4, 10)])
def test_welch_wants_five_values_on_each_side(n, m, df):
    rng = np.random.default_rng(5)
    assert compare(rng.normal(0, 0.01, n), rng.normal(0, 0.1, m), alpha=0.05, sd_floor=0.0).df == df


def test_agreeing_values_do_not_prove_a_quiet_machine():
    found = compare([0.0] * 5, [0.01], alpha=0.05, sd_floor=0.02)
    assert found.sd == 0.02
    assert found.p_worse > 0.3
    assert compare([0.0] * 5, [0.01], alpha=0.05, sd_floor=0.0).p_worse == 0.0
    assert compare([0.0] * 5, [0.0], alpha=0.05, sd_floor=0.0).p_worse == 0.5


@pytest.mark.parametrize(("reference", "current"), [([], [1.0]), ([1.0, 2.0], []), ([1.0], [2.0])])
def test_too_few_values_are_an_error(reference, current):
    with pytest.raises(ValueError, match="cannot compare"):
        compare(reference, current, alpha=0.05, sd_floor=0.01)


@given(a=values, b=values)
def test_swapping_the_sides_flips_the_sign(a, b):
    one, other = (compare(x, y, alpha=0.05, sd_floor=0.005) for x, y in ((a, b), (b, a)))
    assert one.diff == pytest.approx(-other.diff)
    assert one.lower == pytest.approx(-other.upper)
    assert one.p_worse == pytest.approx(1 - other.p_worse)


@given(a=values, b=values, shift=st.floats(-20, 20))
def test_the_unit_does_not_move_p(a, b, shift):  # a unit is a factor, on the log scale a shift
    moved = compare([x + shift for x in a], [y + shift for y in b], alpha=0.05, sd_floor=0.005)
    assert moved.p_worse == pytest.approx(compare(a, b, alpha=0.05, sd_floor=0.005).p_worse, abs=1e-9)
