"""The definitions of latencies, rates and goodput, on tables small enough to work out by hand."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_inferforge import measures
from pytest_inferforge.metrics import METRICS, STATISTICS
from pytest_inferforge.table import RequestTable

NAN = math.nan
INF = math.inf


@pytest.fixture(scope="module")
def table(make_request):
    """A table of requests given as keyword arguments, in schedule order."""

    def build(*requests):
        records = [make_request(k, **fields) for k, fields in enumerate(requests)]
        return RequestTable.from_records(records)

    return build


def same(seen, expected):
    return seen == pytest.approx(expected, nan_ok=True)


# -- one value a request


def test_latencies_run_from_the_due_time_and_service_latencies_from_the_send(table):
    t = table({"due_s": 1.0, "send_s": 1.2, "chunks": (1.5, 1.8)})
    assert same(measures.values(t, "ttft_s"), [0.5])
    assert same(measures.values(t, "e2e_s"), [0.8])
    assert same(measures.values(t, "ttft_service_s"), [0.3])
    assert same(measures.values(t, "e2e_service_s"), [0.6])
    assert same(measures.values(t, "schedule_lag_s"), [0.2])


def test_where_each_user_waits_for_its_answer_both_latencies_are_one(table):
    t = table({"due_s": None, "send_s": 1.2, "chunks": (1.5, 1.8)})
    for felt, service in (("ttft_s", "ttft_service_s"), ("e2e_s", "e2e_service_s")):
        assert measures.values(t, felt).tolist() == measures.values(t, service).tolist()
    assert same(measures.values(t, "ttft_s"), [0.3])
    assert same(measures.values(t, "schedule_lag_s"), [NAN])


def test_an_empty_chunk_is_an_event_but_no_token(table):
    t = table({"first_event_s": 0.02, "chunks": (0.3, 0.4), "empty_chunks": 2})
    assert same(measures.values(t, "ttft_any_s"), [0.02])
    assert same(measures.values(t, "ttft_s"), [0.3])


def test_reasoning_ends_the_time_to_first_token_but_not_to_first_output(table):
    t = table(
        {"chunks": (0.1, 0.2, 0.9), "first_visible_s": 0.9}, {"chunks": (0.1,), "first_visible_s": None}
    )
    assert same(measures.values(t, "ttft_s"), [0.1, 0.1])
    assert same(measures.values(t, "ttfo_s"), [0.9, NAN])


@pytest.mark.parametrize(
    ("chunks", "tokens", "tpot"),
    [
        ((1.0, 1.1, 1.2, 1.3), 4, 0.1),
        ((1.0, 1.3), 4, 0.1),  # three tokens in the last chunk: chunks are not tokens
        ((1.0,), 1, NAN),
        ((1.0,), 64, NAN),  # all at once: there is no time between tokens, and it is not 0
        ((1.0, 1.0, 1.0), 3, NAN),
        ((1.0, 1.2), None, 0.2),
    ],
)
def test_time_per_token_leaves_out_the_first_and_is_undefined_without_a_second(table, chunks, tokens, tpot):
    assert same(measures.values(table({"chunks": chunks, "tokens": tokens}), "tpot_s"), [tpot])


@pytest.mark.parametrize(
    ("chunks", "tokens", "first", "tpot"),
    [
        ((1.0, 1.4), 12, 10, 0.2),  # ten tokens in the first chunk: two came after it
        ((1.0, 1.1, 1.2), 3, 1, 0.1),
        ((1.0, 1.2), 3, None, 0.1),  # not known: one
        ((1.0, 1.2), 4, 4, NAN),  # a chunk of nothing that was counted
        ((1.0,), 64, 64, NAN),
    ],
)
def test_time_per_token_leaves_out_as_many_as_the_first_chunk_had(table, chunks, tokens, first, tpot):
    t = table({"chunks": chunks, "tokens": tokens, "first_chunk_tokens": first})
    assert same(measures.values(t, "tpot_s"), [tpot])


def brute_icl(chunks):
    gaps = sorted(b - a for a, b in itertools.pairwise(chunks))
    return gaps[math.ceil(0.99 * len(gaps) - 1e-9) - 1] if gaps else NAN


@given(
    st.lists(
        st.tuples(st.sampled_from([0, 0, 1, 2, 3, 99, 100, 101, 102, 250]), st.integers(0, 99)), max_size=6
    )
)
def test_inter_chunk_latency_is_each_requests_own_99th_percentile(make_request, shapes):
    records = []
    for k, (size, seed) in enumerate(shapes):
        gaps = np.random.default_rng(seed).exponential(size=size)
        records.append(make_request(k, chunks=tuple((seed + np.cumsum(gaps)).tolist())))
    seen = measures.values(RequestTable.from_records(records), "icl_s")
    assert same(seen, [brute_icl(r.chunk_s) for r in records])


def test_a_stall_of_a_request_is_seen_however_many_tokens_others_have(table):
    smooth = {"chunks": tuple(k * 0.01 for k in range(1, 90))}
    stalled = {"chunks": (0.01, 0.02, 2.02, 2.03)}
    assert same(measures.values(table(smooth, stalled, smooth), "icl_s"), [0.01, 2.0, 0.01])


# -- samples and statistics


def test_a_failed_request_took_forever_and_a_cut_one_is_left_out(table):
    t = table({"chunks": (0.1, 0.2)}, {"chunks": (0.3,), "fails": "cut"}, {"cut_s": 5.0})
    assert measures.samples(t, "ttft_s").tolist() == [0.1, INF]
    assert measures.statistic(measures.samples(t, "ttft_s"), "p50") == 0.1
    assert measures.statistic(measures.samples(t, "ttft_s"), "p99") == INF
    assert measures.statistic(measures.samples(t, "ttft_s"), "mean") == 0.1  # of those that have one


def test_an_undefined_value_is_in_no_sample(table):
    t = table({"chunks": (0.1,)}, {"chunks": (0.1, 0.3)})
    assert same(measures.samples(t, "tpot_s"), [0.2])
    assert measures.statistic(np.empty(0), "p50") is None
    assert measures.statistic(np.empty(0), "mean") is None


def test_what_the_client_did_is_no_latency_of_the_server(table):
    t = table(
        {"send_s": 0.001, "chunks": (0.1,)},
        {"send_s": 0.003, "fails": "cut"},
        {"send_s": 0.005, "cut_s": 9.0},
        {"due_s": 1.0, "send_s": NAN, "fails": "refused"},
    )
    assert same(measures.samples(t, "schedule_lag_s"), [0.001, 0.003, 0.005])


@given(st.lists(st.floats(0, 1e6) | st.just(INF), min_size=1, max_size=200))
def test_quantiles_are_values_that_were_seen_and_never_fall_with_the_rank(column):
    column = np.array(column)
    quantiles = [
        measures.statistic(column, name) for name in ("p1", "p50", "p90", "p95", "p99", "p99.9", "max")
    ]
    assert quantiles == sorted(quantiles)
    assert set(quantiles) <= set(column.tolist())
    finite = column[np.isfinite(column)]
    for name, q in (("p50", 50), ("p90", 90), ("p99", 99)):
        if len(finite) == len(column):  # an independent source, which cannot sort infinities by interpolation
            assert measures.statistic(column, name) == np.percentile(column, q, method="inverted_cdf")


# -- counting against a limit


@pytest.mark.parametrize(
    ("request_", "limit_s", "counted"),
    [
        ({"chunks": (0.2,)}, 0.3, [False]),
        ({"chunks": (0.4,)}, 0.3, [True]),
        ({"chunks": (0.2,), "fails": "cut"}, 0.3, [True]),  # failed: over every limit
        ({"fails": "refused", "send_s": NAN}, 0.3, [True]),
        ({"cut_s": 0.5}, 0.3, [True]),  # already older than the limit when it was cut
        ({"cut_s": 0.5}, 0.6, []),  # could still have made it
        ({"cut_s": 0.5, "chunks": (0.4,)}, 0.3, [True]),  # had missed it before
        ({"cut_s": 0.5, "chunks": (0.2,)}, 0.3, [False]),  # had made it before
    ],
)
def test_what_counts_against_a_limit(table, request_, limit_s, counted):
    assert measures.exceeds(table(request_), "ttft_s", limit_s, "<").tolist() == counted


def test_the_limit_itself_is_missed_by_less_than_and_met_by_at_most(table):
    t = table({"chunks": (0.25,)})
    assert measures.exceeds(t, "ttft_s", 0.25, "<").tolist() == [True]
    assert measures.exceeds(t, "ttft_s", 0.25, "<=").tolist() == [False]


def test_a_cut_request_counts_by_the_event_that_the_limit_is_on(table):
    t = table({"cut_s": 0.5, "first_event_s": 0.1}, {"cut_s": 0.5})
    assert measures.exceeds(t, "ttft_any_s", 0.3, "<").tolist() == [False, True]
    assert measures.exceeds(t, "ttfo_s", 0.3, "<").tolist() == [True, True]
    assert measures.exceeds(t, "e2e_s", 0.3, "<").tolist() == [True, True]
    assert measures.exceeds(t, "tpot_s", 0.3, "<").tolist() == []  # its age says nothing of its pace


def test_a_limit_on_what_a_request_does_not_define_is_no_limit_for_it(table):
    t = table({"chunks": (0.1,)}, {"chunks": (0.1, 0.9)})
    assert measures.exceeds(t, "tpot_s", 0.3, "<").tolist() == [True]
    assert measures.meets(t, {"tpot_s": ("<", 0.3)}).tolist() == [True, False]


def test_good_requests_meet_every_limit_and_are_counted_among_all_issued(table):
    limits = {"ttft_s": ("<", 0.3), "e2e_s": ("<=", 1.0)}
    t = table(
        {"chunks": (0.2, 1.0)},
        {"chunks": (0.4, 0.9)},  # late first token
        {"chunks": (0.2, 1.1)},  # late last token
        {"chunks": (0.2,), "fails": "cut"},
        {"chunks": (0.2,), "cut_s": 0.5},  # within both limits so far
        {"chunks": (0.2,), "cut_s": 1.5},
    )
    assert measures.meets(t, limits).tolist() == [True, False, False, False, False]
    assert measures.run_value(t, "goodput_ratio", limits) == 0.2
    assert measures.run_value(t, "goodput_ratio") is None


def test_the_error_share_is_of_the_requests_that_ended_by_themselves(table):
    t = table({"chunks": (0.1,)}, {"fails": "cut"}, {"chunks": (0.1,)}, {"chunks": (0.1,)}, {"cut_s": 1.0})
    assert measures.run_value(t, "error_ratio") == 0.25
    assert measures.failed(t).tolist() == [False, True, False, False]
    assert measures.run_value(table({"cut_s": 1.0}), "error_ratio") is None


# -- rates


@pytest.fixture(scope="module")
def steady(table):
    """Ten requests, one a second, each with tokens half a second and a second after it was due."""
    return table(*({"due_s": float(k), "chunks": (k + 0.5, k + 1.0), "tokens": 4} for k in range(10)))


def test_the_steady_window_ends_with_the_last_arrival_and_the_drain_is_outside(steady):
    assert measures.steady_window(steady) == (0.0, 9.0)
    assert measures.run_value(steady, "request_per_s") == pytest.approx(
        1.0
    )  # those that ended at 1, 2, ... 9
    assert measures.run_value(steady, "output_tok_per_s") == pytest.approx(
        4.0
    )  # two chunks of two tokens each
    assert measures.run_value(steady, "total_tok_per_s") == pytest.approx(12.0)  # and eight of each prompt
    assert measures.run_value(steady, "makespan_output_tok_per_s") == pytest.approx(4.0)


def test_a_drain_that_takes_long_changes_no_throughput(table):
    slow = table(
        *({"due_s": float(k), "chunks": (k + 0.5, k + 1.0)} for k in range(10)),
        {"due_s": 9.0, "chunks": (17.0,)},
    )
    assert measures.run_value(slow, "output_tok_per_s") == pytest.approx(2.0)
    assert measures.run_value(slow, "makespan_output_tok_per_s") == pytest.approx(21 / 17)


def test_a_burst_is_measured_until_its_last_token(table):
    t = table(*({"chunks": (1.0, 2.0)} for _ in range(4)))
    assert measures.steady_window(t) == (0.0, 2.0)
    assert measures.run_value(t, "output_tok_per_s") == pytest.approx(4.0)
    assert measures.run_value(t, "request_per_s") == pytest.approx(2.0)


def test_only_good_requests_are_goodput(steady):
    limits = {"ttft_s": ("<", 1.0), "e2e_s": ("<", 1.5)}
    assert measures.run_value(steady, "goodput_req_per_s", limits) == pytest.approx(1.0)
    assert measures.run_value(steady, "goodput_req_per_s", {"ttft_s": ("<", 0.4)}) == 0.0
    assert measures.run_value(steady, "goodput_req_per_s") is None


def test_a_run_without_an_answer_has_no_rate(table):
    for t in (table(), table({"fails": "refused", "send_s": NAN}), table({"cut_s": 2.0})):
        assert measures.run_value(t, "output_tok_per_s") is None
        assert measures.run_value(t, "makespan_output_tok_per_s") is None
        assert measures.rate_batches(t, "output_tok_per_s", 4).tolist() == []


@given(
    st.lists(st.tuples(st.floats(0, 20), st.floats(0.01, 5), st.integers(1, 9)), min_size=2, max_size=30),
    st.integers(1, 20),
)
def test_rates_of_slices_average_to_the_rate_of_the_window(make_request, shapes, batches):
    records = [
        make_request(k, due_s=due, chunks=tuple(due + span * (j + 1) for j in range(tokens)))
        for k, (due, span, tokens) in enumerate(shapes)
    ]
    t = RequestTable.from_records(records)
    limits = {"e2e_s": ("<", 10.0)}
    for quantity in ("output_tok_per_s", "request_per_s", "total_tok_per_s"):
        slices = measures.rate_batches(t, quantity, batches)
        assert len(slices) == batches
        assert slices.mean() == pytest.approx(measures.run_value(t, quantity))
    assert measures.goodput_batches(t, limits, batches).mean() == pytest.approx(
        measures.run_value(t, "goodput_req_per_s", limits)
    )


@given(st.lists(st.tuples(st.floats(0, 20), st.floats(0.01, 5), st.integers(0, 9)), min_size=2, max_size=30))
def test_rates_count_what_happened_inside_the_window(make_request, shapes):
    records = [
        make_request(k, due_s=due, chunks=tuple(due + span * (j + 1) for j in range(tokens)),
                     fails=None if tokens else "cut")
        for k, (due, span, tokens) in enumerate(shapes)
    ]  # fmt: skip
    t = RequestTable.from_records(records)
    window = measures.steady_window(t)
    if window is None:
        assert not any(r.chunk_s for r in records)
        return
    start, end = window
    inside = sum(start <= when <= end for r in records for when in r.chunk_s)
    assert measures.run_value(t, "output_tok_per_s") == pytest.approx(inside / (end - start))


# -- the whole


@given(
    st.lists(
        st.tuples(
            st.floats(0, 20),
            st.lists(st.floats(0.001, 2), max_size=5),
            st.sampled_from(["okay", "fail", "cut"]),
        ),
        min_size=1,
        max_size=20,
    ),
    st.randoms(use_true_random=False),
)
def test_the_order_of_requests_changes_no_number(make_request, shapes, random):
    def build(order):
        records = []
        for k, (due, gaps, outcome) in enumerate(order):
            chunks = tuple(due + t for t in np.cumsum(gaps).tolist())
            fate = {"fails": "cut"} if outcome == "fail" or (outcome == "okay" and not chunks) else {}
            fate = {"cut_s": due + 3.0} if outcome == "cut" else fate
            records.append(make_request(k, due_s=due, chunks=chunks, **fate))
        return RequestTable.from_records(records)

    limits = {"ttft_s": ("<", 0.5)}
    shuffled = random.sample(shapes, len(shapes))
    straight = measures.all_metrics(build(shapes), limits)
    assert measures.all_metrics(build(shuffled), limits) == pytest.approx(straight)
    assert not any(math.isnan(value) for value in straight.values())


def test_every_metric_that_has_a_value_is_there_and_no_other(steady):
    found = measures.all_metrics(steady, {"ttft_s": ("<", 1.0)})
    per_request = {f"{q.id}.{name}" for q in METRICS.values() if q.per == "request" for name in STATISTICS}
    per_run = {q.id for q in METRICS.values() if q.per == "run"}
    assert set(found) <= per_request | per_run
    absent = {name.partition(".")[0] for name in (per_request | per_run) - set(found)}
    # no connection was made here, no server booted, no rate raised, nothing watched beside the requests;
    # drift is judged, not measured
    network = {"connect_s", "tls_s", "rtt_s"}
    drifts = {"ttft_drift_ratio", "tpot_drift_ratio", "server_memory_drift_ratio"}
    beside = {q.id for q in METRICS.values() if q.telemetry or q.id.endswith("_beyond_ratio")}
    assert absent == {"ready_s", "boot_first_token_s", "capacity_req_per_s"} | network | drifts | beside


def test_a_first_token_that_came_before_the_cut_counts_early_or_late(table):
    cut = {"cut_s": 2.0, "output_tokens": None}
    seen = table(
        {"chunks": (0.1, 0.2)}, {"chunks": (0.3, 0.4), **cut}, {"chunks": (0.9, 1.0), **cut}, {"cut_s": 0.2}
    )
    assert list(measures.exceeds(seen, "ttft_s", 0.5, "<")) == [False, False, True]
    assert list(measures.samples(seen, "ttft_s")) == pytest.approx([0.1, 0.3, 0.9])
