"""Parts of the scatter: a textbook's table by hand, simulation, and what cannot be told."""

import numpy as np
import pytest

from pytest_inferforge.stats.components import blocks_a_unit, components

# Snedecor & Cochran 1967, table 10.12.1: calcium of four turnip leaves, four determinations each.
TURNIPS = [
    [3.28, 3.09, 3.03, 3.03], [3.52, 3.48, 3.38, 3.38], [2.88, 2.80, 2.81, 2.76], [3.34, 3.38, 3.23, 3.26],
]  # fmt: skip


def test_a_textbook_example():
    found = components(TURNIPS)
    assert found.within_sd**2 == pytest.approx(0.0066, abs=5e-5)  # as printed there
    assert found.group_sd**2 == pytest.approx(0.0724, abs=5e-5)  # (0.2961 - 0.0066) / 4
    assert (found.group_df, found.within_df) == (3, 12)
    assert found.mean == pytest.approx(np.mean(TURNIPS))


def test_unequal_groups_by_hand():
    groups = [[1.0, 3.0], [5.0, 7.0, 3.0]]
    within = (2.0 + 8.0) / 3.0
    grand = 19.0 / 5.0
    between = 2.0 * (2.0 - grand) ** 2 + 3.0 * (5.0 - grand) ** 2
    size = 5.0 - (4.0 + 9.0) / 5.0
    found = components(groups)
    assert found.within_sd**2 == pytest.approx(within)
    assert found.group_sd**2 == pytest.approx((between - within) / size)
    assert found.mean == pytest.approx(3.5)


@pytest.mark.parametrize(("group_sd", "value_sd"), [(0.02, 0.01), (0.01, 0.03), (0.0, 0.02)])
def test_unequal_groups_give_the_truth_back_on_average(group_sd, value_sd):
    rng = np.random.default_rng(20261121)
    sizes = (3, 1, 2, 3, 2, 3)
    variances = []
    for _ in range(4000):
        groups = [rng.normal(rng.normal(0.0, group_sd), value_sd, n).tolist() for n in sizes]
        found = components(groups)
        variances.append((found.group_sd**2, found.within_sd**2))
    group_var, within_var = np.mean(variances, axis=0)
    assert within_var == pytest.approx(value_sd**2, rel=0.05)
    if group_sd > value_sd:
        assert group_var == pytest.approx(group_sd**2, rel=0.06)
    else:  # cut at 0, and so a little large
        assert group_sd**2 <= group_var < group_sd**2 + 0.3 * value_sd**2


def test_a_negative_part_is_cut_to_zero():
    found = components([[0.0, 2.0], [0.0, 2.0], [2.0, 0.0]])
    assert found.group_sd == 0.0
    assert found.within_sd == pytest.approx(2.0**0.5)


def test_what_cannot_be_told_is_none():
    one_each = components([[1.0], [2.0], [3.0]])
    assert (one_each.within_sd, one_each.within_df) == (None, 0)
    assert one_each.group_sd == pytest.approx(1.0)  # of both parts together
    one_group = components([[1.0, 2.0, 3.0]])
    assert (one_group.group_sd, one_group.group_df) == (None, 0)
    assert one_group.within_sd == pytest.approx(1.0)
    for wrong in ([], [[1.0], []]):
        with pytest.raises(ValueError, match="cannot part"):
            components(wrong)


def test_blocks_a_unit():
    assert blocks_a_unit(90.0, 10.0, 1.0, 2.0) == 6  # a boot of 90 s, blocks of 10 s that vary twice as much
    assert blocks_a_unit(1.0, 100.0, 1.0, 0.1) == 1
    assert blocks_a_unit(90.0, 10.0, 0.0, 2.0) is None


def test_so_many_blocks_are_best_at_a_given_cost():
    """The variance of the mean times its cost, by trying all numbers."""
    unit_cost, block_cost, unit_sd, block_sd = 30.0, 2.0, 0.5, 1.7
    loss = [(unit_sd**2 + block_sd**2 / r) * (unit_cost + r * block_cost) for r in range(1, 200)]
    best = 1 + int(np.argmin(loss))
    assert abs(blocks_a_unit(unit_cost, block_cost, unit_sd, block_sd) - best) <= 1
