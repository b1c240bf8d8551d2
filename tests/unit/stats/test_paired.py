"""Paired outcomes against exact enumeration, closed forms and simulated coverage."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pytest_inferforge.stats import paired

Z = stats.norm.ppf(0.95)


@given(st.integers(0, 60), st.integers(0, 60))
def test_the_p_is_the_exact_binomials(worse, better):
    found = paired.worse_p(worse, better)
    assert found == pytest.approx(
        float(stats.binom.sf(worse - 1, worse + better, 0.5)) if worse + better else 1.0
    )
    assert found >= paired.least_p(worse, better) * (1.0 - 1e-9)


def test_the_smallest_result_that_is_significant():
    assert paired.worse_p(4, 0) == pytest.approx(1 / 16)
    assert paired.worse_p(5, 0) == pytest.approx(1 / 32)
    assert paired.worse_p(0, 9) == 1.0
    assert paired.worse_p(0, 0) == 1.0


@pytest.mark.parametrize("n", [10, 100, 1319])
def test_no_change_at_all_has_a_bound_in_closed_form(n):
    assert paired.loss_upper(0, 0, n, 0.05) == pytest.approx(Z**2 / (n + Z**2), rel=1e-6)


def test_many_changes_have_the_normal_bound():
    loss = (60 - 40) / 1000
    expected = loss + Z * math.sqrt((100 / 1000 - loss**2) / 1000)
    assert paired.loss_upper(60, 40, 1000, 0.05) == pytest.approx(expected)


@given(st.integers(0, 15), st.integers(0, 4), st.integers(19, 300))
def test_the_bound_is_above_the_estimate_and_grows_with_the_loss(worse, better, n):
    bound = paired.loss_upper(worse, better, n, 0.05)
    assert (worse - better) / n <= bound <= 1.0
    assert paired.loss_upper(worse + 1, better, n + 1, 0.05) > bound - 2.0 / n
    assert paired.loss_upper(worse, better, n, 0.01) >= bound


@pytest.mark.parametrize(
    ("n", "worse", "better"), [(200, 0.04, 0.04), (500, 0.03, 0.02), (1000, 0.02, 0.005)]
)
def test_the_bound_covers(n, worse, better):
    rng = np.random.default_rng(n)
    counts = rng.multinomial(n, [worse, better, 1.0 - worse - better], size=4000)
    held = np.mean([paired.loss_upper(int(b), int(c), n, 0.05) >= worse - better for b, c, _ in counts])
    assert held >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / 4000) - 0.005  # Wald at the edge of few


@pytest.mark.parametrize(("worse", "better", "n"), [(1, 0, 0), (3, 3, 5), (-1, 0, 5)])
def test_impossible_counts_are_an_error(worse, better, n):
    with pytest.raises(ValueError, match="pairs"):
        paired.loss_upper(worse, better, n, 0.05)


def test_items_of_one_cluster_are_worth_one():
    rng = np.random.default_rng(2)
    covered = {"clustered": 0, "alone": 0}
    for _ in range(1000):
        groups = np.repeat(np.arange(20), 10)
        losses = np.repeat(rng.normal(0.0, 1.0, 20), 10) + rng.normal(0.0, 0.1, 200)
        covered["clustered"] += paired.clustered_upper(losses, groups.tolist(), 0.05)[1] >= 0.0
        covered["alone"] += paired.clustered_upper(losses, list(range(200)), 0.05)[1] >= 0.0
    assert 0.93 <= covered["clustered"] / 1000 <= 0.97
    assert covered["alone"] / 1000 < 0.80


def test_single_items_as_clusters_are_the_usual_t():
    losses = [1.0, 0.0, -1.0, 1.0, 1.0, 0.0, 0.0, 1.0]
    mean, upper = paired.clustered_upper(losses, list(range(8)), 0.05)
    assert mean == pytest.approx(np.mean(losses))
    assert upper == pytest.approx(np.mean(losses) + stats.t.ppf(0.95, 7) * stats.sem(losses))
    with pytest.raises(ValueError, match="clusters"):
        paired.clustered_upper([1.0, 2.0], ["a", "a"], 0.05)


def test_so_many_pairs_show_the_margin():
    n = paired.needed_pairs(0.08, 0.02, 0.05, 0.80)
    assert n == math.ceil((Z + stats.norm.ppf(0.8)) ** 2 * 0.08 / 0.02**2)
    rng = np.random.default_rng(3)
    counts = rng.multinomial(n, [0.04, 0.04, 0.92], size=3000)
    shown = np.mean([paired.loss_upper(int(b), int(c), n, 0.05) < 0.02 for b, c, _ in counts])
    assert shown == pytest.approx(0.80, abs=0.03)
