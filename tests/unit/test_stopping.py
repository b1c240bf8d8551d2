"""When a run may end: requests are taken in the order of the schedule, not in the order in which they end."""

import numpy as np
import pytest

from pytest_inferforge import slo as slos
from pytest_inferforge.loadgen.plan import Progress
from pytest_inferforge.options import JudgeOptions, LoadOptions
from pytest_inferforge.pytest_plugin.stopping import Stopping
from pytest_inferforge.records import RequestRecord, RequestStatus
from pytest_inferforge.table import RequestTable
from pytest_inferforge.workload import arguments, schedule

OPTIONS = JudgeOptions()


def ended(indexes, latency_s=0.1, *, name="", of=None):
    """Requests that have ended, in any order; one is due each 0.1 s."""
    rows = [
        RequestRecord(
            index=i, id=str(i), status=RequestStatus.OK, prompt_tokens_asked=8, output_tokens_asked=1,
            class_name=name if of is None else of[i], due_s=i / 10, send_s=i / 10,
            first_token_s=i / 10 + latency_s, last_token_s=i / 10 + latency_s, end_s=i / 10 + latency_s,
        )
        for i in indexes
    ]  # fmt: skip
    return RequestTable.from_records(rows)


def progress(seconds):
    return Progress(phase="load", sent=0, done=0, failed=0, in_flight=0, elapsed_ns=round(seconds * 1e9))


def stopping(*texts, requests=2000, **more):
    planned = schedule.build(
        arguments.from_arguments(
            {
                "arrivals": "constant 10 req/s",
                "requests": requests,
                "prompt_tokens": 8,
                "output_tokens": 1,
                "stop": "early",
            },
            LoadOptions(),
        ),
        warmup_waves=1,
        warmup_max_concurrency=1,
    )
    return Stopping([slos.parse(t) for t in texts], OPTIONS, planned.requests, **more)


def test_it_is_enough_when_every_clause_is_decided():
    enough = stopping("ttft p99 < 300 ms", "ttft p90 < 200 ms")
    assert not enough(ended(range(400)), progress(41))
    assert not enough(ended([]), progress(41))
    assert enough(ended(range(400, 800)), progress(81))
    assert not stopping("ttft p99 < 300 ms", "ttft p50 < 101 ms")(ended(range(480)), progress(81))


def test_a_decision_stays_while_another_is_waited_for():
    enough = stopping("ttft p99 < 300 ms", "error rate <= 0.2 %")
    assert not enough(ended(range(600)), progress(61))
    assert not enough(ended(range(600, 1200), 0.5), progress(121))
    assert enough(ended(range(1200, 3000), 0.5), progress(301))


def test_what_is_still_out_holds_up_all_behind_it():
    """The slow ones are the last to end: without them a server that fails its limit would pass."""
    enough = stopping("ttft p99 < 300 ms")
    assert not enough(ended(i for i in range(900) if i != 40), progress(91))
    assert enough(ended([40]), progress(92))


def test_what_is_out_for_longer_than_an_end_to_end_limit_is_known_to_exceed_it():
    hung = [i for i in range(900) if i % 4]
    assert stopping("e2e p90 < 300 ms")(ended(hung), progress(91.5))
    assert not stopping("ttft p90 < 300 ms")(ended(hung), progress(91.5))  # its first token may have come
    assert not stopping("e2e p90 < 300 s")(ended(hung), progress(91.5))


def test_a_class_is_decided_by_its_own_requests():
    of = {i: "chat" if i % 2 else "rag" for i in range(1400)}
    classes = ("chat", "rag")

    def table(first, last):
        return ended(range(first, last), of=of)

    enough = stopping("chat: ttft p99 < 300 ms", classes=classes)
    assert not enough(table(0, 900), progress(91))
    assert enough(table(900, 1400), progress(141))


def test_an_earlier_piece_on_the_boot_counts():
    before = [ended(range(400))]
    enough = stopping("ttft p99 < 300 ms", before=before)
    assert enough(ended(range(300)), progress(31))
    assert not stopping("ttft p99 < 300 ms")(ended(range(300)), progress(31))


@pytest.mark.parametrize("text", ["error rate <= 1 %", "goodput ratio >= 90 %"])
def test_shares_are_decided_too(text):
    assert stopping(text, "ttft p99 < 300 ms")(ended(range(900)), progress(91))


def test_what_ends_the_run_is_what_its_table_says():
    rng = np.random.default_rng(3)
    latencies = np.where(rng.random(2000) < 0.001, 0.5, 0.1)
    enough, n = stopping("ttft p99 < 300 ms"), 0
    while n < 2000 and not enough(
        RequestTable.from_records([ended([i], latencies[i])[0] for i in range(n, n + 20)]), progress(n / 10)
    ):
        n += 20
    whole = RequestTable.from_records([ended([i], latencies[i])[0] for i in range(n + 25)])
    clause = slos.parse("ttft p99 < 300 ms")
    found = slos.judge(clause, [whole], options=OPTIONS, limits={}, looking=slos.Looking(stopped=True))
    assert found.verdict == "pass"
