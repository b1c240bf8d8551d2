"""SLO checks as built, on boots of correlated log-normal requests whose true quantiles are known."""

import bisect
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from pytest_inferforge import slo
from pytest_inferforge.options import JudgeOptions

OPTIONS = JudgeOptions()
EXTENDED = replace(OPTIONS, extend=3)
SIGMA, PHI, REQUESTS = 0.35, 0.5, 1000
BOOT_SD = 0.02
IN_FLIGHT = 16  # requests that still run when a load is ended


def boot(simulate, rng, *, exceeding, requests=REQUESTS, phi=PHI):
    """Latencies of one boot, slower or faster than others, and the limit that this share of them exceeds."""
    level = math.exp(rng.normal(0.0, BOOT_SD))
    values = level * simulate.ar1_lognormal(rng, requests, sigma=SIGMA, phi=phi)
    return values, level * math.exp(SIGMA * stats.norm.isf(exceeding))


def p99_at(limit):
    return slo.parse(f"ttft p99 <= {limit:.12f} s")


def judge(clause, *tables, options=OPTIONS, looking=None):
    return slo.judge(clause, tables, options=options, limits={}, looking=looking)


def plain(simulate, rng, exceeding):
    """The planned requests, judged once; how many they were."""
    values, limit = boot(simulate, rng, exceeding=exceeding)
    return judge(p99_at(limit), simulate.run(values)), REQUESTS


def early(simulate, rng, exceeding, planned=REQUESTS):
    """`stop="early"`: what runs when it is decided ends, and counts."""
    values, limit = boot(simulate, rng, exceeding=exceeding, requests=planned)
    clause = p99_at(limit)
    looks = range(OPTIONS.look_first, planned, OPTIONS.look_every)

    def known(n):
        return slo.decided(clause, slo.Sample(over=values[:n] > limit, column=values[:n]), OPTIONS)

    k = bisect.bisect_left(looks, True, key=known)  # a decision stays
    if k == len(looks):
        return judge(clause, simulate.run(values), looking=slo.Looking()), planned
    n = min(looks[k] + IN_FLIGHT, planned)
    found = judge(clause, simulate.run(values[:n]), looking=slo.Looking(stopped=n < planned))
    assert found.verdict != "inconclusive"  # what ended the run decides its report
    return found, looks[k]


def extended(simulate, rng, exceeding):
    """`--infer-extend=3x`: piece after piece, as long as it is inconclusive."""
    values, limit = boot(simulate, rng, exceeding=exceeding, requests=EXTENDED.extend * REQUESTS)
    clause = p99_at(limit)
    first, *pieces = [simulate.run(part) for part in np.split(values, EXTENDED.extend)]
    for used in range(EXTENDED.extend):
        looking = slo.Looking(further=(tuple(pieces[:used]),))
        found = judge(clause, first, options=EXTENDED, looking=looking)
        if found.verdict != "inconclusive":
            break
    return found, found.n


WAYS = {"once": plain, "ended early": early, "extended to 3x": extended}


def replicates(sessions, one, *, seed):
    rng = np.random.default_rng(seed)
    return [one(rng) for _ in range(sessions)]


def at_most(share, sessions):
    """Which share may be seen where the true one is this."""
    return share + 3 * math.sqrt(share * (1.0 - share) / sessions)


@pytest.mark.parametrize("name", WAYS)
def test_at_the_boots_own_limit_neither_verdict_is_given_too_often(name, simulate, sessions, show):
    found = replicates(sessions, lambda rng: WAYS[name](simulate, rng, 0.01)[0].verdict, seed=20260102)
    for wrong in ("pass", "fail"):
        share = found.count(wrong) / sessions
        show(f"P99 exactly at the limit, {name:<14} false {wrong}       {share:6.1%} of {sessions} runs")
        assert share <= at_most(0.05, sessions)


@pytest.mark.parametrize(("exceeding", "right", "least"), [(0.002, "pass", 0.80), (0.03, "fail", 0.90)])
def test_a_clear_case_is_told(exceeding, right, least, simulate, sessions, show):
    found = replicates(sessions, lambda rng: plain(simulate, rng, exceeding)[0].verdict, seed=20260103)
    share = found.count(right) / sessions
    show(f"{exceeding:.1%} exceed where 1 % may, once           {right}  {share:6.1%} of {sessions} runs")
    assert share >= least


@pytest.mark.parametrize(
    ("exceeding", "right", "least", "most_requests"),
    [(0.002, "pass", 0.95, 1300), (0.003, "pass", 0.90, 1900), (0.03, "fail", 0.95, 800)],
)
def test_a_clear_case_is_told_early(exceeding, right, least, most_requests, simulate, sessions, show):
    def one(rng):
        found, n = early(simulate, rng, exceeding, planned=3000)
        return found.verdict, n

    found = replicates(sessions, one, seed=20260104)
    share = sum(verdict == right for verdict, _ in found) / sessions
    median = float(np.median([n for _, n in found]))
    show(
        f"{exceeding:.1%} exceed where 1 % may, ended early    {right}  {share:6.1%} of {sessions} runs,"
        f" median {median:.0f} of 3000 requests"
    )
    assert share >= least
    assert median <= most_requests


