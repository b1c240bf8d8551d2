"""Means of clustered items against scipy, brute force and simulated coverage."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pytest_inferforge.stats import clusters, intervals


def test_single_items_are_the_usual_t():
    values = [1.0, 0.0, -1.0, 1.0, 1.0, 0.0, 0.0, 1.0]
    found = clusters.clustered_mean(values)
    assert (found.mean, found.se) == (pytest.approx(np.mean(values)), pytest.approx(stats.sem(values)))
    assert found.half_width(0.05) == pytest.approx(stats.t.ppf(0.95, 7) * stats.sem(values))
    assert found.p_above == pytest.approx(stats.ttest_1samp(values, 0.0, alternative="greater").pvalue)


@given(st.lists(st.floats(-1, 1), min_size=3, max_size=12), st.integers(2, 4))
def test_items_said_again_add_nothing(values, times):
    once = clusters.clustered_mean(values)
    names = [k for k in range(len(values)) for _ in range(times)]
    again = clusters.clustered_mean([v for v in values for _ in range(times)], names)
    assert again.clusters == once.clusters
    assert again.mean == pytest.approx(once.mean, abs=1e-9)
    assert again.se == pytest.approx(once.se, abs=1e-9)


def test_items_of_one_cluster_are_worth_one():
    rng = np.random.default_rng(2)
    covered = {"clustered": 0, "alone": 0}
    for _ in range(1000):
        groups = np.repeat(np.arange(20), 10)
        values = np.repeat(rng.normal(0.0, 1.0, 20), 10) + rng.normal(0.0, 0.1, 200)
        for name, kind in (("clustered", groups.tolist()), ("alone", ())):
            found = clusters.clustered_mean(values.tolist(), kind)
            covered[name] += found.mean + found.half_width(0.05) >= 0.0
    assert 0.93 <= covered["clustered"] / 1000 <= 0.97
    assert covered["alone"] / 1000 < 0.80


@pytest.mark.parametrize(("values", "names"), [([1.0, 2.0], ["a", "a"]), ([1.0], ()), ([], ())])
def test_one_cluster_shows_no_spread(values, names):
    with pytest.raises(ValueError, match="clusters"):
        clusters.clustered_mean(values, names)


def test_where_nothing_varies_the_mean_alone_speaks():
    assert clusters.clustered_mean([0.0, 0.0]).p_above == 1.0
    assert clusters.clustered_mean([1.0, 1.0]).p_above == 0.0


@given(st.integers(0, 40), st.integers(1, 40))
def test_right_and_wrong_have_exact_bounds(right, wrong):
    n = right + wrong
    found = clusters.mean_score([1.0] * right + [0.0] * wrong, (), 0.05)
    exact = stats.binomtest(right, n).proportion_ci(0.90, method="exact")
    assert found.value == pytest.approx(right / n)
    assert (found.lower, found.upper) == (pytest.approx(exact.low), pytest.approx(exact.high))
    assert found.effect == 1.0


@given(st.lists(st.sampled_from([0.0, 1.0]), min_size=8, max_size=80))
def test_clusters_can_only_widen(scores):
    alone = clusters.mean_score(scores, (), 0.05)
    together = clusters.mean_score(scores, [k // 4 for k in range(len(scores))], 0.05)
    assert together.lower <= alone.lower + 1e-12
    assert together.upper >= alone.upper - 1e-12
    assert together.effect >= 1.0


def test_items_in_fours_that_are_all_alike_are_worth_a_quarter():
    scores = [float(k % 4 > 0) for k in range(50) for _ in range(4)]
    found = clusters.mean_score(scores, [k // 4 for k in range(200)], 0.05)
    assert found.effect == pytest.approx(4.0 * intervals.next_boot_factor(50, 0.05) * 50 / 49)


def test_other_scores_have_t_and_no_spread_has_the_widest_bounds():
    scores = np.random.default_rng(5).random(50)
    found = clusters.mean_score(scores.tolist(), (), 0.05)
    assert found.lower == pytest.approx(scores.mean() - stats.t.ppf(0.95, 49) * stats.sem(scores))
    alike = clusters.mean_score([0.5] * 20, (), 0.05)
    assert (alike.lower, alike.upper) == (
        pytest.approx(intervals.binomial_lower(10, 20, 0.05)),
        pytest.approx(intervals.binomial_upper(10, 20, 0.05)),
    )


def test_too_little_has_no_bounds():
    assert clusters.mean_score([1.0, 0.0, 1.0], ["a"] * 3, 0.05).lower is None
    assert clusters.mean_score([0.5], (), 0.05).upper is None
    with pytest.raises(ValueError, match="scores"):
        clusters.mean_score([], (), 0.05)
