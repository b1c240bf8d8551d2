"""Scrapes of every engine, written after its sources: what is read from them, and what is not."""

import math
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from pytest_inferforge.exposition import EXPOSITIONS, Exposition, Series
from pytest_inferforge.measures import statistic
from pytest_inferforge.metrics import metric
from pytest_inferforge.telemetry import prometheus
from pytest_inferforge.telemetry.prometheus import Scrape

FOLDER = Path(__file__).parent / "expositions"
INF = math.inf


def text_of(engine, moment):
    return (FOLDER / f"{engine}-{moment}.txt").read_text()


def scrape(text, exposition, time_s=0.0):
    return Scrape(time_s=time_s, samples=prometheus.parse(text, exposition))


def both(engine):
    exposition = EXPOSITIONS[engine]
    first, last = (scrape(text_of(engine, moment), exposition) for moment in ("before", "after"))
    return first, last, exposition


# Sums and counts of the files, by hand.
BETWEEN = {
    "vllm": {
        "queue_s": (0.8 + 0.28) / 72,
        "prefill_s": (1.6 + 1.28) / 72,
        "decode_s": (22 + 18) / 72,
        "decode_s.p95": 0.5 + 0.3 * (69 - 10) / 62,
        "decode_s.p99": 0.8,
        "decode_s.p50": 0.5 + 0.3 * (36 - 10) / 62,
        "server_ttft_s": (2.6 + 1.4) / 72,
        "server_ttft_s.p50": 0.04 + 0.02 * (36 - 10) / 40,
        "server_ttft_s.p95": 0.08 + 0.02 * (69 - 65) / 7,
        "server_ttft_s.p99": 0.1,
        "server_e2e_s": (24 + 20) / 72,
        "server_e2e_s.p50": 0.5 + 0.3 * (36 - 10) / 60,
        "server_e2e_s.p95": 0.5 + 0.3 * (69 - 10) / 60,
        "server_e2e_s.p99": 1.0,
        "prefix_hit_ratio": (1024 + 512) / (5120 + 4096),
        "preemptions": 3.0,
        "spec_accepted_ratio": (1200 + 900) / (2400 + 2100),
        "spec_tokens_per_draft": 1 + (1200 + 900) / (800 + 700),
    },
    "sglang": {  # of four ranks two tell of the same requests
        "queue_s": 2 * 0.09 / 20,
        "queue_s.p50": 0.005 + 0.005 * 10 / 16,
        "queue_s.p95": 0.01 + 0.01 * (19 - 16) / 4,
        "queue_s.p99": 0.02,
        "prefill_s": 2 * 0.4 / 20,
        "prefill_s.p50": 0.02 + 0.03 * 10 / 20,
        "prefill_s.p95": 0.02 + 0.03 * 19 / 20,
        "prefill_s.p99": 0.05,
        "server_ttft_s": 3.0 / 20,
        "server_ttft_s.p50": 0.1 + 0.1 * (10 - 3) / 15,
        "server_ttft_s.p95": 0.2 + 0.2 * (19 - 18) / 2,
        "server_ttft_s.p99": 0.4,
        "server_e2e_s": 14.0 / 20,
        "server_e2e_s.p50": 0.6 + 0.2 * 10 / 20,
        "server_e2e_s.p95": 0.6 + 0.2 * 19 / 20,
        "server_e2e_s.p99": 0.8,
        "prefix_hit_ratio": (400 + 200) / (2000 + 400),
        "preemptions": 5.0,
        "spec_tokens_per_draft": 1000 / 400,
    },
    "tensorrt-llm": {
        "queue_s": 0.2 / 50,
        "prefill_s": 2.0 / 50,
        "prefill_s.p50": 0.025 + 0.025 * 25 / 50,
        "prefill_s.p95": 0.025 + 0.025 * 48 / 50,
        "prefill_s.p99": 0.05,
        "decode_s": 32.5 / 50,
        "decode_s.p50": 0.5 + 0.3 * 25 / 50,
        "decode_s.p95": 0.5 + 0.3 * 48 / 50,
        "decode_s.p99": 0.8,
        "server_ttft_s": 2.2 / 50,
        "server_ttft_s.p50": 0.04 + 0.02 * (25 - 10) / 40,
        "server_ttft_s.p95": 0.04 + 0.02 * (48 - 10) / 40,
        "server_ttft_s.p99": 0.06,
        "server_e2e_s": 35 / 50,
        "server_e2e_s.p50": 0.5 + 0.3 * 25 / 50,
        "server_e2e_s.p95": 0.5 + 0.3 * 48 / 50,
        "server_e2e_s.p99": 0.8,
        "prefix_hit_ratio": 30 / 150,
    },
    "llama.cpp": {"prefix_hit_ratio": 300 / 1200},
    "tgi": {
        "queue_s": 0.04 / 40,
        "server_e2e_s": 30 / 40,
        "server_e2e_s.p50": 0.5 + 0.5 * 20 / 40,
        "server_e2e_s.p95": 0.5 + 0.5 * 38 / 40,
        "server_e2e_s.p99": 1.0,
    },
    "lmdeploy": {
        "queue_s": 0.4 / 20,
        "prefill_s": 1.0 / 20,
        "decode_s": 21 / 20,
        "decode_s.p50": 1.0,
        "decode_s.p95": 1.0 + 0.5 * 9 / 10,
        "decode_s.p99": 1.5,
        "server_ttft_s": 1.45 / 20,
        "server_ttft_s.p50": 0.06 + 0.02 * 10 / 20,
        "server_ttft_s.p95": 0.06 + 0.02 * 19 / 20,
        "server_ttft_s.p99": 0.08,
        "server_e2e_s": 22.4 / 20,
        "server_e2e_s.p50": 1.0,
        "server_e2e_s.p95": 1.0 + 0.5 * 9 / 10,
        "server_e2e_s.p99": 1.5,
        "prefix_hit_ratio": 400 / 2000,
        "spec_accepted_ratio": 240 / 600,
        "spec_tokens_per_draft": 1 + 240 / 200,
    },
}
GENERATED = {
    "vllm": 4608.0, "sglang": 1000.0, "tensorrt-llm": 1600.0, "llama.cpp": 640.0, "tgi": 1600.0,
    "lmdeploy": 500.0,
}  # fmt: skip
STATE = {  # running, waiting, use of the KV cache
    "vllm": (11.0, 2.0, 0.375),
    "sglang": (7.0, 1.0, 0.5),
    "tensorrt-llm": (8.0, 1.0, 0.4),
    "llama.cpp": (3.0, 2.0, None),
    "tgi": (12.0, 3.0, None),
    "lmdeploy": (3.0, 4.0, 0.2),
}


