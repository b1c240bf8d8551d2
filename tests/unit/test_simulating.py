"""The simulated gate: seeded, quiet without noise, at most alpha, and able to find what is there."""

import math

import numpy as np
import pytest

from pytest_inferforge import metrics
from pytest_inferforge.gate import simulating
from pytest_inferforge.gate.scale import scale_of
from pytest_inferforge.gate.simulating import CONFIRMING, STORED, TURNS, Plan, Scatter, alarms
from pytest_inferforge.options import JudgeOptions
from pytest_inferforge.stats.intervals import binomial_lower

OPTIONS = JudgeOptions()
WAYS = pytest.mark.parametrize("way", [TURNS, CONFIRMING, STORED])


def scatter(session_sd=0.01, boot_sd=0.02, tests=2):
    levels = {"ttft_s.mean": 0.1, "output_tok_per_s": 900.0, "ttft_beyond_ratio": 0.01}
    return [
        Scatter(
            nodeid=f"t{k}", metric=name, base=scale_of(metrics.metric(name)).point(level),
            session_sd=session_sd, boot_sd=boot_sd, requests=1000,
        )
        for k in range(tests) for name, level in levels.items()
    ]  # fmt: skip


def run(way, *, sessions=100, seed=1, shift=0.0, boots=1, **noise):
    plan = Plan(stored=10, boots=boots, way=way, pairs=4, confirming=2)
    rng = np.random.default_rng(seed)
    return alarms(scatter(**noise), plan, sessions=sessions, options=OPTIONS, rng=rng, shift=shift)


@WAYS
def test_without_noise_nothing_is_red_and_nothing_is_asked_for(way):
    found = run(way, sessions=20, session_sd=0.0, boot_sd=0.0)
    assert (found.sessions, found.red, found.asked) == (20, 0, 0)


@WAYS
def test_a_clear_loss_is_found(way):
    found = run(way, sessions=20, shift=math.log(1.3), session_sd=0.005, boot_sd=0.01)
    assert found.red == 20
    assert found.asked == (0 if way == STORED else 20)


@WAYS
def test_noise_alone_is_red_in_at_most_alpha(way):
    found = run(way, sessions=200, session_sd=0.05, boot_sd=0.05)
    assert binomial_lower(found.red, found.sessions, 0.01) <= OPTIONS.alpha


def test_noise_is_sometimes_red():
    assert run(STORED, sessions=200, session_sd=0.05, boot_sd=0.05, tests=1).red > 0


def test_the_session_part_is_shared_by_both_sides_in_turns():
    """Sessions that differ ask for boots; in turns these tell that nothing changed."""
    found = run(TURNS, sessions=100, session_sd=0.10, boot_sd=0.0005)
    assert found.asked > 10
    assert found.red <= 2


def test_the_same_seed_gives_the_same():
    assert run(TURNS, seed=5, session_sd=0.05) == run(TURNS, seed=5, session_sd=0.05)
    others = [run(TURNS, seed=s, sessions=40, session_sd=0.05, boot_sd=0.05) for s in range(6)]
    assert len({(a.red, a.asked) for a in others}) > 1


def test_more_boots_a_session_are_drawn():
    drawn = simulating._Simulated(scatter(boot_sd=0.1), np.random.default_rng(3))
    session = drawn.session(0, 3, drawn.day())
    for test in session.tests:
        assert [b.boot for b in test.boots] == [1, 2, 3]
        assert len({b.metrics["ttft_s.mean"] for b in test.boots}) == 3
        assert all(0.0 <= b.metrics["ttft_beyond_ratio"] <= 1.0 for b in test.boots)
        assert {b.requests.issued for b in test.boots} == {1000}


def test_it_draws_what_it_is_told():
    drawn = simulating._Simulated(scatter(session_sd=0.03, boot_sd=0.01, tests=1), np.random.default_rng(4))
    logs = np.array(
        [
            [math.log(b.metrics["ttft_s.mean"]) for b in drawn.session(0, 4, drawn.day()).tests[0].boots]
            for _ in range(2000)
        ]
    )
    assert logs.mean() == pytest.approx(math.log(0.1), abs=0.003)
    assert logs.std(axis=1, ddof=1).mean() == pytest.approx(0.01, rel=0.1)
    assert logs.mean(axis=1).std(ddof=1) == pytest.approx(math.sqrt(0.03**2 + 0.01**2 / 4), rel=0.06)


def test_progress_is_told():
    told = []
    plan = Plan(stored=3, boots=1, way=STORED, pairs=4, confirming=2)
    alarms(
        scatter(tests=1),
        plan,
        sessions=3,
        options=OPTIONS,
        rng=np.random.default_rng(1),
        on_session=told.append,
    )
    assert told == [1, 2, 3]
