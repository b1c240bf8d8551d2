import numpy as np
import pytest
from scipy import stats

from pytest_inferforge.stats import trend


def test_a_straight_line_is_found_exactly():
    found = trend.relative_change(100.0 + 5.0 * np.arange(11), 0.05)
    assert found.change == pytest.approx(0.5)
    assert found.lower == pytest.approx(0.5)
    assert found.upper == pytest.approx(0.5)


def test_the_bounds_are_those_of_scipys_regression():
    rng = np.random.default_rng(3)
    parts = 50.0 + rng.normal(size=20)
    found = trend.relative_change(parts, 0.05)
    line = stats.linregress(np.arange(20), parts)
    reach = stats.t.ppf(0.95, 18) * line.stderr
    scale = 19 / line.intercept
    assert found.change == pytest.approx(line.slope * scale)
    assert found.lower == pytest.approx((line.slope - reach) * scale)
    assert found.upper == pytest.approx((line.slope + reach) * scale)


def test_no_drift_is_called_one_at_most_as_often_as_alpha_allows():
    rng = np.random.default_rng(11)
    runs = [trend.relative_change(50.0 + rng.normal(size=20), 0.05) for _ in range(4000)]
    above = np.mean([run.lower > 0 for run in runs])
    below = np.mean([run.upper < 0 for run in runs])
    error = 3 * np.sqrt(0.05 * 0.95 / 4000)
    assert above == pytest.approx(0.05, abs=error)
    assert below == pytest.approx(0.05, abs=error)


@pytest.mark.parametrize("parts", [[], [1.0, 2.0, 3.0], [1.0, np.inf, 2.0, 3.0], [-1.0, 0.0, 1.0, 2.0]])
def test_where_there_is_nothing_to_draw_a_line_through_it_says_nothing(parts):
    assert trend.relative_change(np.array(parts), 0.05) is None
