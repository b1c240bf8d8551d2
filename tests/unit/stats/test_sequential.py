"""The e-processes against their definition, and what looking again and again does to another rule."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_inferforge.stats import intervals, sequential

AT = sequential.looks(8000, every=25, first=500)


@pytest.mark.parametrize("ratios", [sequential.BELOW, sequential.ABOVE])
@pytest.mark.parametrize(
    ("x", "n", "allowed"), [(0, 400, 0.01), (7, 400, 0.01), (30, 100, 0.2), (60, 100, 0.6)]
)
def test_an_e_value_is_the_mean_likelihood_ratio(ratios, x, n, allowed):
    shares = [min(r * allowed, (1 + allowed) / 2) for r in ratios]
    ratio = [(p / allowed) ** x * ((1 - p) / (1 - allowed)) ** (n - x) for p in shares]
    assert float(sequential.log_e(x, n, allowed, ratios)) == pytest.approx(math.log(np.mean(ratio)))


@pytest.mark.parametrize("ratios", [sequential.BELOW, sequential.ABOVE])
@pytest.mark.parametrize("allowed", [0.01, 0.05, 0.3])
def test_at_the_limit_itself_a_bet_wins_nothing_on_average(ratios, allowed):
    """The martingale property, over all outcomes of 30 trials."""
    n, x = 30, np.arange(31)
    chances = np.array([math.comb(n, k) * allowed**k * (1 - allowed) ** (n - k) for k in x])
    assert float((chances * np.exp(sequential.log_e(x, n, allowed, ratios))).sum()) == pytest.approx(1.0)


@given(
    x=st.integers(0, 50), more=st.integers(0, 2000), effect=st.floats(1, 10), allowed=st.floats(0.001, 0.5)
)
def test_thinning_makes_no_new_decision(x, more, effect, allowed):
    n = x + more + 1
    for ratios in (sequential.BELOW, sequential.ABOVE):
        whole = float(sequential.log_e(x, n, allowed, ratios))
        thinned = float(sequential.log_e(x / effect, n / effect, allowed, ratios))
        assert thinned <= whole / effect + 1e-9


@given(st.integers(0, 60), st.integers(60, 3000))
def test_more_misses_speak_less_for_below_and_more_for_above(x, n):
    below = sequential.log_e(np.array([x, x + 1.0]), n, 0.01, sequential.BELOW)
    above = sequential.log_e(np.array([x, x + 1.0]), n, 0.01, sequential.ABOVE)
    assert below[0] > below[1]
    assert above[0] < above[1]


def test_looks_come_in_blocks_and_later_with_each_percent():
    assert sequential.looks(600, every=25, first=500).tolist() == [500, 525, 550, 575, 600]
    assert sequential.looks(499, every=25, first=500).tolist() == []
    late = sequential.looks(10**6, every=25, first=500)
    assert len(late) < 1000
    assert np.all(np.diff(late) <= np.maximum(25, late[:-1] // 100))


def test_the_first_decision_counts_and_none_comes_before_the_first_look():
    clean = np.zeros(2000, dtype=bool)
    look = sequential.first_look(clean, 0.01, 0.05, sequential.BELOW, at=AT, batches=20)
    assert (look.n, look.effect) == (500, 1.0)
    late = clean.copy()
    late[600:] = True  # what comes later changes nothing
    assert sequential.first_look(late, 0.01, 0.05, sequential.BELOW, at=AT, batches=20).n == 500
    assert sequential.first_look(clean[:499], 0.01, 0.05, sequential.BELOW, at=AT, batches=20) is None


def test_a_design_effect_postpones_the_decision():
    clean = np.zeros(4000, dtype=bool)
    looks = [
        sequential.first_look(
            clean, 0.01, 0.05, sequential.BELOW, at=AT, batches=20, reference=lambda _n, d=d: d
        )
        for d in (1.0, 2.0, 4.0)
    ]
    assert [look.n for look in looks] == sorted(look.n for look in looks)
    assert looks[1].n > looks[0].n
    assert looks[2].effect == 4.0


def test_the_fewest_trials_that_decide():
    n = sequential.needed_trials(0.01, 0.05, first=1)
    wanted = -math.log(0.05)
    assert float(sequential.log_e(0, n, 0.01, sequential.BELOW)) >= wanted
    assert float(sequential.log_e(0, n - 1, 0.01, sequential.BELOW)) < wanted
    assert sequential.needed_trials(0.5, 0.05, first=500) == 500


def test_the_common_effect_is_that_of_a_more_frequent_exceedance():
    rng = np.random.default_rng(1)
    values = np.repeat(rng.random(400), 10)
    limit = np.sort(values)[math.ceil(0.95 * len(values)) - 1]
    assert sequential.common_effect([values], 0.05, 20) == intervals.design_effect([values > limit], 20)
    assert sequential.common_effect([], 0.05, 20) == 1.0
    assert sequential.common_effect([np.ones(50)], 0.05, 20) == 1.0


def test_looking_often_breaks_the_fixed_rule_and_not_the_e_process():
    """400 series of 4000 independent trials at the limit itself, looked at every 25: wrongly called below."""
    rng = np.random.default_rng(5)
    at = sequential.looks(4000, every=25, first=300)
    fixed = e_process = 0
    for _ in range(400):
        over = rng.random(4000) < 0.01
        x = np.cumsum(over)[at - 1]
        fixed += any(
            intervals.binomial_upper(float(k), float(n), 0.05) <= 0.01 for k, n in zip(x, at, strict=True)
        )
        e_process += bool((sequential.log_e(x, at, 0.01, sequential.BELOW) >= math.log(20)).any())
    assert fixed / 400 > 0.12
    assert e_process / 400 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 400)