def test_every_exposition_is_here():
    assert list(BETWEEN) == list(GENERATED) == list(STATE) == list(EXPOSITIONS)
    assert all(name == exposition.name for name, exposition in EXPOSITIONS.items())


@pytest.mark.parametrize("engine", EXPOSITIONS)
def test_what_happened_between_two_scrapes(engine):
    first, last, exposition = both(engine)
    found = prometheus.between(first, last, exposition)
    assert found == pytest.approx(BETWEEN[engine])
    assert all(metric(metric_id).quantity.telemetry for metric_id in found)
    assert prometheus.generated(first, last, exposition) == GENERATED[engine]


@pytest.mark.parametrize("engine", EXPOSITIONS)
def test_every_name_is_in_the_text_of_its_engine(engine):
    exposition = EXPOSITIONS[engine]
    text = text_of(engine, "after")
    series = (getattr(exposition, name) for name in Exposition.__dataclass_fields__)
    for found in series:
        if isinstance(found, Series):
            assert f"\n{found.name}" in text


@pytest.mark.parametrize("engine", EXPOSITIONS)
def test_the_state_is_summed_over_engines_and_the_fullest_cache_counts(engine):
    _, last, exposition = both(engine)
    idle = Scrape(
        time_s=1.0,
        samples={name: dict.fromkeys(series, 0.0) for name, series in last.samples.items()},
    )
    names = ("requests_running", "requests_waiting", "kv_cache_use_ratio")
    known = {n: v for n, v in zip(names, STATE[engine], strict=True) if v is not None}
    means = {name: value / 2 for name, value in known.items()}
    most = {f"{name}.max": value for name, value in known.items()}
    assert prometheus.over([last, idle], exposition) == pytest.approx(means | most)
    assert prometheus.over([], exposition) == {}


