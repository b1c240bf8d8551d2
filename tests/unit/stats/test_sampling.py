"""The error of one boot's statistics, estimated from that boot, against what many boots show."""

import math

import numpy as np
import pytest

from pytest_inferforge.stats import sampling

N, BATCHES = 1000, 20


def quantile(q):
    return (
        lambda x: math.log(np.quantile(x, q)),
        lambda x: sampling.log_sd_of_quantile(x, q, BATCHES),
    )


WAYS = {
    "mean": (lambda x: math.log(x.mean()), lambda x: sampling.log_sd_of_mean(x, BATCHES)),
    "p50": quantile(0.5),
    "p95": quantile(0.95),
    "p99": quantile(0.99),
    "slowest": (
        lambda x: math.log(np.sort(x)[-50:].mean()),
        lambda x: sampling.log_sd_of_slowest(x, 0.05, BATCHES),
    ),
    "share": (
        lambda x: 2 * math.asin(math.sqrt((x > 1.7).mean())),
        lambda x: sampling.arcsine_sd_of_share(x > 1.7, BATCHES),
    ),
}


def series(rng, phi, sigma=0.35):
    """Log-normal, with that correlation of neighbours."""
    steps = rng.normal(0.0, sigma * math.sqrt(1.0 - phi**2), N)
    logs = np.empty(N)
    logs[0] = rng.normal(0.0, sigma)
    for i in range(1, N):
        logs[i] = phi * logs[i - 1] + steps[i]
    return np.exp(logs)


@pytest.mark.parametrize("phi", [0.0, 0.5])
@pytest.mark.parametrize("way", WAYS)
def test_the_estimate_is_what_boots_show(way, phi):
    value, estimate = WAYS[way]
    rng = np.random.default_rng(7)
    boots = [series(rng, phi) for _ in range(400)]
    true = float(np.std([value(b) for b in boots], ddof=1))
    told = math.sqrt(float(np.mean([estimate(b) ** 2 for b in boots])))
    assert told == pytest.approx(true, rel=0.25)


def test_correlation_is_seen():
    rng = np.random.default_rng(8)
    apart, alike = series(rng, 0.0), series(rng, 0.9)
    assert sampling.log_sd_of_mean(alike, BATCHES) > 2 * sampling.log_sd_of_mean(apart, BATCHES)


def test_too_little_is_none():
    few = np.array([1.0, 2.0, 3.0])
    assert sampling.log_sd_of_mean(few, BATCHES) is None
    assert sampling.log_sd_of_mean(np.zeros(100), BATCHES) is None
    assert sampling.log_sd_of_quantile(few, 0.5, BATCHES) is None
    assert sampling.log_sd_of_quantile(np.array([1.0] * 50 + [math.inf]), 0.99, BATCHES) is None
    assert sampling.log_sd_of_slowest(few, 0.05, BATCHES) is None
    assert sampling.arcsine_sd_of_share(np.empty(0, dtype=bool), BATCHES) is None


def test_a_quantile_at_the_largest_value_has_the_half_below():
    values = np.linspace(1.0, 2.0, 50)
    assert 0.0 < sampling.log_sd_of_quantile(values, 0.99, BATCHES) < math.log(2.0)
