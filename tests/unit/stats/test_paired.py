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


LOSSES = st.lists(st.sampled_from([-1.0, 0.0, 0.0, 1.0]), min_size=4, max_size=80)


@given(LOSSES)
def test_right_or_wrong_items_that_stand_alone_are_counted(losses):
    found = paired.loss_of(losses, (), 0.05)
    worse, better, n = losses.count(1.0), losses.count(-1.0), len(losses)
    assert (found.worse, found.better, found.n) == (worse, better, n)
    assert found.loss == pytest.approx(np.mean(losses))
    assert found.p_worse == paired.worse_p(worse, better)
    assert found.p_better == paired.worse_p(better, worse)
    assert found.upper == paired.loss_upper(worse, better, n, 0.05)
    assert found.lower == -paired.loss_upper(better, worse, n, 0.05)
    assert found.variance == pytest.approx(np.var(losses))


@given(LOSSES)
def test_clusters_can_only_make_it_less_sure(losses):
    alone = paired.loss_of(losses, (), 0.05)
    together = paired.loss_of(losses, [str(k // 2) for k in range(len(losses))], 0.05)
    assert together.lower <= alone.lower <= alone.upper <= together.upper
    assert together.p_worse >= alone.p_worse
    assert together.p_better >= alone.p_better
    assert together.variance >= alone.variance


def test_real_losses_have_the_t_of_scipy():
    losses = np.random.default_rng(4).normal(0.01, 0.2, 200)
    found = paired.loss_of(losses.tolist(), (), 0.05)
    expected = stats.ttest_1samp(losses, 0.0, alternative="greater")
    assert found.p_worse == pytest.approx(expected.pvalue)
    assert found.p_better == pytest.approx(1.0 - expected.pvalue)
    assert found.upper == pytest.approx(losses.mean() + stats.t.ppf(0.95, 199) * stats.sem(losses))
    assert found.lower == pytest.approx(losses.mean() - stats.t.ppf(0.95, 199) * stats.sem(losses))


def test_four_changed_clusters_cannot_be_significant_whatever_t_says():
    losses = [1.0] * 16 + [0.0] * 184
    clusters = [k // 4 for k in range(200)]
    assert paired.loss_of(losses, clusters, 0.05).p_worse == pytest.approx(1 / 16)
    assert paired.loss_of(losses, (), 0.05).p_worse == pytest.approx(2.0**-16)


def test_no_change_at_all_is_not_taken_for_certainty():
    for losses, clusters in (([0.0] * 40, ()), ([0.0] * 40, [k // 4 for k in range(40)])):
        found = paired.loss_of(losses, clusters, 0.05)
        assert found.upper == pytest.approx(Z**2 / (40 + Z**2), rel=1e-6)
        assert found.p_worse == 1.0
    few = paired.loss_of([0.25] + [0.0] * 39, (), 0.05)
    assert few.upper == pytest.approx(0.25 / 40 + Z**2 / (40 + Z**2))


def test_so_many_pairs_show_the_margin():
    n = paired.needed_pairs(0.08, 0.02, 0.05, 0.80)
    assert n == math.ceil((Z + stats.norm.ppf(0.8)) ** 2 * 0.08 / 0.02**2)
    least = paired.needed_pairs(0.0, 0.02, 0.05, 0.80)
    assert paired.loss_upper(0, 0, least, 0.05) <= 0.02 < paired.loss_upper(0, 0, least - 1, 0.05)
    rng = np.random.default_rng(3)
    counts = rng.multinomial(n, [0.04, 0.04, 0.92], size=3000)
    shown = np.mean([paired.loss_upper(int(b), int(c), n, 0.05) < 0.02 for b, c, _ in counts])
    assert shown == pytest.approx(0.80, abs=0.03)
