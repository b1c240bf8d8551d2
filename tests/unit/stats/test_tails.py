"""The kept slow end of many values against the values themselves."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_inferforge.stats import tails

RNG = np.random.default_rng(3)
VALUES = RNG.lognormal(-2.0, 0.35, 1000)


def test_what_is_kept_are_the_upper_quantiles():
    upper = tails.upper_quantiles(VALUES)
    assert len(upper) == len(tails.LEVELS)
    assert upper == pytest.approx(np.quantile(VALUES, tails.LEVELS), rel=1e-5)
    assert tails.LEVELS[0] == 0.9
    assert tails.LEVELS[-1] == 1.0
    assert list(tails.LEVELS) == sorted(set(tails.LEVELS))


def test_nothing_is_kept_of_nothing_or_of_what_never_came():
    assert tails.upper_quantiles(np.array([])) == ()
    assert tails.upper_quantiles(np.array([1.0, np.inf])) == ()


@pytest.mark.parametrize("share", [0.002, 0.01, 0.03, 0.08])
def test_the_share_above_a_limit_is_that_of_the_values(share):
    limit = float(np.quantile(VALUES, 1.0 - share))
    found = tails.share_above(tails.upper_quantiles(VALUES), limit)
    assert found == pytest.approx(float(np.mean(limit < VALUES)), abs=0.0015)


def test_a_limit_outside_of_what_is_kept():
    upper = tails.upper_quantiles(VALUES)
    assert tails.share_above(upper, 0.0) == pytest.approx(0.1)
    assert tails.share_above(upper, 1e9) == 0.0


def test_the_pooled_quantile_is_that_of_all_values_together():
    boots = [RNG.lognormal(-2.0 + shift, 0.35, 1000) for shift in (-0.02, 0.0, 0.05)]
    found = tails.pooled_quantile([tails.upper_quantiles(b) for b in boots], 0.99)
    assert found == pytest.approx(np.quantile(np.concatenate(boots), 0.99), rel=0.01)
    shares = [tails.share_above(tails.upper_quantiles(b), found) for b in boots]
    assert float(np.mean(shares)) == pytest.approx(0.01, abs=1e-6)


@pytest.mark.parametrize("n", [100, 300, 999])
def test_the_quantile_of_fewer_is_the_mean_over_random_parts(n):
    many = RNG.lognormal(-2.0, 0.35, 20_000)
    parts = RNG.choice(many, size=(4000, n))
    rank = max(1, int(np.ceil(0.99 * n - 1e-9)))
    drawn = float(np.partition(parts, rank - 1, axis=1)[:, rank - 1].mean())
    assert tails.quantile_of_fewer(tails.upper_quantiles(many), 0.99, n) == pytest.approx(drawn, rel=0.015)


@given(st.lists(st.floats(0.001, 10.0), min_size=1, max_size=300), st.floats(0.0, 20.0))
def test_shares_are_shares(values, limit):
    assert 0.0 <= tails.share_above(tails.upper_quantiles(np.array(values)), limit) <= 0.1 + 1e-12
