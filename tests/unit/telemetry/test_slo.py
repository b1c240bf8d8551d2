"""SLOs on what is measured beside the requests: one number a boot, and doubt where there is none."""

import pytest

from pytest_inferforge import slo as slos
from pytest_inferforge.errors import UsageError
from pytest_inferforge.gate.scale import margin_of, scale_of
from pytest_inferforge.metrics import METRICS, SERVER_QUANTILES, by_name, metric
from pytest_inferforge.options import JudgeOptions
from pytest_inferforge.records import BootResult
from pytest_inferforge.slo import Evidence
from pytest_inferforge.table import RequestTable
from pytest_inferforge.telemetry import prometheus

OPTIONS = JudgeOptions()
NOTHING = RequestTable.from_records([])


def judge(text, *boots):
    evidence = [Evidence(metrics=found) for found in boots]
    return slos.judge(slos.parse(text), [NOTHING] * len(boots), options=OPTIONS, limits={}, evidence=evidence)


@pytest.mark.parametrize(
    ("text", "metric_id", "op", "limit"),
    [
        ("queue < 50 ms", "queue_s", "<", 0.05),
        ("queue p95 < 50 ms", "queue_s.p95", "<", 0.05),
        ("p99(server ttft) <= 0.2 s", "server_ttft_s.p99", "<=", 0.2),
        ("queue_s < 0.05", "queue_s", "<", 0.05),
        ("peak vram < 20 GB", "peak_vram_bytes", "<", 20e9),
        ("waiting max <= 4", "requests_waiting.max", "<=", 4.0),
        ("requests_waiting.max <= 4", "requests_waiting.max", "<=", 4.0),
        ("preemptions <= 0", "preemptions", "<=", 0.0),
        ("prefix hit rate >= 80 %", "prefix_hit_ratio", ">=", 0.8),
        ("prefix hit ratio > 0 %", "prefix_hit_ratio", ">", 0.0),
        ("kv cache use max < 95 %", "kv_cache_use_ratio.max", "<", 0.95),
        ("kv cache use > 50 %", "kv_cache_use_ratio", ">", 0.5),
        ("gpu power < 0.7 kW", "gpu_power_w", "<", 700.0),
        ("gpu power > 100 W", "gpu_power_w", ">", 100.0),
        ("energy per token < 300 mJ/tok", "energy_j_per_output_tok", "<", 0.3),
        ("energy < 1 kWh", "energy_j", "<", 3.6e6),
        ("gpu clock >= 1.9 GHz", "gpu_clock_hz", ">=", 1.9e9),
        ("server cpu < 3 cores", "server_cpu_cores", "<", 3.0),
        ("acceptance length >= 2.5 tokens", "spec_tokens_per_draft", ">=", 2.5),
    ],
)
def test_clauses(text, metric_id, op, limit):
    clause = slos.parse(text)
    assert (clause.metric.id, clause.op, clause.limit) == (metric_id, op, pytest.approx(limit))
    assert clause.allowed_share is None
    assert slos.needed(clause, 0.05) is None


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("queue", "50 ms", "queue < 50 ms"),
        ("queue_p95", "50 ms", "queue p95 < 50 ms"),
        ("requests_waiting_max", 4, "requests waiting max < 4"),
        ("prefix_hit_rate", "80 %", "prefix hit rate >= 80 %"),
        ("gpu_power", "< 700 W", "gpu power < 700 W"),
    ],
)
def test_keywords(name, value, text):
    assert slos.from_keyword(name, value) == slos.parse(text)


@pytest.mark.parametrize(
    ("text", "what", "do"),
    [
        ("queue > 50 ms", "a lower queue_s is better", "queue < 50 ms"),
        ("prefix hit rate < 80 %", "a higher prefix_hit_ratio is better", "prefix hit rate > 80 %"),
        ("queue p90 < 50 ms", "queue_s has no statistic p90", "the mean; or queue_s.p50 or queue_s.p95"),
        ("queue mean < 50 ms", "queue_s has no statistic mean", "write queue_s: it is one number a run"),
        ("gpu power p99 < 50 W", "gpu_power_w has no statistic", "write gpu_power_w"),
        ("chat: queue < 50 ms", "does not tell classes apart", "drop the word"),
        ("preemptions < 0", "says nothing", "missed and kept"),
        ("prefix hit rate >= 0 %", "says nothing", "missed and kept"),
        ("kv cache use <= 100 %", "says nothing", "missed and kept"),
        ("peak vram < 20", "a size needs a unit", "20 MB or 20 GB"),
        ("peak vram < 20 W", "a size cannot be in W", "20 MB or 20 GB"),
        ("gpu use < 20 W", "a share cannot be in W", "20 %"),
    ],
)
def test_a_clause_that_cannot_be_judged_says_what_to_write(text, what, do):
    with pytest.raises(UsageError) as error:
        slos.parse(text)
    assert what in error.value.what
    assert do in error.value.do


