import math

import pytest

from pytest_inferforge import validity
from pytest_inferforge.options import LoadOptions
from pytest_inferforge.table import RequestTable

OPTIONS = LoadOptions(lag_limit_s=0.002, lag_limit_share=0.05)


@pytest.fixture(scope="module")
def table(make_request):
    def build(*requests):
        records = [make_request(k, **fields) for k, fields in enumerate(requests)]
        return RequestTable.from_records(records)

    return build


def reasons(table, *, lost=0, fault=None, limits=None, **client):
    client = validity.Client(lost=lost, fault=fault, **client)
    return validity.reasons_against(table, client, limits=limits or {}, options=OPTIONS)


def sent(lag_s, ttft_s=0.02, **fields):
    return {"send_s": lag_s, "chunks": (ttft_s, ttft_s + 0.01), **fields}


def test_a_client_that_kept_up_is_believed(table):
    assert reasons(table(*[sent(0.0015)] * 100)) == ()


def test_a_late_client_is_not(table):
    late = table(*[sent(0.0)] * 90, *[sent(0.003)] * 10)
    assert reasons(late) == ("the client was late: schedule lag p99 3 ms, at most 2 ms is allowed",)


def test_lag_also_counts_where_the_request_failed_or_was_cut(table):
    late = table(*[sent(0.0)] * 8, {"send_s": 0.5, "fails": "cut"}, {"send_s": 0.5, "cut_s": 1.0})
    assert "schedule lag p99 500 ms" in reasons(late)[0]


@pytest.mark.parametrize(
    ("ttft_s", "limits", "allowed_s"),
    [
        (0.02, {}, 0.002),  # the fixed limit
        (0.2, {}, 0.01),  # a share of the median time to first token
        (0.2, {"ttft_s": ("<", 0.1), "e2e_s": ("<", 5.0)}, 0.005),  # a share of the tightest limit instead
        (0.2, {"tpot_s": ("<", 0.01)}, 0.01),  # which a late send does not move
    ],
)
def test_how_late_is_too_late_depends_on_what_is_judged(table, ttft_s, limits, allowed_s):
    seen = validity.lag_limit_s(table(*[sent(0.0, ttft_s)] * 3), limits, OPTIONS)
    assert seen == pytest.approx(allowed_s)


def test_when_nothing_was_answered_the_fixed_limit_holds(table):
    assert validity.lag_limit_s(table({"fails": "refused"}), {}, OPTIONS) == 0.002
    assert validity.lag_limit_s(table({"cut_s": 1.0}), {}, OPTIONS) == 0.002


def test_users_who_wait_have_no_schedule_to_be_late_for(table):
    assert reasons(table(sent(3.0, 4.0, due_s=None))) == ()


def test_a_client_that_died_or_sent_nothing_is_not_believed(table):
    assert reasons(table(sent(0.0)), lost=3, fault="exit code -9") == (
        "the load client died (exit code -9); 3 requests have no record",
    )
    assert reasons(table()) == ("no request was sent",)


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        (1, ()),
        (2, ("the server counts other prompt lengths than were asked for in 2.0% of requests",)),
    ],
)
def test_prompts_must_have_the_length_that_was_asked_for(table, wrong, found):
    assert reasons(table(*[sent(0.0)] * (100 - wrong), *[sent(0.0, prompt_tokens=9)] * wrong)) == found


def test_a_server_that_counts_no_prompts_is_not_blamed_for_it(table):
    assert reasons(table(*[sent(0.0, prompt_tokens=None)] * 3)) == ()


def test_what_was_tolerated_is_counted_and_said(table):
    t = table(
        sent(0.0, output_tokens_exact=False),
        sent(0.0, empty_chunks=2),
        sent(0.0, resent=1),
        sent(0.0, output_tokens_asked=5),
        {"send_s": 0.0, "cut_s": 1.0},
        {"send_s": math.nan, "fails": "refused"},
    )
    assert validity.oddities(t) == (
        "1 replies without usage (tokens counted from chunks)",
        "2 empty chunks",
        "1 requests sent again after an idle connection was found closed",
        "1 replies shorter than asked",
        "1 requests cut at the end of the run",
    )
    assert validity.oddities(table(sent(0.0))) == ()
