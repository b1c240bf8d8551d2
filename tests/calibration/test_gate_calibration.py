"""The gate as built, over whole simulated sessions: does it cry wolf, and does it see the wolf?

20 tests x 3 metrics = 60 comparisons under Holm; 10 stored sessions on 10 days.
"""

import math

import numpy as np
import pytest

from pytest_inferforge import gate
from pytest_inferforge.options import JudgeOptions
from pytest_inferforge.stats.intervals import binomial_lower

OPTIONS = JudgeOptions()
HEAVY = 5.0  # degrees of freedom of Student's t: a boot in a hundred is 3.4 standard deviations off
SCENARIOS = {  # law, boots stored, boots now
    "a: boot sd 2 %": ({"boot_sd": 0.02, "session_sd": 0.0, "tail_df": HEAVY}, 3, 3),
    "b: session sd 2 % too": ({"boot_sd": 0.02, "session_sd": 0.02, "tail_df": HEAVY}, 3, 3),
    "c: 3 boots against 1": ({"boot_sd": 0.02, "session_sd": 0.0}, 3, 1),
    "c: 3 boots against 2, 15 % invalid": (
        {"boot_sd": 0.02, "session_sd": 0.02, "tail_df": HEAVY, "invalid": 0.15}, 3, 2,
    ),
}  # fmt: skip


def share_red(simulate, sessions, scenario, *, slower=None):
    """Share of sessions with a red comparison (in test 0, where that one is slower)."""
    law, stored, now = scenario
    law, rng = simulate.Law(**law), np.random.default_rng(20260101)
    red = 0
    for _ in range(sessions):
        reference = simulate.stored_sessions(rng, law, sessions=10, boots=stored)
        current = simulate.session(rng, law, day=10, boots=now, slower=slower)
        found = gate.compare_session(current, reference, name="main", options=OPTIONS)
        assert len(found) == 60
        red += any(c.verdict == "regressed" and (not slower or c.nodeid.endswith("::test_0")) for c in found)
    return red / sessions


@pytest.mark.parametrize("name", SCENARIOS)
def test_no_change_is_red_at_most_alpha(name, simulate, sessions, show):
    red = share_red(simulate, sessions, SCENARIOS[name])
    show(f"{name:<36} no change        red  {red:6.1%} of {sessions} sessions")
    assert binomial_lower(red * sessions, sessions, 0.01) <= 0.05


@pytest.mark.parametrize(("name", "least"), [("a: boot sd 2 %", 0.95), ("b: session sd 2 % too", 0.0)])
def test_ten_percent_in_one_test_is_found(name, least, simulate, sessions, show):
    found = share_red(simulate, sessions, SCENARIOS[name], slower={0: 1.10})
    show(f"{name:<36} +10 % in one     found {found:5.1%} of {sessions} sessions")
    assert found >= least


def test_the_calibration_can_fail(simulate):
    """Boots of one session counted as sessions: the error the session as a unit is there to prevent."""
    law, rng = simulate.Law(boot_sd=0.02, session_sd=0.02), np.random.default_rng(1)
    red = 0
    for _ in range(60):
        one = simulate.session(rng, law, day=0, boots=10)
        boots_as_sessions = [simulate.as_session(one, boot=k + 1, day=k) for k in range(10)]
        current = simulate.session(rng, law, day=10, boots=1)
        found = gate.compare_session(current, boots_as_sessions, name="main", options=OPTIONS)
        red += any(c.verdict == "regressed" for c in found)
    assert binomial_lower(red, 60, 0.01) > 0.05


def test_the_promised_power_is_the_power(simulate, sessions, show):
    """A slowdown of the size that is printed as detectable is found with the power asked for."""
    law, rng = simulate.Law(boot_sd=0.02, session_sd=0.01, tests=1), np.random.default_rng(2)
    key, found = ("test_suite.py::test_0", "ttft_s.mean"), 0
    for _ in range(sessions):
        reference = simulate.stored_sessions(rng, law, sessions=10, boots=3)
        promised = gate.detectable(reference, [key[0]], boots=3, options=OPTIONS)[key]
        current = simulate.session(rng, law, day=10, boots=3, slower={0: promised})
        verdicts = gate.compare_session(current, reference, name="main", options=OPTIONS)
        found += any(c.verdict == "regressed" for c in verdicts if c.metric == key[1])
    share, error = found / sessions, math.sqrt(0.16 / sessions)
    show(
        f"{'a slowdown of the promised size':<36} power 80 %       found {share:5.1%} of {sessions} sessions"
    )
    assert 0.80 - 3 * error <= share <= 0.85 + 3 * error  # Holm's later steps are easier than the first