def test_sums_without_a_count_are_divided_by_what_the_client_counted():
    first, last, exposition = both("llama.cpp")
    found = prometheus.between(first, last, exposition, requests=20)
    assert found["prefill_s"] == pytest.approx(0.5 / 20)
    assert found["decode_s"] == pytest.approx(4.0 / 20)
    assert "prefill_s" not in prometheus.between(first, last, exposition, requests=0)


@pytest.mark.parametrize("engine", EXPOSITIONS)
def test_nothing_happened_is_absent_and_not_zero(engine):
    first, _, exposition = both(engine)
    assert set(prometheus.between(first, first, exposition)) <= {"preemptions"}


@pytest.mark.parametrize("engine", EXPOSITIONS)
def test_a_counter_that_fell_is_a_restart(engine):
    first, last, exposition = both(engine)
    assert not prometheus.restarted(first, last, exposition)
    assert prometheus.restarted(last, first, exposition)
    assert prometheus.between(last, first, exposition) == {}
    assert prometheus.generated(last, first, exposition) is None


def test_a_counter_that_is_gone_and_another_process_are_a_restart():
    first, last, exposition = both("vllm")
    without = {n: s for n, s in last.samples.items() if n != "vllm:num_preemptions_total"}
    assert prometheus.restarted(first, Scrape(time_s=1.0, samples=without), exposition)
    younger = last.samples | {"process_start_time_seconds": {(): 1.9e9}}
    assert prometheus.restarted(first, Scrape(time_s=1.0, samples=younger), exposition)
    unknown = {n: s for n, s in last.samples.items() if n != "process_start_time_seconds"}
    assert not prometheus.restarted(first, Scrape(time_s=1.0, samples=unknown), exposition)


def test_a_series_that_is_missing_leaves_only_its_own_metrics_out():
    first, last, exposition = both("vllm")
    lost = "vllm:request_queue_time_seconds_sum"
    parts = [
        Scrape(time_s=0, samples={n: s for n, s in x.samples.items() if n != lost}) for x in (first, last)
    ]
    found = prometheus.between(*parts, exposition)
    assert set(BETWEEN["vllm"]) - set(found) == {"queue_s"}


def test_of_labelled_totals_the_parts_are_not_added():
    exposition = EXPOSITIONS["sglang"]
    text = """\
sglang:num_running_reqs{model_name="m",priority="",tp_rank="0"} 5
sglang:num_running_reqs{model_name="m",priority="1",tp_rank="0"} 2
sglang:num_running_reqs{model_name="m",priority="2",tp_rank="0"} 3
sglang:num_queue_reqs{model_name="m",tp_rank="10"} 7
sglang:num_queue_reqs{model_name="m",tp_rank="9"} 4
"""
    found = prometheus.over([scrape(text, exposition)], exposition)
    assert (found["requests_running"], found["requests_waiting"]) == (5.0, 4.0)


def test_only_the_series_that_are_read_are_parsed():
    exposition = EXPOSITIONS["llama.cpp"]
    text = (
        'llamacpp:requests_processing 3\n{broken\nllamacpp:requests_processing_more 9\n'
        "other_total{a=\"llamacpp:requests_deferred 1\"} 2\nllamacpp:requests_deferred NaN\n"
    )  # fmt: skip
    assert prometheus.parse(text, exposition) == {"llamacpp:requests_processing": {(): 3.0}}
    with pytest.raises(ValueError, match="three"):
        prometheus.parse("llamacpp:requests_processing three\n", exposition)


def test_labels_may_hold_anything():
    text = 'vllm:num_requests_running{model_name="a \\"b\\" {c}, d\\\\e",engine="0"} 2 1763721441000\n'
    labels = (("engine", "0"), ("model_name", 'a "b" {c}, d\\e'))
    assert prometheus.parse(text, EXPOSITIONS["vllm"]) == {"vllm:num_requests_running": {labels: 2.0}}


