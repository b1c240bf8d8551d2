"""Bounds against scipy's own routes, brute force, and published tables."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pytest_inferforge.stats import intervals


@pytest.mark.parametrize(("x", "n"), [(0, 10), (3, 10), (10, 10), (9, 1000), (1, 299)])
@pytest.mark.parametrize("alpha", [0.05, 0.01, 0.1])
def test_binomial_bounds_are_clopper_pearson(x, n, alpha):
    exact = stats.binomtest(x, n).proportion_ci(1 - 2 * alpha, method="exact")
    assert intervals.binomial_lower(x, n, alpha) == pytest.approx(exact.low, abs=1e-12)
    assert intervals.binomial_upper(x, n, alpha) == pytest.approx(exact.high, abs=1e-12)


def test_binomial_bounds_take_real_counts():
    lower, upper = intervals.binomial_lower(4.5, 250.3, 0.05), intervals.binomial_upper(4.5, 250.3, 0.05)
    assert lower == pytest.approx(stats.beta.ppf(0.05, 4.5, 250.3 - 4.5 + 1))
    assert upper == pytest.approx(stats.beta.ppf(0.95, 4.5 + 1, 250.3 - 4.5))


def test_nothing_tried_shows_nothing():
    assert intervals.binomial_lower(0, 0, 0.05) == 0.0
    assert intervals.binomial_upper(0, 0, 0.05) == 1.0


@given(x=st.integers(0, 60), extra=st.integers(0, 500), alpha=st.floats(0.001, 0.2))
def test_more_exceedances_raise_both_bounds(x, extra, alpha):
    n = 61 + extra
    assert intervals.binomial_lower(x, n, alpha) <= intervals.binomial_lower(x + 1, n, alpha)
    assert intervals.binomial_upper(x, n, alpha) <= intervals.binomial_upper(x + 1, n, alpha)


@pytest.mark.parametrize(
    ("q", "n"), [(0.90, 29), (0.95, 59), (0.99, 299), (0.999, 2995)]
)  # ceil(ln alpha / ln q)
def test_needed_requests_without_exceedance(q, n):
    assert intervals.needed_requests(q, 0.05) == n == math.ceil(math.log(0.05) / math.log(q))


@pytest.mark.parametrize(
    ("exceedances", "n"), [(1, 473), (2, 628), (3, 773), (5, 1049), (10, 1693), (20, 2902)]
)
def test_needed_requests_with_exceedances_is_the_published_table(exceedances, n):
    assert intervals.needed_requests(0.99, 0.05, exceedances) == n


def test_needed_requests_at_99_percent_confidence():
    assert intervals.needed_requests(0.99, 0.01) == 459


def test_no_number_of_requests_shows_a_maximum():
    with pytest.raises(ValueError, match="a quantile inside"):
        intervals.needed_requests(1.0, 0.05)


def upper(samples, q, effect=1.0):
    """By the exact rule at 5 %."""
    return intervals.quantile_upper(
        np.asarray(samples),
        lambda over: intervals.binomial_upper(over.sum() / effect, len(over) / effect, 0.05) <= 1 - q,
    )


def lower(samples, q, effect=1.0, alpha=0.05):
    return intervals.quantile_lower(
        np.asarray(samples),
        lambda over: intervals.binomial_lower(over.sum() / effect, len(over) / effect, alpha) > 1 - q,
    )


@pytest.mark.parametrize(("n", "q"), [(59, 0.95), (300, 0.99), (1000, 0.99), (1000, 0.5), (37, 0.9)])
def test_quantile_bounds_are_order_statistics(n, q):
    samples = np.random.default_rng(1).permutation(np.arange(1.0, n + 1))  # the r-th smallest is r
    rank = next(r for r in range(1, n + 1) if stats.binom.cdf(r - 1, n, q) >= 0.95)
    assert upper(samples, q) == rank
    rank = max(r for r in range(1, n + 1) if stats.binom.sf(r - 1, n, q) >= 0.95)
    assert lower(samples, q) == rank


def test_quantile_bound_is_unbounded_below_the_needed_number():
    assert upper(np.ones(298), 0.99) is None
    assert upper(np.ones(299), 0.99) == 1.0
    assert upper(np.ones(299), 0.99, 1.1) is None
    assert lower(np.ones(1), 0.01, alpha=0.005) is None
    assert upper(np.empty(0), 0.99) is None
    assert lower(np.empty(0), 0.99) is None


def test_failures_push_the_quantile_to_infinity():
    samples = np.concatenate((np.ones(950), np.full(50, math.inf)))
    assert upper(samples, 0.99) == math.inf
    assert lower(samples, 0.99) == math.inf
    assert upper(samples, 0.90) == 1.0


@given(
    samples=st.lists(st.floats(0, 100), min_size=1, max_size=400),
    limit=st.floats(0, 100),
    q=st.sampled_from([0.5, 0.9, 0.99]),
    effect=st.floats(1, 5),
)
def test_quantile_bounds_and_binomial_rule_say_the_same(samples, limit, q, effect):
    column = np.array(samples)
    over, n = float((column > limit).sum()), len(column)
    high, low = upper(column, q, effect), lower(column, q, effect)
    passes = intervals.binomial_upper(over / effect, n / effect, 0.05) <= 1 - q
    fails = intervals.binomial_lower(over / effect, n / effect, 0.05) > 1 - q
    assert passes == (high is not None and high <= limit)
    assert fails == (low is not None and low > limit)


def test_quantile_bound_covers_its_quantile():
    rng = np.random.default_rng(7)
    true = float(stats.lognorm.ppf(0.95, 0.5))
    draws = rng.lognormal(0.0, 0.5, (1000, 200))
    above = sum((upper(d, 0.95) or math.inf) >= true for d in draws)
    below = sum((lower(d, 0.95) or -math.inf) <= true for d in draws)
    assert above >= 930  # 95 % and more, less 3 standard errors
    assert below >= 930


@pytest.mark.parametrize("boots", [2, 3, 5, 20])
def test_the_factor_of_the_next_boot_is_the_squared_ratio_of_t_and_z(boots):
    expected = (stats.t.ppf(0.95, boots - 1) / stats.norm.ppf(0.95)) ** 2
    assert intervals.next_boot_factor(boots, 0.05) == pytest.approx(expected)


def test_needed_at_share_decides_and_one_less_does_not():
    for share in (0.002, 0.03):
        n = intervals.needed_at_share(share, 0.01, 0.05)
        for count, decided in ((n, True), (n - 1, False)):
            passes = intervals.binomial_upper(share * count, count, 0.05) <= 0.01
            fails = intervals.binomial_lower(share * count, count, 0.05) > 0.01
            assert (passes or fails) is decided


def test_no_number_of_requests_decides_at_the_limit_itself():
    assert intervals.needed_at_share(0.01, 0.01, 0.05) is None


def test_mean_bounds_are_students():
    values = np.array([1.0, 1.2, 0.9, 1.1])
    mean, lower, upper = intervals.mean_bounds(values, 0.05)
    expected = stats.t.interval(0.90, 3, loc=values.mean(), scale=stats.sem(values))
    assert (mean, lower, upper) == (pytest.approx(values.mean()), *map(pytest.approx, expected))


def test_mean_of_one_value_has_no_bounds_and_of_none_is_an_error():
    assert intervals.mean_bounds(np.array([3.0]), 0.05) == (3.0, None, None)
    with pytest.raises(ValueError, match="at least one"):
        intervals.mean_bounds(np.empty(0), 0.05)


def test_bounds_of_batches_are_students_unless_neighbours_are_alike():
    apart = np.array([1.0, 1.2, 0.9, 1.1, 0.8, 1.3])
    assert intervals.batched_mean_bounds(apart, 0.05) == intervals.mean_bounds(apart, 0.05)
    alike = np.sort(apart)
    mean, lower, upper = intervals.mean_bounds(alike, 0.05)
    left = alike - mean
    r = (left[1:] * left[:-1]).sum() / (left**2).sum() + 1 / 6
    wider = math.sqrt(1 + 2 * r)
    assert intervals.batched_mean_bounds(alike, 0.05) == pytest.approx(
        (mean, mean - wider * (mean - lower), mean + wider * (upper - mean))
    )
    assert intervals.batched_mean_bounds(np.array([3.0]), 0.05) == (3.0, None, None)
    assert intervals.batched_mean_bounds(np.ones(5), 0.05) == (1.0, 1.0, 1.0)


def test_few_batches_are_paid_for():
    rng = np.random.default_rng(3)
    clumped = np.repeat(rng.random(200) < 0.1, 10)
    plain, paid = (intervals.design_effect([clumped], 20, alpha) for alpha in (None, 0.05))
    assert (paid - 1) / (plain - 1) == pytest.approx((stats.t.ppf(0.95, 19) / stats.norm.ppf(0.95)) ** 2)
    two = [clumped, clumped]
    plain, paid = (intervals.design_effect(two, 20, alpha) for alpha in (None, 0.05))
    assert (paid - 1) / (plain - 1) == pytest.approx((stats.t.ppf(0.95, 38) / stats.norm.ppf(0.95)) ** 2)


def test_batch_means_keep_order_and_cover_everything():
    assert intervals.batch_means(np.arange(6.0), 3).tolist() == [0.5, 2.5, 4.5]
    assert intervals.batch_means(np.arange(2.0), 5).tolist() == [0.0, 1.0]
    assert intervals.batch_means(np.empty(0), 5).tolist() == []


def test_design_effect_by_hand():
    boot = np.array([True, True, False, False, False, False, False, False])
    share, means = 0.25, [1.0, 0.0, 0.0, 0.0]
    expected = np.var(means, ddof=1) * (8 / 4) / (share * (1 - share))
    assert intervals.design_effect([boot], 4) == pytest.approx(expected)
    other = np.zeros(8, dtype=bool)
    spread = (1 / 8) * (7 / 8)
    inside = (np.var(means, ddof=1) * 2 + 0.0) / 2 / spread
    between = np.var([0.25, 0.0], ddof=1) * 8 / spread
    assert intervals.design_effect([boot, other], 4) == pytest.approx(max(1.0, inside, between))


def test_design_effect_of_boots_that_differ_by_hand():
    boots = [np.tile(np.arange(10) < k, 100) for k in (1, 2, 4)]  # regular inside, 10, 20 and 40 % over
    share = 0.7 / 3
    expected = np.var([0.1, 0.2, 0.4], ddof=1) * 1000 / (share * (1 - share))
    assert intervals.design_effect(boots, 20) == pytest.approx(expected)


@pytest.mark.parametrize(
    "boots",
    [
        [],
        [np.empty(0, dtype=bool)],
        [np.zeros(50, dtype=bool)],
        [np.ones(50, dtype=bool)],
        [np.array([True, False])],
    ],
)
def test_design_effect_is_one_without_variance(boots):
    assert intervals.design_effect(boots, 20) == 1.0


def test_design_effect_finds_correlation():
    rng = np.random.default_rng(3)
    independent = [rng.random(2000) < 0.1 for _ in range(40)]
    clumped = [np.repeat(rng.random(200) < 0.1, 10) for _ in range(40)]
    assert np.median([intervals.design_effect([b], 20) for b in independent]) < 1.2
    assert 6 < np.median([intervals.design_effect([b], 20) for b in clumped]) < 14
