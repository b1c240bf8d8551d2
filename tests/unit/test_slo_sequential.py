"""SLOs of runs that were looked at while they ran, and claims about the next boot."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_inferforge import slo as slos
from pytest_inferforge.errors import UsageError
from pytest_inferforge.options import JudgeOptions
from pytest_inferforge.records import RequestRecord, RequestStatus
from pytest_inferforge.slo import Looking
from pytest_inferforge.stats import intervals
from pytest_inferforge.table import RequestTable

OPTIONS = JudgeOptions()
EXTENDED = JudgeOptions(extend=3)
LOOKED, STOPPED = Looking(), Looking(stopped=True)


def boot(ttft_s):
    """One boot: a request every 1/8 s; NaN stands for a failed one."""
    rows = []
    for i, value in enumerate(ttft_s):
        due, failed = i / 8, math.isnan(value)
        seen = None if failed else due + value
        rows.append(
            RequestRecord(
                index=i, id=str(i), prompt_tokens_asked=8, output_tokens_asked=1, due_s=due, send_s=due,
                status=RequestStatus.FAILED if failed else RequestStatus.OK, first_token_s=seen,
                last_token_s=seen, end_s=due if failed else seen,
            )
        )  # fmt: skip
    return RequestTable.from_records(rows)


def judge(text, *boots, looking=LOOKED, confidence="boot", options=OPTIONS):
    clause = slos.claimed_of(slos.parse(text), confidence)
    limits = slos.per_request_limits([clause])
    return slos.judge(clause, boots, options=options, limits=limits, looking=looking)


def slow(n, every):
    """Of `every` requests one takes 0.5 s, the others 0.1 s."""
    return [0.5 if every and i % every == every // 2 else 0.1 for i in range(n)]


# -- looked at while it ran --------------------------------------------------------------------------------


def test_a_run_without_a_miss_passes_at_the_first_looks():
    found = judge("ttft p99 < 300 ms", boot(slow(700, 0)), looking=STOPPED)
    assert (found.verdict, found.n) == ("pass", 700)
    assert found.upper < 0.3
    assert "decided after 525 of them" in found.reason


def test_a_run_with_many_misses_fails_at_the_first_looks():
    found = judge("ttft p99 < 300 ms", boot(slow(700, 20)), looking=STOPPED)
    assert (found.verdict, found.lower) == ("fail", 0.5)


def test_half_of_alpha_is_left_for_the_planned_end():
    """299 requests without a miss show a P99 at 5 %, and 368 at 2.5 %."""
    clean = boot(slow(367, 0))
    assert judge("ttft p99 < 300 ms", clean, looking=None).verdict == "pass"
    assert judge("ttft p99 < 300 ms", clean).verdict == "inconclusive"
    assert judge("ttft p99 < 300 ms", boot(slow(368, 0))).verdict == "pass"
    assert judge("ttft p99 < 300 ms", boot(slow(368, 0)), looking=STOPPED).verdict == "inconclusive"


def test_further_pieces_count_for_the_verdict_by_looks_alone():
    first, more = boot(slow(300, 0)), boot(slow(300, 0))
    assert judge("ttft p99 < 300 ms", first, options=EXTENDED).verdict == "inconclusive"
    found = judge("ttft p99 < 300 ms", first, looking=Looking(further=((more,),)), options=EXTENDED)
    assert (found.verdict, found.n) == ("pass", 600)


def test_a_decision_stays_whatever_comes_later():
    values = slow(600, 0) + [0.5] * 100
    found = judge("ttft p99 < 300 ms", boot(values), looking=STOPPED)
    assert (found.verdict, found.misses_limit) == ("pass", True)


def test_a_decision_that_was_made_on_the_way_is_made_by_the_whole_table_too():
    """What ended the run decides its report: the requests that still ran then change nothing."""
    rng = np.random.default_rng(4)
    clause = slos.parse("ttft p99 < 300 ms")
    for _ in range(20):
        values = np.where(rng.random(1500) < 0.002, 0.5, 0.1)
        over = values > 0.3
        enough = next(
            (
                n
                for n in range(500, 1500, 25)
                if slos.decided(clause, slos.Sample(over=over[:n], column=values[:n]), OPTIONS)
            ),
            None,
        )
        for tail in (0, 7, 30):
            if enough is not None:
                found = judge(clause.text, boot(values[: enough + tail]), looking=STOPPED)
                assert found.verdict == "pass"


def test_several_boots_are_looked_at_once_and_together():
    good, bad = boot(slow(600, 0)), boot(slow(600, 25))
    alone = judge("ttft p99 < 300 ms", good, looking=STOPPED)
    both = judge("ttft p99 < 300 ms", good, bad, looking=STOPPED)
    assert (alone.verdict, both.verdict) == ("pass", "inconclusive")
    assert judge("ttft p99 < 300 ms", good, good, looking=STOPPED).verdict == "pass"


@pytest.mark.parametrize(
    ("text", "every", "verdict"),
    [
        ("error rate <= 1 %", 0, "pass"),
        ("error rate <= 1 %", 12, "fail"),
        ("goodput ratio >= 95 %", 0, "inconclusive"),  # without a limit there is nothing to count
    ],
)
def test_shares_are_looked_at_too(text, every, verdict):
    values = [math.nan if v > 0.3 else v for v in slow(700, every)]
    found = judge(text, boot(values), looking=STOPPED)
    assert found.verdict == verdict
    if found.value is not None:
        assert found.lower <= found.value <= found.upper


def test_a_mean_is_judged_on_the_planned_requests():
    rng = np.random.default_rng(1)
    first, more = boot(rng.normal(0.1, 0.01, 400)), boot(rng.normal(0.5, 0.01, 400))
    plain = judge("ttft mean < 110 ms", first, looking=None)
    assert judge("ttft mean < 110 ms", first, looking=Looking(further=((more,),))) == plain


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    share=st.sampled_from([0.0, 0.002, 0.01, 0.05, 0.3]),
    n=st.sampled_from([300, 550, 1200]),
    op=st.sampled_from(["<", "<="]),
    stopped=st.booleans(),
)
def test_verdict_value_and_bounds_agree(seed, share, n, op, stopped):
    rng = np.random.default_rng(seed)
    values = np.where(rng.random(n) < share, 0.5, 0.25) + rng.integers(-8, 8, n) / 1024
    result = judge(f"ttft p99 {op} 300 ms", boot(values), looking=Looking(stopped=stopped))
    keeps = slos.parse(result.text).satisfied_by
    assert (result.verdict == "pass") == (result.upper is not None and keeps(result.upper))
    assert (result.verdict == "fail") == (result.lower is not None and not keeps(result.lower))
    assert result.lower is None or result.upper is None or result.lower <= result.upper


@pytest.mark.parametrize(
    ("text", "options", "stops_early", "confidence", "requests"),
    [
        ("ttft p99 < 1 s", OPTIONS, False, "boot", 299),
        ("ttft p99 < 1 s", OPTIONS, True, "boot", 368),
        ("ttft p99 < 1 s", EXTENDED, False, "boot", 169),  # a third of what the looks need
        ("ttft p99 < 1 s", OPTIONS, False, "deploy", 943),  # three boots
        ("ttft mean < 1 s", EXTENDED, True, "boot", None),
    ],
)
def test_how_many_requests_must_be_planned(text, options, stops_early, confidence, requests):
    clause = slos.claimed_of(slos.parse(text), confidence)
    assert slos.least_requests(clause, options, boots=3, stops_early=stops_early) == requests


# -- the next boot ---------------------------------------------------------------------------------------


def test_a_claim_about_the_next_boot_multiplies_the_design_effect():
    boots = [boot(slow(1000, 500))] * 3
    plain = judge("ttft p99 < 300 ms", *boots, looking=None)
    claimed = judge("ttft p99 < 300 ms", *boots, looking=None, confidence="deploy")
    assert plain.n_effective / claimed.n_effective == pytest.approx(intervals.next_boot_factor(3, 0.05))
    assert (claimed.verdict, claimed.upper) == ("pass", pytest.approx(0.1))
    assert "this holds for the next boot" in claimed.reason
    assert "next boot" not in plain.reason


def test_boots_that_differ_say_less_of_the_next_one():
    good, worse = boot(slow(1000, 0)), boot(slow(1000, 60))
    boots = [good, worse, good]
    assert judge("ttft p95 < 300 ms", *boots, looking=None, confidence="deploy").verdict == "inconclusive"
    assert judge("ttft p95 < 300 ms", *boots, looking=None).verdict == "pass"


@pytest.mark.parametrize("text", ["ttft p99 < 300 ms", "ttft mean < 300 ms"])
@pytest.mark.parametrize("count", [1, 2])
def test_two_boots_say_nothing_of_the_next_one(text, count):
    found = judge(text, *[boot(slow(1000, 0))] * count, looking=None, confidence="deploy")
    assert (found.verdict, found.value) == ("inconclusive", None)
    assert f"at least 3 valid boots, and there are {count}" in found.reason


def test_a_claim_about_the_next_boot_is_not_looked_at_early():
    boots = [boot(slow(1000, 0))] * 3
    looked = judge("ttft p99 < 300 ms", *boots, looking=STOPPED, confidence="deploy")
    assert looked == judge("ttft p99 < 300 ms", *boots, looking=None, confidence="deploy")


@pytest.mark.parametrize(
    ("text", "confidence", "what"),
    [
        ("ttft p99 < 1 s", "next", "unknown confidence"),
        ("capacity >= 4 req/s", "deploy", "says nothing of the next boot"),
        ("ttft drift <= 5 %", "deploy", "says nothing of the next boot"),
        ("preemptions <= 0", "deploy", "says nothing of the next boot"),
    ],
)
def test_a_claim_that_cannot_be_made_is_refused(text, confidence, what):
    with pytest.raises(UsageError) as error:
        slos.claimed_of(slos.parse(text), confidence)
    assert what in error.value.what


def test_the_claim_is_part_of_a_clause():
    clause = slos.parse("ttft p99 < 1 s")
    assert slos.claimed_of(clause, "deploy") != clause
    assert slos.claimed_of(clause, "boot") == clause
    assert dataclasses.replace(clause, confidence="deploy").text == clause.text
