"""Capacity and drift: what the requests of a boot do not decide alone."""

import numpy as np
import pytest

from pytest_inferforge import slo
from pytest_inferforge.options import JudgeOptions
from pytest_inferforge.slo import Evidence
from pytest_inferforge.table import RequestTable

OPTIONS = JudgeOptions()


def judge(text, tables, evidence):
    return slo.judge(slo.parse(text), tables, options=OPTIONS, limits={}, evidence=evidence)


@pytest.mark.parametrize(
    ("bracket", "verdict", "value"),
    [
        ((20.0, 24.0), "pass", 20.0),
        ((16.0, 20.0), "pass", 16.0),
        ((10.0, 12.0), "fail", 10.0),
        ((14.0, 18.0), "inconclusive", 14.0),  # between what held and what broke nobody knows
        ((14.0, None), "inconclusive", 14.0),  # nothing broke
        ((0.0, 2.0), "fail", 0.0),
    ],
)
def test_capacity_lies_between_what_held_and_what_broke(bracket, verdict, value):
    found = judge("capacity >= 16 req/s", [], [Evidence(capacity_req_per_s=bracket)])
    assert (found.verdict, found.value, found.lower, found.upper) == (verdict, value, bracket[0], bracket[1])


def test_every_boot_must_hold_the_rate():
    boots = [Evidence(capacity_req_per_s=(20.0, 24.0)), Evidence(capacity_req_per_s=(10.0, 12.0))]
    assert judge("capacity >= 16 req/s", [], boots).verdict == "fail"


def test_without_a_stress_run_capacity_was_not_measured():
    found = judge("capacity >= 16 req/s", [], [Evidence()])
    assert (found.verdict, found.value) == ("inconclusive", None)
    assert 'arrivals="stress 1 -> 64 req/s"' in found.reason


def drifting(make_request, last_over_first, n=400, noise=0.02):
    rng = np.random.default_rng(2)
    ttft_s = 0.1 * np.linspace(1.0, last_over_first, n) * (1.0 + noise * rng.normal(size=n))
    return RequestTable.from_records(
        [
            make_request(k, due_s=k * 0.1, chunks=(k * 0.1 + ttft_s[k], k * 0.1 + ttft_s[k] + 0.1))
            for k in range(n)
        ]
    )


@pytest.mark.parametrize(
    ("last_over_first", "verdict"), [(1.0, "pass"), (1.02, "pass"), (1.5, "fail"), (0.5, "pass")]
)
def test_a_drift_of_latency_is_the_line_through_the_run(make_request, last_over_first, verdict):
    table = drifting(make_request, last_over_first)
    found = judge("ttft drift <= 10 %", [table], [Evidence()])
    assert found.verdict == verdict
    assert found.value == pytest.approx(last_over_first - 1.0, abs=0.04)
    assert found.lower <= found.value <= found.upper
    assert found.unit == "slices"


def test_a_drift_near_its_limit_cannot_be_told(make_request):
    assert judge("ttft drift <= 10 %", [drifting(make_request, 1.1)], [Evidence()]).verdict == "inconclusive"


def test_a_server_whose_memory_grows_is_found():
    rng = np.random.default_rng(1)
    leak = tuple((float(t), int(1e9 + 5e6 * t + 1e5 * rng.normal())) for t in range(60))
    level = tuple((float(t), int(1e9 + 1e5 * rng.normal())) for t in range(60))
    table = RequestTable.from_records([])
    assert judge("server memory drift <= 5 %", [table], [Evidence(server_memory=leak)]).verdict == "fail"
    assert judge("server memory drift <= 5 %", [table], [Evidence(server_memory=level)]).verdict == "pass"
    unknown = judge("server memory drift <= 5 %", [table], [Evidence()])
    assert (unknown.verdict, unknown.value) == ("inconclusive", None)


def test_a_class_goes_before_its_clause():
    found = slo.parse("chat: ttft p99 < 300 ms")
    assert (found.of, found.metric.id, found.text) == ("chat", "ttft_s.p99", "chat: ttft p99 < 300 ms")
    assert found != slo.parse("ttft p99 < 300 ms")
