"""One comparison as built, on simulated requests, beside gates that others use.

Each boot: 1000 requests, log-normal (sigma 0.35) and autocorrelated (AR(1), 0.5), a boot effect of 2 % and a
tail that is 3 % wider or narrower from boot to boot; sessions of one boot that differ in nothing else. The
figures to reproduce were simulated beforehand, 2000 repetitions each, for the same procedure.
"""

import math

import numpy as np
import pytest
from scipy import signal, stats

from pytest_inferforge import gate
from pytest_inferforge.options import JudgeOptions
from pytest_inferforge.records import BootResult, Fingerprint, RequestCounts, SessionResult, TestResult

OPTIONS = JudgeOptions()
REQUESTS, SIGMA, PHI = 1000, 0.35, 0.5
EXPECTED = {  # metric, stored sessions -> share red in % at no change, the margin, twice the margin
    ("ttft_s.mean", 5): (3.2, 33, 78), ("ttft_s.mean", 15): (3.8, 44, 91),
    ("ttft_s.p99", 5): (3.5, 32, 77), ("ttft_s.p99", 15): (4.2, 42, 90),
}  # fmt: skip
SHARES = {  # stored sessions, true change in margins -> regressed, not_regressed, inconclusive in %
    (5, 0.0): (3.4, 34, 62), (5, 0.5): (13, 15, 72), (5, 1.0): (31, 5, 64), (5, 2.0): (76, 0, 24),
    (10, 0.0): (3.8, 42, 54), (10, 0.5): (15, 17, 67), (10, 1.0): (39, 5, 56), (10, 2.0): (87, 0, 13),
}  # fmt: skip
BASE = 2000  # repetitions behind these figures
_COUNTS = RequestCounts(issued=REQUESTS, completed=REQUESTS, failed=0, cancelled=0)


def boots(rng, n):
    """float64 (n, 1000): TTFT of the requests of n boots."""
    steps = rng.normal(0.0, math.sqrt(1.0 - PHI**2), (n, REQUESTS))
    steps[:, 0] = rng.normal(size=n)
    unit = signal.lfilter([1.0], [1.0, -PHI], steps, axis=1)
    tail = SIGMA * (1.0 + rng.normal(0.0, 0.03, (n, 1)))
    return np.exp(rng.normal(0.0, 0.02, (n, 1)) + tail * unit)


def verdict(metric, stored, now):
    """What the gate says of one value against stored ones, a session a day."""
    found = gate.compare_session(
        session(len(stored), metric, now), [session(day, metric, v) for day, v in enumerate(stored)],
        name="main", options=OPTIONS,
    )  # fmt: skip
    return found[0].verdict.value


def session(day, metric, value):
    test = TestResult(
        nodeid="t.py::test",
        fingerprint=Fingerprint(),
        gated=(metric,),
        boots=(BootResult(boot=1, ready_s=None, requests=_COUNTS, metrics={metric: float(value)}),),
    )
    return SessionResult(
        schema=1, id=f"s{day}", started_at=f"2026-01-{day + 1:02}T00:00:00+00:00", version="0", seed=1,
        fingerprint=Fingerprint(), planned_boots=1, complete=True, accepted=True, tests=(test,),
    )  # fmt: skip


def within(share, expected_percent, repetitions):
    """3 standard errors of both simulations, and the rounding of a figure in whole points."""
    p = expected_percent / 100.0
    error = math.sqrt(max(p, 0.005) * (1.0 - min(p, 0.995)) * (1.0 / repetitions + 1.0 / BASE))
    rounding = 0.0005 if isinstance(expected_percent, float) else 0.005
    return abs(share - p) <= 3.0 * error + rounding


@pytest.mark.parametrize(("metric", "stored"), EXPECTED)
def test_the_rule_on_simulated_requests(metric, stored, sessions, show):
    rng, margin = np.random.default_rng(5), 0.05 if metric == "ttft_s.mean" else 0.10
    red = np.zeros(3)
    for _ in range(sessions):
        requests = boots(rng, stored + 1)
        values = requests.mean(axis=1) if margin == 0.05 else np.quantile(requests, 0.99, axis=1)
        red += [
            verdict(metric, values[:-1], values[-1] * (1.0 + k * margin)) == "regressed" for k in range(3)
        ]
    shares = red / sessions
    said = " / ".join(f"{s:.1%}" for s in shares)
    show(f"{metric:<12} {stored}v1  red at 0, 1, 2 margins  {said} (expected {EXPECTED[metric, stored]})")
    for share, expected in zip(shares, EXPECTED[metric, stored], strict=True):
        assert within(share, expected, sessions)


@pytest.mark.parametrize(("stored", "margins"), SHARES)
def test_the_three_answers(stored, margins, sessions, show):
    rng = np.random.default_rng(round(10 * margins) + stored)
    counted = dict.fromkeys(("regressed", "not_regressed", "inconclusive", "improved"), 0)
    for _ in range(sessions):
        values = np.exp(rng.normal(0.0, 0.03, stored + 1))
        counted[verdict("ttft_s.mean", values[:-1], values[-1] * (1.0 + 0.05 * margins))] += 1
    # an improvement is also shown not to be a regression; a wrong one counts with those
    counted["not_regressed"] += counted.pop("improved")
    shares = [n / sessions for n in counted.values()]
    expected = SHARES[stored, margins]
    said = " / ".join(f"{s:.1%}" for s in shares)
    show(f"CV 3 % {stored:>2}v1, {margins:g} x margin: {said} (expected {expected})")
    for share, percent in zip(shares, expected, strict=True):
        assert within(share, percent, sessions)


def test_gates_that_others_use_cry_wolf_on_the_same_data(sessions, show):
    """Welch's t on pooled requests, and 5 % against the last run: the difference that the session makes."""
    rng = np.random.default_rng(6)
    red = {"this gate": 0, "Welch on requests": 0, "5 % against the last run": 0}
    for _ in range(sessions):
        requests = boots(rng, 6)
        means = requests.mean(axis=1)
        red["this gate"] += verdict("ttft_s.mean", means[:-1], means[-1]) == "regressed"
        pooled = stats.ttest_ind(requests[-1], requests[:-1].ravel(), equal_var=False, alternative="greater")
        red["Welch on requests"] += pooled.pvalue < OPTIONS.alpha
        red["5 % against the last run"] += means[-1] > 1.05 * means[-2]
    shares = {name: n / sessions for name, n in red.items()}
    show("no change, 5v1: " + ", ".join(f"{name} {share:.1%}" for name, share in shares.items()))
    error = math.sqrt(0.05 * 0.95 / sessions)
    assert shares["this gate"] <= 0.05 + 3 * error
    assert shares["Welch on requests"] >= 0.15
    assert shares["5 % against the last run"] >= 0.05
