import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from pytest_inferforge.errors import UsageError
from pytest_inferforge.workload import arrivals, due
from pytest_inferforge.workload.arrivals import Burst, Constant, Gamma, Poisson, Stage, Stages


def draw(value, *, seed=1, requests=None, duration_s=None):
    rng = np.random.default_rng(seed)
    return due.due_times(arrivals.parse(value), rng, requests=requests, duration_s=duration_s)


def area(stages, t):
    """How many are expected before t, by scipy's quadrature of the rate itself."""
    total, begin = 0.0, 0.0
    for stage in stages:
        upto = min(max(t - begin, 0.0), stage.duration_s)
        slope = (stage.end_per_s - stage.start_per_s) / stage.duration_s
        total += integrate.quad(lambda x, s=stage, k=slope: s.start_per_s + k * x, 0.0, upto)[0]
        begin += stage.duration_s
    return total


RATES = st.floats(0.5, 50)
STAGES = st.lists(
    st.builds(Stage, st.just(0.0) | RATES, st.just(0.0) | RATES, st.floats(0.1, 20)), min_size=1, max_size=4
).filter(lambda stages: any(stage.requests > 0 for stage in stages))  # fmt: skip
ENDLESS = st.one_of(
    st.builds(Poisson, RATES),
    st.builds(Constant, RATES),
    st.builds(Gamma, RATES, st.floats(0.05, 20)),
    st.builds(Burst, st.integers(1, 20), st.floats(0.1, 5)),
)
PROCESSES = st.sampled_from(["poisson", "constant"])


@given(ENDLESS, st.integers(1, 200), st.integers(0, 2**31))
def test_as_many_as_asked_for_in_order_and_again_next_time(value, requests, seed):
    times = draw(value, seed=seed, requests=requests)
    assert times.dtype == np.float64
    assert len(times) == requests
    assert times[0] >= 0.0
    assert np.all(np.diff(times) >= 0)
    assert np.array_equal(times, draw(value, seed=seed, requests=requests))
    assert np.array_equal(times, draw(value, seed=seed, requests=requests + 50)[:requests])


@given(ENDLESS, st.floats(0.01, 20), st.integers(0, 2**31))
def test_a_duration_holds_all_that_come_before_its_end_and_no_more(value, duration_s, seed):
    times = draw(value, seed=seed, duration_s=duration_s)
    assert np.all(times < duration_s)
    one_more = draw(value, seed=seed, requests=len(times) + 1)
    assert np.array_equal(times, one_more[:-1])
    assert one_more[-1] >= duration_s


@given(st.builds(Stages, PROCESSES, STAGES.map(tuple)), st.integers(1, 40), st.integers(0, 2**31))
def test_stages_end_by_themselves_and_are_cut_by_either_limit(value, requests, seed):
    times = draw(value, seed=seed)
    own = arrivals.own_duration_s(value)
    assert np.all(np.diff(times) >= 0)
    assert not len(times) or (times[0] >= 0.0 and times[-1] < own)
    assert np.array_equal(draw(value, seed=seed, requests=requests), times[:requests])
    assert np.array_equal(draw(value, seed=seed, duration_s=own / 2), times[times < own / 2])
    assert np.array_equal(draw(value, seed=seed, duration_s=own * 2), times)


