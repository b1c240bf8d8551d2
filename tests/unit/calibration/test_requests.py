"""What request rows tell of a boot, and whose they are."""

import math

import numpy as np
import pytest

from pytest_inferforge import measures
from pytest_inferforge.calibration import requests
from pytest_inferforge.records import BootResult, Fingerprint, RequestCounts, TestResult
from pytest_inferforge.stats import sampling
from pytest_inferforge.table import RequestTable

GATED = ("ttft_s.mean", "ttft_s.p99", "tpot_s.mean")
COUNTS = RequestCounts(issued=200, completed=200, failed=0, cancelled=0)


@pytest.fixture
def table(make_request):
    def make(seed=1, n=200, fails=(), slow=()):
        rng = np.random.default_rng(seed)
        rows = []
        for i in range(n):
            due = i * 0.05
            first = due + 0.1 * math.exp(rng.normal(0.0, 0.3))
            first += 1.0 if i in slow else 0.0
            gap = 0.01 * math.exp(rng.normal(0.0, 0.1))
            chunks = tuple(first + gap * k for k in range(5))
            rows.append(make_request(i, due_s=due, chunks=chunks, fails="cut" if i in fails else None))
        return RequestTable.from_records(rows)

    return make


def boot_of(table, number=1):
    return BootResult(
        boot=number,
        ready_s=None,
        requests=COUNTS,
        metrics=measures.all_metrics(table),
        tails=measures.tails(table),
    )


def test_requests_belong_to_the_boot_whose_metrics_they_give(table):
    tables = [table(seed) for seed in (1, 2, 3)]
    boots = [boot_of(t, k + 1) for k, t in enumerate(tables)]
    for k, t in enumerate(tables):
        told = requests.told(t, GATED)
        assert set(told) == set(GATED)
        assert [requests.belongs(boot, told) for boot in boots] == [i == k for i in range(3)]
    assert not requests.belongs(boots[0], {})


def test_metrics_that_requests_do_not_tell_identify_nothing(table):
    assert requests.told(table(), ("ready_s", "ttft_beyond_ratio", "server_memory_bytes")) == {}


def test_every_gated_metric_and_the_share_beside_the_tail(table):
    t = table(slow=(100, 101, 102))
    test = TestResult(nodeid="a", fingerprint=Fingerprint(), gated=GATED, boots=(boot_of(t),))
    found = requests.of_boot(test, t, 20)
    ttft = measures.samples(t, "ttft_s")
    over = ttft > np.sort(ttft)[-3]  # 1 % of 200
    assert found.sds == pytest.approx({
        ("a", "ttft_s.mean"): sampling.log_sd_of_mean(ttft, 20),
        ("a", "ttft_s.p99"): sampling.log_sd_of_quantile(ttft, 0.99, 20),
        ("a", "tpot_s.mean"): sampling.log_sd_of_mean(measures.samples(t, "tpot_s"), 20),
        ("a", "ttft_beyond_ratio"): sampling.arcsine_sd_of_share(over, 20),
    })  # fmt: skip
    assert found.sds["a", "ttft_beyond_ratio"] > 1.2 / math.sqrt(
        200
    )  # slow ones that are neighbours tell less
    assert found.load_s["a"] == pytest.approx(10.0, abs=0.5)


@pytest.mark.parametrize(
    "name", ["output_tok_per_s", "request_per_s", "ttft_s.cvar95", "ttft_s.p50", "error_ratio"]
)
def test_rates_tails_and_shares_have_one_too(table, name):
    assert 0.0 < requests.request_sd(table(), name, beyond=None, batches=20) < 1.0


def test_failed_requests_are_outside_means_and_reach_tails(table):
    broken = table(fails=set(range(0, 200, 10)))
    assert requests.request_sd(broken, "ttft_s.mean", beyond=None, batches=20) > 0.0
    assert requests.request_sd(broken, "ttft_s.cvar95", beyond=None, batches=20) is None
    assert requests.request_sd(broken, "ttft_s.p99", beyond=None, batches=20) is None


@pytest.mark.parametrize("name", ["ready_s", "goodput_req_per_s", "goodput_ratio", "ttft_beyond_ratio"])
def test_what_is_not_known_is_none(table, name):
    assert requests.request_sd(table(), name, beyond=None, batches=20) is None
