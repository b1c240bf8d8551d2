import math

import numpy as np
import pytest

from pytest_inferforge.stats import power
from pytest_inferforge.stats.compare import compare

# percent at sd 1, 2, 3, 5, 8 %, power 80 %, one-sided 5 %; then the first two at 0.5 %
TABLE = [
    (3, 1, (4.7, 9.6, 14.8, 25.8, 44), (13.5, 29)),
    (5, 1, (3.4, 7.0, 10.6, 18.3, 31), (6.3, 12.9)),
    (10, 1, (2.9, 5.9, 8.9, 15.3, 26), (4.4, 9.1)),
    (20, 1, (2.7, 5.5, 8.3, 14.2, 24), (3.9, 7.9)),
    (5, 5, (1.8, 3.5, 5.4, 9.1, 15), (2.7, 5.5)),
    (10, 5, (1.5, 2.9, 4.4, 7.5, 12), (2.1, 4.3)),
    (4, 4, (2.0, 4.1, 6.2, 10.6, 18), (3.3, 6.7)),
]


@pytest.mark.parametrize(("n", "m", "usual", "strict"), TABLE)
def test_mde_is_the_published_table(n, m, usual, strict):
    for alpha, row in ((0.05, usual), (0.005, strict)):
        for sd, percent in zip((0.01, 0.02, 0.03, 0.05, 0.08), row, strict=False):
            found = (power.mde_ratio(sd, n, m, alpha, 0.8) - 1) * 100
            assert found == pytest.approx(percent, abs=0.6 if percent == int(percent) else 0.06)


def test_detectable_shift_is_found_by_the_rule_with_that_power():
    rng = np.random.default_rng(11)
    margin = math.log1p(0.05)
    for sd in (0.005, 0.02):
        shift = power.detectable_shift(sd, 10, 1, 0.05, 0.8, margin)
        draws = [(rng.normal(0, sd, 10), [rng.normal(shift, sd)]) for _ in range(2000)]
        found = [compare(a, b, alpha=0.05, sd_floor=0.0) for a, b in draws]
        share = np.mean([d.p_worse <= 0.05 and d.diff >= margin for d in found])
        assert 0.77 < share < 0.84


def test_nothing_below_the_margin_is_detectable():
    assert power.detectable_shift(1e-9, 10, 1, 0.05, 0.8, 0.05) == pytest.approx(0.05)


def test_more_sessions_are_the_fewest_that_do():
    more = power.more_sessions(0.018, 5, 1, 0.05, 0.8, math.log(1.05))
    assert (
        power.mde_ratio(0.018, 5 + more, 1, 0.05, 0.8)
        <= 1.05
        < power.mde_ratio(0.018, 4 + more, 1, 0.05, 0.8)
    )


def test_more_sessions_are_none_when_this_session_alone_is_too_noisy():
    assert power.more_sessions(0.05, 5, 1, 0.05, 0.8, math.log(1.05)) is None
    assert power.more_sessions(0.001, 5, 1, 0.05, 0.8, math.log(1.05)) == 0


def test_boots_help_as_far_as_sessions_agree():
    shift = math.log(1.05)
    boots = power.boots_a_session(0.005, 0.05, 10, 1, 0.05, 0.8, shift)
    sd = [math.hypot(0.005, 0.05 / math.sqrt(k)) for k in (boots - 1, boots)]
    assert power.mde_ratio(sd[1], 10, 1, 0.05, 0.8) <= 1.05 < power.mde_ratio(sd[0], 10, 1, 0.05, 0.8)
    assert power.boots_a_session(0.03, 0.05, 10, 1, 0.05, 0.8, shift) is None
