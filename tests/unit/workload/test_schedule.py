import itertools
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_inferforge.options import LoadOptions
from pytest_inferforge.workload import arguments as spec
from pytest_inferforge.workload import schedule

LEAST = {"arrivals": "poisson 50 req/s", "prompt_tokens": "uniform 8..64", "output_tokens": "uniform 1..32"}


def build(**arguments):
    workload = spec.from_arguments(LEAST | arguments, LoadOptions())
    return schedule.build(workload, warmup_waves=2, warmup_max_concurrency=32)


def same(one, other, *names):
    for name in names:
        np.testing.assert_array_equal(getattr(one.requests, name), getattr(other.requests, name))


ARRIVALS = st.builds(
    "{} {} req/s".format,
    st.sampled_from(["poisson", "constant"]),
    st.floats(0.5, 200).map(lambda x: round(x, 2)),
)


@given(ARRIVALS, st.integers(1, 200), st.integers(0, 2**31))
def test_every_request_is_there_in_order_and_again_next_time(arrivals, requests, seed):
    s = build(arrivals=arrivals, requests=requests, seed=seed)
    assert len(s.due_s) == len(s.requests.prompt_tokens) == len(s.requests.output_tokens) == requests
    assert all(a <= b for a, b in itertools.pairwise(s.due_s))
    assert s.due_s[0] >= 0.0
    again = build(arrivals=arrivals, requests=requests, seed=seed)
    assert again.hash == s.hash
    for field in fields(s.requests):
        np.testing.assert_array_equal(getattr(s.requests, field.name), getattr(again.requests, field.name))


@given(ARRIVALS, st.floats(0.5, 20), st.integers(0, 2**31))
def test_nothing_is_due_after_the_duration(arrivals, duration, seed):
    s = build(arrivals=arrivals, duration=duration, seed=seed)
    assert all(t < duration for t in s.due_s)
    rate = s.workload.arrivals.rate_per_s
    assert abs(len(s.due_s) - rate * duration) <= 6 * (rate * duration) ** 0.5 + 6


def test_equal_gaps_begin_at_once():
    assert build(arrivals="constant 4 req/s", requests=4).due_s.tolist() == [0.0, 0.25, 0.5, 0.75]
    assert build(arrivals="constant 4 req/s", duration="1 s").due_s.tolist() == [0.0, 0.25, 0.5, 0.75]


def test_independent_users_leave_gaps_as_different_as_they_are_long():
    gaps = np.diff(build(arrivals="poisson 50 req/s", requests=20_000).due_s)
    assert gaps.mean() == pytest.approx(0.02, rel=0.03)
    assert gaps.std() / gaps.mean() == pytest.approx(1.0, rel=0.05)
    assert np.corrcoef(gaps[1:], gaps[:-1])[0, 1] == pytest.approx(0.0, abs=0.03)


def test_another_seed_is_another_schedule_of_another_hash():
    one, other = build(requests=50, seed=1), build(requests=50, seed=2)
    assert (one.due_s != other.due_s).any()
    assert (one.requests.prompt_tokens != other.requests.prompt_tokens).any()
    assert one.hash != other.hash


def test_arrivals_prompts_and_outputs_do_not_disturb_each_other():
    s = build(requests=50)
    fixed = build(requests=50, prompt_tokens=8)
    same(fixed, s, "due_s", "output_tokens")
    slower = build(requests=50, arrivals="constant 1 req/s")
    same(slower, s, "prompt_tokens", "output_tokens")
    assert (build(requests=60).due_s[:50] == s.due_s).all()


def test_the_hash_knows_the_workload_and_not_what_bounds_a_hang():
    s = build(requests=50)
    assert s.hash == build(requests=50, timeout="5 s").hash
    assert s.hash != build(requests=50, prefix_cache=True).hash


def test_the_hash_is_the_same_everywhere_because_stored_baselines_hold_it():
    assert build(requests=50, seed=1).hash == "56ad1ddd455c8427"
    assert (
        build(requests=50, seed=1, prompt_tokens="lognormal median=256 sigma=0.5").hash == "d96755582c042462"
    )


def test_users_who_wait_have_no_due_times():
    s = build(arrivals="closed 4", requests=10)
    assert (len(s.due_s), len(s.requests)) == (0, 10)
    endless = build(arrivals="closed 4", duration="5 s")
    assert len(endless.requests) == schedule.CLOSED_POOL


@pytest.mark.parametrize(
    ("arguments", "concurrency", "requests"),
    [
        ({"arrivals": "closed 4"}, 4, 8),
        ({"arrivals": "closed 99"}, 32, 64),
        ({"arrivals": "poisson 8 req/s"}, 8, 16),
        ({"arrivals": "poisson 0.1 req/s"}, 1, 2),
        ({"arrivals": "closed 4", "warmup": 3}, 3, 3),
        ({"arrivals": "closed 4", "warmup": 0}, 1, 0),
    ],
)
def test_the_server_is_warmed_by_whole_waves_of_the_same_law(arguments, concurrency, requests):
    s = build(requests=20, **arguments)
    assert s.warmup_concurrency == concurrency
    assert len(s.warmup) == requests
    n = min(requests, 20)
    assert not n or (s.warmup.prompt_tokens[:n] != s.requests.prompt_tokens[:n]).any()


def test_a_time_too_short_for_any_arrival_is_an_empty_schedule():
    s = build(arrivals="poisson 0.001 req/s", duration="1 s")
    assert (len(s.due_s), len(s.requests), len(s.warmup)) == (0, 0, 0)
