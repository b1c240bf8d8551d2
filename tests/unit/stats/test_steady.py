import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_inferforge.stats import steady


@given(st.lists(st.integers(0, 50).map(float), min_size=4, max_size=60))
def test_it_is_the_rule_as_it_is_written_down(values):
    found = steady.mser(np.array(values))
    spread = [np.var(values[d:]) / (len(values) - d) for d in range(len(values) // 2 + 1)]
    assert spread[found] == pytest.approx(min(spread), abs=1e-9)


def test_a_build_up_is_left_out_and_what_is_steady_is_kept():
    rng = np.random.default_rng(5)
    rising = 100.0 + rng.normal(size=40)
    rising[:6] = [5, 20, 40, 60, 80, 90]
    assert 6 <= steady.build_up(rising) <= 20


def test_steady_noise_is_seldom_cut():
    rng = np.random.default_rng(5)
    cut = [steady.build_up(100.0 + rng.normal(size=40)) for _ in range(500)]
    assert np.mean([c > 0 for c in cut]) < 0.05


def test_at_most_half_is_left_out():
    assert 0 < steady.build_up(np.arange(40.0)) <= 20
    assert steady.mser(np.array([1.0, 2.0, 3.0])) == 0
