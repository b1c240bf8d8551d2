"""SLO checks as built, on one boot of correlated log-normal requests whose true quantile is known."""

import math

import numpy as np
import pytest
from scipy import stats

from pytest_inferforge import slo
from pytest_inferforge.options import JudgeOptions

OPTIONS = JudgeOptions()
SIGMA, PHI, REQUESTS = 0.35, 0.5, 1000


def verdicts(simulate, sessions, *, exceeding):
    """Verdicts on `ttft p99` where this share of requests truly exceeds the limit."""
    rng = np.random.default_rng(20260102)
    limit = math.exp(SIGMA * stats.norm.isf(exceeding))
    clause = slo.parse(f"ttft p99 <= {limit:.12f} s")
    found = []
    for _ in range(sessions):
        run = simulate.run(simulate.ar1_lognormal(rng, REQUESTS, sigma=SIGMA, phi=PHI))
        found.append(slo.judge(clause, [run], options=OPTIONS, limits={}).verdict.value)
    return found


@pytest.mark.parametrize("wrong", ["pass", "fail"])
def test_at_the_limit_neither_verdict_is_given_too_often(wrong, simulate, sessions, show):
    share = verdicts(simulate, sessions, exceeding=0.01).count(wrong) / sessions
    show(f"{'P99 exactly at the limit':<36} false {wrong}       {share:6.1%} of {sessions} runs")
    assert share <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / sessions)


@pytest.mark.parametrize(("exceeding", "right", "least"), [(0.002, "pass", 0.80), (0.03, "fail", 0.90)])
def test_a_clear_case_is_told(exceeding, right, least, simulate, sessions, show):
    share = verdicts(simulate, sessions, exceeding=exceeding).count(right) / sessions
    what = f"{exceeding:.1%} exceed where 1 % may"
    show(f"{what:<36} {right}             {share:6.1%} of {sessions} runs")
    assert share >= least