@given(STAGES)
@settings(max_examples=50)
def test_equal_gaps_in_stages_come_when_the_area_is_a_whole_number(stages):
    times = draw(Stages("constant", tuple(stages)))
    total = sum(stage.requests for stage in stages)
    assert len(times) == math.ceil(total - 1e-9 * max(1.0, total))
    some = range(0, len(times), 1 + len(times) // 8)
    assert [area(stages, times[k]) for k in some] == pytest.approx(list(some), rel=1e-9, abs=1e-6)


@given(st.builds(Stages, PROCESSES, STAGES.map(tuple)), st.integers(0, 2**31))
def test_nothing_is_due_in_a_pause(value, seed):
    times = draw(value, seed=seed)
    begin = 0.0
    for stage in value.stages:
        end = begin + stage.duration_s
        if stage.requests == 0.0:
            assert not np.any((times >= begin) & (times < end - 1e-9))
        begin = end


def test_a_count_reached_when_a_pause_begins_waits_for_its_end():
    value = "constant 2 req/s for 2 s, 0 req/s for 10 s, 2 req/s for 1 s"
    assert list(draw(value)) == [0.0, 0.5, 1.0, 1.5, 12.0, 12.5]
    assert list(draw("constant 0 req/s for 3 s, 1 req/s for 2 s")) == [3.0, 4.0]


def test_ramps_follow_the_square_root_of_the_count():
    up = draw("constant ramp 0 -> 10 req/s over 10 s")
    assert up == pytest.approx(np.sqrt(2.0 * np.arange(50)))
    down = draw("constant ramp 10 -> 0 req/s over 10 s")
    assert down == pytest.approx(10 - np.sqrt(100 - 2.0 * np.arange(50)))


def test_a_ramp_that_hardly_rises_is_a_level():
    steady = draw(Stages("constant", (Stage(8.0, 8.0, 100.0),)))
    nearly = draw(Stages("constant", (Stage(8.0, 8.0 * (1 + 1e-13), 100.0),)))
    assert steady == pytest.approx(np.arange(800) / 8.0)
    assert nearly == pytest.approx(steady)


def test_equal_gaps_begin_at_once():
    assert list(draw("constant 4 req/s", requests=4)) == [0.0, 0.25, 0.5, 0.75]
    assert list(draw("constant 4 req/s", duration_s=1.0)) == [0.0, 0.25, 0.5, 0.75]
    assert len(draw("constant 10 req/s", duration_s=60.0)) == 600
    assert len(draw("constant 10 req/s for 60 s")) == 600
    assert len(draw("constant 0.1 req/s for 30 s")) == 3


def test_bursts_come_together():
    assert list(draw("burst 3")) == [0.0] * 3
    assert list(draw("burst 3", requests=2)) == [0.0] * 2
    assert list(draw("burst 3", requests=9)) == [0.0] * 3
    assert list(draw("burst 3", duration_s=5.0)) == [0.0] * 3
    assert list(draw("burst 2 every 10 s", requests=5)) == [0.0, 0.0, 10.0, 10.0, 20.0]
    assert list(draw("burst 2 every 10 s", duration_s=20.0)) == [0.0, 0.0, 10.0, 10.0]


@pytest.mark.parametrize(
    ("value", "law"),
    [
        ("poisson 50 req/s", stats.expon(scale=1 / 50)),
        ("gamma 50 req/s burstiness=1", stats.expon(scale=1 / 50)),
        ("gamma 50 req/s burstiness=0.25", stats.gamma(0.25, scale=1 / (50 * 0.25))),
        ("gamma 50 req/s cv=0.5", stats.gamma(4.0, scale=1 / (50 * 4.0))),
        ("50 req/s for 10 min", stats.expon(scale=1 / 50)),
    ],
)
def test_gaps_follow_their_law(value, law):
    gaps = np.diff(draw(value, requests=20_000), prepend=0.0)
    assert stats.kstest(gaps, law.cdf).pvalue > 0.01
    assert np.corrcoef(gaps[1:], gaps[:-1])[0, 1] == pytest.approx(0.0, abs=0.03)


@pytest.mark.parametrize(
    ("value", "dispersion"),
    [
        ("poisson 50 req/s", 1.0),
        ("gamma 50 req/s burstiness=0.25", 4.0),
        ("gamma 50 req/s burstiness=4", 0.25),
        ("constant 50 req/s", 0.0),
    ],
)
def test_counts_in_long_windows_are_as_uneven_as_the_gaps(value, dispersion):
    """Variance over mean of a renewal process' counts goes to the squared variation of its gaps."""
    times = draw(value, duration_s=20_000.0)
    counts = np.bincount((times / 10.0).astype(int), minlength=2000)
    assert counts.var() / counts.mean() == pytest.approx(dispersion, rel=0.12, abs=0.01)
    assert len(times) == pytest.approx(50 * 20_000, rel=0.005)


def test_a_ramp_brings_as_many_as_the_area_under_it_and_where_it_is():
    value = "ramp 10 -> 200 req/s over 60 s, hold 20 s"
    counts = [np.histogram(draw(value, seed=seed), bins=[0, 30, 60, 80])[0] for seed in range(50)]
    expected = np.array([1725.0, 4575.0, 4000.0])
    assert np.mean(counts, axis=0) == pytest.approx(expected, abs=float(4 * np.sqrt(4575 / 50)))
    assert np.var(counts, axis=0) / expected == pytest.approx(1.0, abs=0.8)


def test_a_million_arrivals_take_no_time():
    for value in ("poisson 1000 req/s", "gamma 1000 req/s cv=3", "constant 1000 req/s", "burst 9 every 1 ms"):
        assert len(draw(value, requests=1_000_000)) == 1_000_000
    assert len(draw("ramp 0 -> 2000 req/s over 1000 s")) == pytest.approx(1_000_000, rel=0.01)


@pytest.mark.parametrize(
    ("value", "limits", "what", "seen"),
    [
        ("poisson 8 req/s", {}, "poisson 8 req/s needs requests or a duration", "neither"),
        ("burst 8 every 1 s", {}, "burst 8 every 1 s needs requests or a duration", "neither"),
        (
            "poisson 8 req/s", {"requests": 1, "duration_s": 1.0},
            "poisson 8 req/s needs requests or a duration", "both",
        ),
        ("closed 8", {"requests": 1}, "these arrivals have no due times of their own", "closed 8"),
        ("trace a.csv", {"requests": 1}, "these arrivals have no due times of their own", "trace a.csv"),
        (
            "poisson 1e6 req/s", {"duration_s": 3600.0},
            "more than 50,000,000 requests cannot be scheduled",
            "poisson 1e+06 req/s: about 3,600,000,000",
        ),
        (
            "constant 1e6 req/s for 1 h", {},
            "more than 50,000,000 requests cannot be scheduled",
            "constant 1e+06 req/s for 3600 s: about 3,600,000,000",
        ),
    ],
)  # fmt: skip
def test_what_has_no_due_times_says_so(value, limits, what, seen):
    with pytest.raises(UsageError) as error:
        draw(value, **limits)
    assert error.value.what == what
    assert error.value.seen == seen
    assert error.value.do


def test_gaps_are_drawn_until_the_end_is_passed_however_short_they_turn_out():
    times = due._walk(lambda n: np.full(n, 1 / 1024), None, 4.0, 1.0, 1.0)
    assert np.array_equal(times, np.arange(1, 4 * 1024) / 1024)
