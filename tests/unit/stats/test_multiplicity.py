import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_inferforge.stats.multiplicity import holm

probabilities = st.lists(st.floats(0, 1), max_size=12)


def test_holm_by_hand():
    # R: p.adjust(c(.01, .04, .03), "holm") -> 0.03 0.06 0.06
    assert holm([0.01, 0.04, 0.03], 3) == pytest.approx((0.03, 0.06, 0.06))


def test_missing_members_count_as_one():
    assert holm([0.01, 0.04], 4) == pytest.approx((0.04, 0.12))
    assert holm([0.5], 60) == (1.0,)
    assert holm([], 5) == ()


def test_a_family_holds_its_members():
    with pytest.raises(ValueError, match="cannot hold"):
        holm([0.1, 0.2], 1)


@given(p=probabilities, missing=st.integers(0, 5))
def test_leaving_members_out_is_the_same_as_adding_ones(p, missing):
    assert holm(p, len(p) + missing) == holm([*p, *[1.0] * missing], len(p) + missing)[: len(p)]


@given(p=probabilities)
def test_holm_never_rejects_more_than_raw_and_keeps_the_order(p):
    adjusted = holm(p, len(p))
    assert all(a >= raw for a, raw in zip(adjusted, p, strict=True))
    for i, k in itertools.combinations(range(len(p)), 2):
        if p[i] < p[k]:
            assert adjusted[i] <= adjusted[k]


def test_family_wise_error_is_alpha():
    draws = np.random.default_rng(2).random((4000, 20))
    red = sum(min(holm(list(p), 20)) <= 0.05 for p in draws)
    assert red / 4000 < 0.05 + 3 * 0.0035