def test_a_long_scrape_costs_little():
    exposition = EXPOSITIONS["vllm"]
    text = text_of("vllm", "after")
    long = text + "".join(
        f'other:histogram_{i}_bucket{{engine="0",model_name="m",le="{i}"}} {i}\n' for i in range(6000)
    )
    assert len(long) > 350_000
    prometheus.parse(long, exposition)
    began = time.process_time()
    for _ in range(5):
        assert prometheus.parse(long, exposition)
    assert (time.process_time() - began) / 5 < 0.2  # some 10 ms; all of it parsed would be 0.1 s and more


# -- quantiles -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bounds", "counts", "q", "value"),
    [
        ([0.1, 0.2, 0.4, INF], [0, 10, 0, 0], 0.5, 0.15),
        ([0.1, 0.2, 0.4, INF], [0, 10, 10, 0], 0.5, 0.2),
        ([0.1, 0.25, INF], [0, 4, 0], 0.5, 0.175),  # 2.5 times as wide: just narrow enough
        ([0.1, 0.26, INF], [0, 4, 0], 0.5, None),
        ([0.3, 0.5, INF], [9, 1, 0], 0.5, None),  # somewhere below the lowest bound
        ([0.3, 0.5, INF], [1, 9, 0], 0.5, 0.3 + 0.2 * 4 / 9),
        ([0.0, 0.5, INF], [0, 9, 0], 0.5, None),  # nothing is 2.5 times nothing
        ([0.1, 0.2, INF], [5, 5, 5], 0.99, None),  # somewhere above the highest bound
        ([0.1, 0.2, INF], [0, 0, 0], 0.5, None),
        ([], [], 0.5, None),
    ],
)
def test_a_quantile_is_known_only_where_its_bucket_is_narrow(bounds, counts, q, value):
    found = prometheus.quantile(bounds, counts, q)
    assert found is None if value is None else found == pytest.approx(value)


BOUNDS = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)


@given(
    values=st.lists(st.floats(1e-4, 20.0), min_size=1, max_size=60),
    q=st.sampled_from([0.5, 0.95, 0.99]),
)
@example(values=[0.02], q=0.5)
@example(values=[0.0004], q=0.5)
@example(values=[15.0], q=0.5)
def test_a_quantile_is_that_of_the_values_within_its_bucket(values, q):
    """Against the nearest rank of the values themselves, through the client library's own histogram."""
    registry = CollectorRegistry()
    histogram = Histogram("vllm:time_to_first_token_seconds", "h", buckets=BOUNDS, registry=registry)
    exposition = Exposition(name="vllm", ttft=Series(name="vllm:time_to_first_token_seconds"))
    before = scrape(generate_latest(registry).decode(), exposition)
    for value in values:
        histogram.observe(value)
    after = scrape(generate_latest(registry).decode(), exposition)
    found = prometheus.between(before, after, exposition)
    assert found["server_ttft_s"] == pytest.approx(np.mean(values))
    name = f"p{q * 100:g}"
    true = statistic(np.array(values), name)
    k = int(np.searchsorted(BOUNDS, true))  # a value at a bound is in the bucket below it
    told = found.get(f"server_ttft_s.{name}")
    if k in (0, len(BOUNDS)) or BOUNDS[k] > 2.5 * BOUNDS[k - 1] * (1 + 1e-9):
        assert told is None
    else:
        assert BOUNDS[k - 1] < told <= BOUNDS[k] * (1 + 1e-12)
        assert 1 / 2.5 < told / true < 2.5 * (1 + 1e-9)


def test_series_with_other_buckets_have_no_common_quantile():
    text = "".join(
        f'vllm:time_to_first_token_seconds_{part}{{engine="{engine}"{le}}} {value}\n'
        for engine, bound in (("0", 0.2), ("1", 0.3))
        for part, le, value in (
            ("bucket", ',le="0.1"', 0),
            ("bucket", f',le="{bound}"', 9),
            ("bucket", ',le="+Inf"', 9),
            ("count", "", 9),
            ("sum", "", 1.5),
        )
    )
    exposition = EXPOSITIONS["vllm"]
    nothing = Scrape(time_s=0, samples={})
    assert prometheus.between(nothing, scrape(text, exposition), exposition) == {
        "server_ttft_s": pytest.approx(3.0 / 18)
    }
