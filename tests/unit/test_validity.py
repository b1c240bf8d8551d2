import math
from dataclasses import replace

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


# -- every other reason, provoked ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("client", "found"),
    [
        ({"floor_s": 0.0019}, None),
        ({"floor_s": 0.03}, "the client's own error is too large at this rate: 30 ms of TTFT"),
        ({"cpu_share": 0.95}, "a load worker needed 95% of a core, at most 90% is allowed"),
        ({"loop_lag_p99_s": 0.02}, "a load worker was stalled: its timers were late by 20 ms (p99)"),
        ({"restarted": "at noon"}, "the server was restarted while it was measured: at noon"),
    ],
)
def test_a_client_or_server_that_is_not_as_it_should_be(table, client, found):
    seen = reasons(table(*[sent(0.0)] * 100), **client)
    assert seen == () if found is None else (len(seen) == 1 and seen[0].startswith(found))


def arrivals(table, due_s, send_s):
    return table(
        *[
            {"due_s": due, "send_s": send, "chunks": (send + 1.0, send + 1.1)}
            for due, send in zip(due_s, send_s, strict=True)
        ]
    )


LOOSE = replace(OPTIONS, lag_limit_s=100.0)


def test_fewer_requests_a_second_than_asked_for(table):
    due_s = [k * 0.1 for k in range(100)]
    on_time = arrivals(table, due_s, due_s)
    slow = arrivals(table, due_s, [1.05 * due for due in due_s])
    assert validity.reasons_against(on_time, validity.Client(), limits={}, options=LOOSE) == ()
    assert validity.reasons_against(slow, validity.Client(), limits={}, options=LOOSE) == (
        "only 9.62 req/s were sent of 10.1 req/s asked for; 2% less is allowed",
    )


def test_requests_that_leave_in_bunches(table):
    due_s = [k * 0.01 for k in range(400)]
    bunched = [due - due % 0.2 for due in due_s]
    found = validity.reasons_against(
        arrivals(table, due_s, bunched), validity.Client(), limits={}, options=LOOSE
    )
    assert len(found) == 1
    assert found[0].startswith("requests left in other bunches than scheduled: index of dispersion ")
    assert found[0].endswith(" instead of 0.00")


@pytest.mark.parametrize("reason", ["no_descriptors", "no_ports", "no_memory"])
def test_what_this_machine_ran_out_of_is_not_the_servers_fault(table, reason):
    (found,) = reasons(table(*[sent(0.0)] * 9, {"send_s": math.nan, "fails": reason}))
    assert found.startswith("this machine ran out of ")
    assert found.endswith("1 requests could not be sent")


def test_more_chunks_than_tokens(table):
    strange = sent(0.0, output_tokens=1)  # two chunks
    assert reasons(table(*[sent(0.0)] * 99, strange)) == ()
    (found,) = reasons(table(*[sent(0.0)] * 98, strange, strange))
    assert found == "2.0% of the replies have more chunks than the tokens that the server counts"


def test_short_answers_count_where_the_server_was_told_their_length(table):
    short = sent(0.0, output_tokens_asked=64)
    t = table(*[sent(0.0)] * 97, *[short] * 3)
    assert reasons(t) == ()
    (found,) = reasons(t, exact_output=True)
    assert found == "3.0% of the replies are shorter than the server was told to make them, 2.0% may be"


def test_a_prefix_cache_that_helps_salted_prompts(table):
    cached = sent(0.0, cached_tokens=4)  # of 8
    t = table(*[sent(0.0, cached_tokens=0)] * 9, cached)
    assert reasons(t) == ()  # nobody said that the prompts share nothing
    (found,) = reasons(t, salted=("",))
    assert found.startswith("5.0% of the prompt tokens came from a prefix cache")


def test_users_who_move_in_step_are_noticed(table):
    together = [
        {"due_s": None, "send_s": 1.0 * cycle, "chunks": (1.0 * cycle + 0.5,), "end_s": cycle + 0.99}
        for cycle in range(10)
        for _ in range(16)
    ]
    apart = [
        {"due_s": None, "send_s": cycle + user / 16, "chunks": (cycle + user / 16 + 0.5,),
         "end_s": cycle + user / 16 + 0.99}
        for cycle in range(10)
        for user in range(16)
    ]  # fmt: skip
    assert any("move in step" in said for said in validity.oddities(table(*together)))
    assert not any("move in step" in said for said in validity.oddities(table(*apart)))
