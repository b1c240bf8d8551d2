"""Rules that the gate does not use, on the same simulated data as its own: who is wrongly red, who finds it.


A reference of ten boots and one or three new ones, 1000 autocorrelated log-normal requests each (sigma 0.35,
AR(1) 0.5), a boot effect of 2 %; one comparison of a mean with a margin of 5 %, nothing else differs. Then
boots of one session taken for sessions, and an SLO on a P99 that lies exactly at its limit.

    python benchmarks/rejected_rules.py [--repetitions 1000]
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import signal, stats
from tabulate import tabulate

from pytest_inferforge.options import JudgeOptions
from pytest_inferforge.stats import compare, intervals

Floats = NDArray[np.float64]
Rule = Callable[[Floats, Floats], bool]

OPTIONS = JudgeOptions()
REQUESTS, STORED, SIGMA, PHI, BOOT_SD = 1000, 10, 0.35, 0.5, 0.02
RESAMPLES = 500
RNG = np.random.default_rng(20260101)


def log_latencies(boots: int, shift: float = 0.0, *, boot_sd: float = BOOT_SD) -> Floats:
    """float64 (boots, REQUESTS): logs of latencies, autocorrelated within a boot, with a boot effect."""
    noise = RNG.normal(0.0, SIGMA * math.sqrt(1.0 - PHI**2), (boots, REQUESTS))
    noise[:, 0] = RNG.normal(0.0, SIGMA, boots)
    within = signal.lfilter([1.0], [1.0, -PHI], noise, axis=1)
    return within + RNG.normal(0.0, boot_sd, (boots, 1)) + shift


def gate(stored: Floats, now: Floats) -> bool:
    """The rule of this package: the new boots are one value."""
    means = np.log(np.exp(now).mean(axis=1))
    found = compare.compare(
        list(np.log(np.exp(stored).mean(axis=1))),
        [float(means.mean())],
        alpha=OPTIONS.alpha,
        sd_floor=OPTIONS.sd_floor,
    )
    return found.p_worse <= OPTIONS.alpha and found.diff >= math.log1p(OPTIONS.margin_mean)


def welch_on_requests(stored: Floats, now: Floats) -> bool:
    test = stats.ttest_ind(now.ravel(), stored.ravel(), equal_var=False, alternative="greater")
    return bool(test.pvalue <= OPTIONS.alpha)


def mann_whitney_on_requests(stored: Floats, now: Floats) -> bool:
    test = stats.mannwhitneyu(now.ravel(), stored.ravel(), alternative="greater")
    return bool(test.pvalue <= OPTIONS.alpha)


def bootstrap_of_boots(stored: Floats, now: Floats) -> bool:
    then, new = (np.log(np.exp(side).mean(axis=1)) for side in (stored, now))
    means = [side[RNG.integers(0, len(side), (RESAMPLES, len(side)))].mean(axis=1) for side in (new, then)]
    return bool(np.quantile(means[0] - means[1], OPTIONS.alpha) > 0.0)


def margin_over_the_last_run(stored: Floats, now: Floats) -> bool:
    return bool(np.exp(now).mean() > (1.0 + OPTIONS.margin_mean) * np.exp(stored[-1]).mean())


RULES: dict[str, Rule] = {
    "the gate": gate,
    "Welch's t on requests": welch_on_requests,
    "Mann-Whitney on requests": mann_whitney_on_requests,
    "bootstrap of boots": bootstrap_of_boots,
    "5 % over the last run": margin_over_the_last_run,
}


def rules(repetitions: int) -> list[list[str]]:
    """Share of red comparisons by rule, number of new boots and true slowdown."""
    cells = [(m, slower) for m in (1, 3) for slower in (0.0, 0.05, 0.10)]
    names = [*RULES, "red only if a rerun is red", "three looks, red at any"]
    red = {name: dict.fromkeys(cells, 0) for name in names}
    for m, slower in cells:
        for _ in range(repetitions):
            stored, now = log_latencies(STORED), log_latencies(m, math.log1p(slower))
            verdicts = {name: rule(stored, now) for name, rule in RULES.items()}
            again = [gate(stored, log_latencies(m, math.log1p(slower))) for _ in range(2)]
            verdicts["red only if a rerun is red"] = verdicts["the gate"] and again[0]
            verdicts["three looks, red at any"] = verdicts["the gate"] or any(again)
            for name, verdict in verdicts.items():
                red[name][m, slower] += verdict
    return [[name, *(f"{red[name][cell] / repetitions:.1%}" for cell in cells)] for name in names]


def sessions(repetitions: int) -> list[list[str]]:
    """Share of false red when boots and sessions vary by 2 %: boots as sessions, and sessions themselves."""
    rows = []
    for m in (1, 3, 5):
        as_boots = as_sessions = 0
        for _ in range(repetitions):
            one_session = RNG.normal(0.0, BOOT_SD) + RNG.normal(0.0, BOOT_SD, STORED)
            now = RNG.normal(0.0, BOOT_SD) + RNG.normal(0.0, BOOT_SD, m)
            ten = RNG.normal(0.0, BOOT_SD, STORED) + RNG.normal(0.0, BOOT_SD / math.sqrt(m), STORED)
            as_boots += _differ(one_session, now)
            as_sessions += _differ(ten, np.array([now.mean()]))
        rows.append([str(m), f"{as_boots / repetitions:.1%}", f"{as_sessions / repetitions:.1%}"])
    return rows


def _differ(stored: Floats, now: Floats) -> bool:
    found = compare.compare(list(stored), list(now), alpha=OPTIONS.alpha, sd_floor=OPTIONS.sd_floor)
    return found.p_worse <= OPTIONS.alpha


def slo_at_its_limit(repetitions: int) -> list[list[str]]:
    """How often a P99 that lies exactly at its limit passes, by rule."""
    limit = SIGMA * float(stats.norm.isf(0.01))
    point = bounds = effective = 0
    for _ in range(repetitions):
        over = log_latencies(1, boot_sd=0.0)[0] > limit
        x, n = int(over.sum()), len(over)
        effect = intervals.design_effect([over], OPTIONS.batches)
        point += x <= 0.01 * n
        bounds += intervals.binomial_upper(x, n, OPTIONS.alpha) <= 0.01
        effective += intervals.binomial_upper(x / effect, n / effect, OPTIONS.alpha) <= 0.01
    shares = (point, bounds, effective)
    names = ("point estimate", "exact bound, requests as independent", "exact bound, design effect")
    return [[name, f"{share / repetitions:.1%}"] for name, share in zip(names, shares, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=1000)
    n = parser.parse_args().repetitions
    print(f"red, of {n}; 1 or 3 new boots, true slowdown 0, 5, 10 %")
    print(tabulate(rules(n), headers=["rule", "1: 0", "1: 5 %", "1: 10 %", "3: 0", "3: 5 %", "3: 10 %"]))
    print(f"\nwrongly red, of {10 * n}, when boots and sessions vary by 2 %")
    print(tabulate(sessions(10 * n), headers=["boots now", "ten boots of one session", "ten sessions"]))
    print(f"\npasses, of {n}, with the true P99 exactly at the limit")
    print(tabulate(slo_at_its_limit(n), headers=["rule", "passes"]))


if __name__ == "__main__":
    main()