def test_a_keyword_without_a_better_side_wants_its_operator():
    with pytest.raises(UsageError) as error:
        slos.from_keyword("gpu_power", "700 W")
    assert error.value.what == "neither a low nor a high gpu_power_w is better"
    assert error.value.do == 'write the operator: gpu_power="< 700 W" or gpu_power="> 700 W"'


@pytest.mark.parametrize(
    ("values", "verdict", "value"),
    [((0.04,), "pass", 0.04), ((0.06,), "fail", 0.06), ((0.05,), "fail", 0.05), ((0.03, 0.04), "pass", 0.04)],
)
def test_the_number_of_each_boot_must_keep_the_limit(values, verdict, value):
    found = judge("queue < 50 ms", *({"queue_s": v} for v in values))
    assert (found.verdict, found.value, found.misses_limit) == (verdict, value, verdict == "fail")
    assert (found.lower, found.upper) == (min(values), max(values))
    assert (found.n, found.unit) == (len(values), "boots")
    assert ("this holds for this boot" in found.reason) == (len(values) == 1)


def test_of_several_boots_the_worst_counts_whichever_side_that_is():
    assert judge("queue < 50 ms", {"queue_s": 0.01}, {"queue_s": 0.06}).verdict == "fail"
    low = judge("prefix hit rate >= 80 %", {"prefix_hit_ratio": 0.9}, {"prefix_hit_ratio": 0.7})
    assert (low.verdict, low.value) == ("fail", 0.7)
    assert "one number a boot: 70 % in the worst of 2" in low.reason


def test_what_was_not_measured_is_never_a_pass():
    for boots in ((), ({},), ({}, {"prefill_s": 0.1})):
        found = judge("queue < 50 ms", *boots)
        assert (found.verdict, found.value, found.n) == ("inconclusive", None, 0)
        assert found.reason == "queue_s was not measured"
    partly = judge("queue < 50 ms", {"queue_s": 0.01}, {})
    assert (partly.verdict, partly.misses_limit) == ("inconclusive", False)
    assert "not measured in 1 of 2 boots" in partly.reason
    assert judge("queue < 50 ms", {"queue_s": 0.09}, {}).verdict == "fail"


def test_it_is_no_limit_of_a_request():
    clauses = [slos.parse(text) for text in ("ttft p99 < 300 ms", "queue p99 < 50 ms", "waiting max < 4")]
    assert slos.per_request_limits(clauses) == {"ttft_s": ("<", 0.3)}


def test_goodput_is_not_touched_by_a_ratio_of_the_server():
    assert slos.parse("goodput ratio >= 95 %").allowed_share == pytest.approx(0.05)
    assert slos.parse("prefix hit ratio >= 95 %").allowed_share is None


# -- the table -------------------------------------------------------------------------------------------


def test_telemetry_is_one_number_a_run_with_the_statistics_that_are_read():
    beside = [quantity for quantity in METRICS.values() if quantity.telemetry]
    assert len(beside) == 25
    assert all(quantity.per == "run" for quantity in beside)
    assert not any(quantity.statistics for quantity in METRICS.values() if not quantity.telemetry)
    assert tuple(prometheus._QUANTILES) == SERVER_QUANTILES
    for quantity in beside:
        for name in quantity.statistics:
            assert metric(f"{quantity.id}.{name}").id == f"{quantity.id}.{name}"


@pytest.mark.parametrize("metric_id", ["queue_s", "queue_s.p99", "requests_waiting.max", "prefix_hit_ratio"])
def test_it_can_be_compared_like_any_other(metric_id):
    found = metric(metric_id)
    scale = scale_of(found)
    assert scale.value(scale.point(0.25)) == pytest.approx(0.25)
    assert margin_of(found, OPTIONS) > 0


def test_it_is_a_metric_of_a_boot():
    assert "metrics" in BootResult.__dataclass_fields__
    assert by_name("peak vram").id == "peak_vram_bytes"