@pytest.mark.parametrize("boot_sd", [0.02, 0.05])
def test_at_the_limit_of_all_boots_the_next_one_is_seldom_misjudged(boot_sd, simulate, sessions, show):
    """Five boots of 1000 requests; the limit is the P99 of a boot like the median one."""
    limit = math.exp(SIGMA * stats.norm.isf(0.01))
    clause = slo.claimed_of(p99_at(limit), "deploy")

    def one(rng):
        boots = [
            simulate.run(
                math.exp(rng.normal(0.0, boot_sd))
                * simulate.ar1_lognormal(rng, REQUESTS, sigma=SIGMA, phi=PHI)
            )
            for _ in range(5)
        ]
        return judge(clause, *boots).verdict, judge(p99_at(limit), *boots).verdict

    found = replicates(sessions, one, seed=20260105)
    for wrong in ("pass", "fail"):
        share, without = (sum(v[k] == wrong for v in found) / sessions for k in (0, 1))
        show(
            f"the next boot, boot sd {boot_sd:.0%}              false {wrong}       {share:6.1%}"
            f" of {sessions} x 5 boots (these boots: {without:.1%})"
        )
        assert share <= at_most(0.05, sessions)


# -- intervals -------------------------------------------------------------------------------------------


def quantile_of_a_boot(statistic, exceeding, way):
    def one(simulate, rng):
        level = math.exp(rng.normal(0.0, BOOT_SD))
        n = REQUESTS * (EXTENDED.extend if way == "extended" else 1)
        values = level * simulate.ar1_lognormal(rng, n, sigma=SIGMA, phi=PHI)
        limit = level * math.exp(SIGMA * stats.norm.isf(exceeding))
        clause = slo.parse(f"ttft {statistic} <= {limit:.12f} s")
        true = level * math.exp(SIGMA * stats.norm.ppf(float(statistic[1:]) / 100.0))
        if way == "once":
            return judge(clause, simulate.run(values)), true
        first, *more = [simulate.run(part) for part in np.split(values, n // REQUESTS)]
        return judge(clause, first, options=EXTENDED, looking=slo.Looking(further=(tuple(more),))), true

    return one


def error_share(simulate, rng):
    values = simulate.ar1_lognormal(rng, REQUESTS, sigma=SIGMA, phi=PHI)
    failed = values > math.exp(SIGMA * stats.norm.isf(0.02))
    return judge(slo.parse("error rate <= 1 %"), simulate.run(values, failed)), 0.02


def mean_of_batches(simulate, rng):
    values = simulate.ar1_lognormal(rng, REQUESTS, sigma=SIGMA, phi=PHI)
    return judge(slo.parse("ttft mean < 1 s"), simulate.run(values)), math.exp(SIGMA**2 / 2)


def mean_of_boots(simulate, rng):
    level = np.exp(rng.normal(0.0, 0.05, 5) - 0.05**2 / 2)
    boots = [
        simulate.run(a * simulate.ar1_lognormal(rng, REQUESTS // 4, sigma=SIGMA, phi=PHI)) for a in level
    ]
    return judge(slo.parse("ttft mean < 1 s"), *boots), math.exp(SIGMA**2 / 2)


INTERVALS = {
    "P99, limit far above it": quantile_of_a_boot("p99", 0.0005, "once"),
    "P99, limit at it": quantile_of_a_boot("p99", 0.01, "once"),
    "P99, limit below it": quantile_of_a_boot("p99", 0.05, "once"),
    "P90, limit far above it": quantile_of_a_boot("p90", 0.0005, "once"),
    "P50, limit far above it": quantile_of_a_boot("p50", 0.0005, "once"),
    "P99 of three pieces": quantile_of_a_boot("p99", 0.01, "extended"),
    "error rate": error_share,
    "mean over 20 batches": mean_of_batches,
    "mean over 5 boots": mean_of_boots,
}


@pytest.mark.parametrize("name", INTERVALS)
def test_each_printed_bound_covers_the_truth(name, simulate, sessions, show):
    found = replicates(sessions, lambda rng: INTERVALS[name](simulate, rng), seed=20260106)
    below = sum(r.lower is None or r.lower <= true for r, true in found) / sessions
    above = sum(r.upper is None or r.upper >= true for r, true in found) / sessions
    show(f"bounds of {name:<26} cover      {below:6.1%} (lower), {above:.1%} (upper)")
    assert min(below, above) >= 0.95 - 3 * math.sqrt(0.05 * 0.95 / sessions)
