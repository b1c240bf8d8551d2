"""Every failure and every tolerated oddity, injected at 5 % of the requests: each request is accounted for.

The schedules and the requests that break are drawn from a seed; what the client says is compared with what
was injected, request by request.
"""

import itertools
import os
import random
import signal
import socket
import threading
import time

import psutil
import pytest

from pytest_inferforge import measures
from pytest_inferforge.errors import MeasuringError
from pytest_inferforge.loadgen import fleet
from pytest_inferforge.records import RequestStatus
from pytest_inferforge.testing.timetable import Closure, Timetable, TimetableServer

N = 120
SHARE = 0.05
RATE_PER_S = 200.0
TOKENS = 6
QUICK = {"ttft_s": 0.03, "gap_s": 0.004}
APIS = pytest.mark.parametrize("chat", [False, True], ids=["completions", "chat"])


def schedule(seed, n=N, gaps=None):
    """Due times of independent users; `gaps`: index -> seconds of silence before that request."""
    rng = random.Random(seed)
    waits = [rng.expovariate(RATE_PER_S) + (gaps or {}).get(k, 0.0) for k in range(n)]
    return tuple(itertools.accumulate(waits))


def draw(seed, *names, n=N):
    """Index -> fault, 5 % of the requests for each name."""
    chosen = random.Random(seed).sample(range(n), round(SHARE * n) * len(names))
    return {index: names[k % len(names)] for k, index in enumerate(chosen)}


def refusals(seed, n=N):
    """Windows in which nobody listens, in silences of the schedule. Returns (refused, due times, closures).

    A silence is 0.25 s long: the window begins 0.1 s after the request before it came in, more than the lead
    of a connection before the first request that is to be refused, and ends as far from the next one.
    """
    rng = random.Random(seed)
    count, groups, refused = round(SHARE * n), [], set()
    places = iter(rng.sample(range(1, n // 8), n // 8 - 1))
    while len(refused) < count:
        first, size = 8 * next(places), min(rng.randint(1, 3), count - len(refused))
        groups.append((first, size))
        refused.update(range(first, first + size))
    due = schedule(seed, n, {k: 0.25 for first, size in groups for k in (first, first + size)})
    closures = tuple(
        Closure(after_index=first - 1, start_s=0.1, stop_s=due[first + size - 1] - due[first - 1] + 0.12)
        for first, size in groups
    )
    return refused, due, closures


def accounted(drive, expected, n=N):
    """Every request has a row, those of `expected` failed with its reasons, and no other did."""
    table = drive.table
    assert (drive.fault, drive.lost) == (None, 0)
    assert table.index.tolist() == list(range(n))
    assert {r.index: r.reason for r in table if r.status is RequestStatus.FAILED} == expected
    assert all(r.reason is None for r in table if r.status is RequestStatus.OK)
    assert measures.run_value(table, "error_ratio") == len(expected) / n
    for r in table:
        assert r.send_s is None or r.send_s >= r.due_s
        if r.status is RequestStatus.OK:
            assert (len(r.chunk_s), r.output_tokens, r.finish_reason) == (TOKENS, TOKENS, "length")


# -- failures


@APIS
@pytest.mark.parametrize(
    ("fault", "reason", "tokens_before"),
    [
        ("http_500", "http_500", 0),
        ("http_429", "http_429", 0),
        ("cut", "cut", TOKENS // 2),
        ("stalled", "stalled", TOKENS // 2),
        ("bad_json", "bad_json", TOKENS // 2),
        ("error_event", "error_event", TOKENS // 2),
        ("no_token", "no_token", 0),
        ("drop", "cut", 0),
    ],
)
def test_a_failure_is_seen_in_the_requests_that_have_it_and_in_no_other(
    fault, reason, tokens_before, chat, drive_timetable
):
    faults = draw(fault, fault)
    drive, _ = drive_timetable(
        Timetable(faults=faults, **QUICK), chat=chat, due_s=schedule(fault), output_tokens=TOKENS, stall_s=0.5
    )
    accounted(drive, dict.fromkeys(faults, reason))
    failed = [r for r in drive.table if r.status is RequestStatus.FAILED]
    assert {len(r.chunk_s) for r in failed} == {tokens_before}  # what came before is kept
    assert all(r.detail for r in failed)
    statuses = {"http_500": 500, "http_429": 429, "drop": None}
    assert {r.http_status for r in failed} == {statuses.get(fault, 200)}


def test_refused_connections_are_the_requests_that_were_due_while_nobody_listened(drive_timetable):
    refused, due_s, closures = refusals("refused")
    drive, _ = drive_timetable(
        Timetable(closures=closures, close=True, **QUICK), due_s=due_s, output_tokens=TOKENS
    )
    accounted(drive, dict.fromkeys(refused, "refused"))
    assert all(r.send_s is None for r in drive.table if r.index in refused)


@APIS
def test_all_failures_and_oddities_at_once(chat, drive_timetable):
    names = ("http_500", "http_429", "cut", "stalled", "bad_json", "error_event", "no_token", "no_usage",
             "empty_chunks")  # fmt: skip
    refused, due_s, closures = refusals("all", n=200)
    faults = {k: name for k, name in draw("all", *names, n=200).items() if k not in refused}
    drive, _ = drive_timetable(
        Timetable(faults=faults, closures=closures, close=True, **QUICK),
        chat=chat,
        due_s=due_s,
        output_tokens=TOKENS,
        stall_s=0.5,
    )
    failing = {k: name for k, name in faults.items() if name not in ("no_usage", "empty_chunks")}
    accounted(drive, failing | dict.fromkeys(refused, "refused"), n=200)
    tolerated = {k for k, name in faults.items() if name == "no_usage"}
    ok = [r for r in drive.table if r.status is RequestStatus.OK]
    assert {r.index for r in ok if not r.output_tokens_exact} == tolerated
    assert {r.index for r in ok if r.empty_chunks} == {
        k for k, name in faults.items() if name == "empty_chunks"
    }


# -- what is tolerated


@APIS
def test_a_reply_without_usage_is_counted_by_its_chunks_and_flagged(chat, drive_timetable):
    faults = draw("usage", "no_usage")
    drive, _ = drive_timetable(
        Timetable(faults=faults, **QUICK), chat=chat, due_s=schedule("usage"), output_tokens=TOKENS
    )
    accounted(drive, {})
    assert {r.index for r in drive.table if not r.output_tokens_exact} == set(faults)
    assert {r.index for r in drive.table if r.prompt_tokens is None} == set(faults)
    assert {r.prompt_tokens for r in drive.table} == {None, 16}


@APIS
def test_empty_chunks_end_no_wait_for_the_first_token(chat, drive_timetable):
    faults = draw("empty", "empty_chunks")
    drive, true = drive_timetable(
        Timetable(faults=faults, ttft_s=0.1, gap_s=0.004),
        chat=chat,
        due_s=schedule("empty"),
        output_tokens=TOKENS,
    )
    accounted(drive, {})
    assert {r.index: r.empty_chunks for r in drive.table if r.empty_chunks} == dict.fromkeys(faults, 2)
    for r in drive.table:
        ttft_s = true[r.id].ttft_s
        assert r.first_token_s - r.send_s >= ttft_s
        if r.index in faults:
            assert r.first_event_s - r.send_s < 0.9 * ttft_s  # they came long before


def test_a_connection_that_died_idle_is_replaced_once_and_it_is_counted(drive_timetable):
    faults = draw("once", "drop_once")
    drive, _ = drive_timetable(
        Timetable(faults=faults, **QUICK), due_s=schedule("once"), output_tokens=TOKENS, lead_s=0.2
    )
    accounted(drive, {})
    assert {r.index: r.resent for r in drive.table if r.resent} == dict.fromkeys(faults, 1)


def test_a_request_is_not_sent_a_third_time(drive_timetable):
    faults = draw("never", "drop")
    drive, _ = drive_timetable(
        Timetable(faults=faults, **QUICK), due_s=schedule("never"), output_tokens=TOKENS, lead_s=0.2
    )
    accounted(drive, dict.fromkeys(faults, "cut"))
    assert {r.index: r.resent for r in drive.table if r.resent} == dict.fromkeys(faults, 1)


@pytest.mark.parametrize(
    "load", [{"due_s": schedule("hang up")}, {"concurrency": 8, "requests": N}], ids=["open", "closed"]
)
def test_a_server_that_hangs_up_after_whole_replies_makes_no_failure(load, drive_timetable):
    faults = draw("hang up", "hang_up")
    drive, _ = drive_timetable(Timetable(faults=faults, **QUICK), output_tokens=TOKENS, **load)
    assert drive.table.request_counts().completed == N
    assert all(r.resent in (0, 1) for r in drive.table)
    assert sum(r.resent for r in drive.table) <= len(faults)


def test_where_connections_end_with_each_reply_nothing_is_sent_twice(drive_timetable):
    drive, _ = drive_timetable(
        Timetable(close=True, **QUICK), concurrency=8, requests=N, output_tokens=TOKENS, survives_stream=False
    )
    assert drive.table.request_counts().completed == N
    assert sum(r.resent for r in drive.table) == 0
    assert drive.connections >= N


# -- limits in time


SLOW = Timetable(ttft_s=0.05, gap_s=0.05)  # 64 tokens take over 3 s


def test_what_still_runs_at_the_end_of_the_drain_is_cut_and_keeps_its_tokens(drive_timetable):
    drive, _ = drive_timetable(SLOW, due_s=schedule("drain", 20), output_tokens=64, drain_s=0.5)
    assert drive.table.request_counts().cancelled == 20
    assert drive.wall_s < 2.5
    for r in drive.table:
        assert (r.status, r.reason) == (RequestStatus.CANCELLED, "cancelled")
        assert 4 < len(r.chunk_s) < 64
        assert r.first_token_s < r.end_s
    # they had their first token in time, and are not held against a limit that they met
    assert not measures.exceeds(drive.table, "ttft_s", 0.3, "<").any()


def test_a_request_that_takes_too_long_fails_and_keeps_its_tokens(drive_timetable):
    drive, _ = drive_timetable(SLOW, due_s=schedule("timeout", 20), output_tokens=64, timeout_s=0.6)
    assert drive.table.failures() == {"timeout": 20}
    assert all(0.6 <= r.end_s - r.send_s < 1.5 and len(r.chunk_s) > 4 for r in drive.table)


def test_a_duration_ends_on_time_although_no_request_does(drive_timetable):
    stuck = Timetable(faults=dict.fromkeys(range(100), "stalled"), **QUICK)
    drive, _ = drive_timetable(
        stuck, concurrency=4, duration_s=0.4, output_tokens=TOKENS, stall_s=30, drain_s=0.4
    )
    assert drive.table.request_counts().cancelled == len(drive.table) == 4
    assert drive.wall_s < 2.5


# -- servers that are hardly there


@pytest.fixture
def deaf_server():
    """Takes connections and never says a word; `full` is one that leaves connects hanging as well."""
    made = []

    def listen(*, full=False):
        listener = socket.create_server(("127.0.0.1", 0), backlog=0 if full else 128)
        made.append(listener)
        if full:
            made.extend(socket.socket() for _ in range(4))
            for waiting in made[1:]:
                waiting.setblocking(False)
                waiting.connect_ex(listener.getsockname())
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    yield listen
    for one in made:
        one.close()


def test_a_server_that_never_answers_stalls_the_warm_up_too_and_the_run_ends(
    deaf_server, load_plan, tmp_path
):
    plan = load_plan(deaf_server(), warmup=2, due_s=(0.0, 0.05), stall_s=0.3)
    drive = fleet.drive([plan], api_key=None, folder=tmp_path, name="worker")
    assert (drive.warmup, drive.warmup_failed) == (2, 2)
    assert drive.warmup_reason.startswith("stalled: ")
    assert drive.table.failures() == {"stalled": 2}


@pytest.mark.parametrize(
    "load", [{"concurrency": 3, "requests": 3}, {"due_s": (0.0, 0.01, 0.02)}], ids=["closed", "open"]
)
def test_connects_that_hang_are_cut_with_the_rest(load, deaf_server, load_plan, tmp_path):
    plan = load_plan(deaf_server(full=True), drain_s=0.4, **load)
    drive = fleet.drive([plan], api_key=None, folder=tmp_path, name="worker")
    assert drive.table.request_counts().cancelled == 3
    assert any(r.send_s is None for r in drive.table)
    assert drive.wall_s < 2.5


@pytest.mark.parametrize(
    "load", [{"concurrency": 3, "requests": 30}, {"due_s": schedule("shut", 30)}], ids=["closed", "open"]
)
def test_a_server_that_closes_every_connection_at_once_fails_every_request(load, load_plan, tmp_path):
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)

    def shut():
        while True:
            try:
                listener.accept()[0].close()
            except OSError:
                return

    thread = threading.Thread(target=shut)
    thread.start()
    plan = load_plan(f"http://127.0.0.1:{listener.getsockname()[1]}", **load)
    drive = fleet.drive([plan], api_key=None, folder=tmp_path, name="worker")
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(10)
    assert drive.table.failures() == {"cut": 30}


def test_where_nobody_listens_every_request_is_refused(load_plan, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    plan = load_plan(f"http://127.0.0.1:{port}", due_s=schedule("nobody", 30), warmup=2)
    drive = fleet.drive([plan], api_key=None, folder=tmp_path, name="worker")
    assert drive.table.failures() == {"refused": 30}
    assert drive.warmup_reason.startswith("refused: ")


def test_a_name_with_several_addresses_is_asked_where_somebody_listens(load_plan, tmp_path):
    with TimetableServer(Timetable(**QUICK)) as server:
        plan = load_plan(server.url.replace("127.0.0.1", "localhost"), due_s=(0.0, 0.01))
        drive = fleet.drive([plan], api_key=None, folder=tmp_path, name="worker")
    assert drive.table.request_counts().completed == 2


# -- the worker itself


def test_a_killed_worker_leaves_the_rows_it_had(drive_timetable):
    killed = []

    def kill(progress):
        if progress.done >= 30 and not killed:
            for process in psutil.Process().children(recursive=True):
                if any("loadgen.worker" in word for word in process.cmdline()):
                    killed.append(progress.done)
                    os.kill(process.pid, signal.SIGKILL)

    drive, _ = drive_timetable(
        Timetable(**QUICK), due_s=schedule("killed", 600), output_tokens=TOKENS, on_progress=kill
    )
    assert drive.fault == "worker 1 of 1: exit code -9"
    assert drive.table.index.tolist() == list(range(600))
    whole = [r for r in drive.table if r.status is RequestStatus.OK]
    assert len(whole) >= killed[0]
    assert drive.lost == 600 - len(whole) > 0
    assert drive.table.failures() == {"worker_died": drive.lost}
    assert all(len(r.chunk_s) == TOKENS for r in whole)


def test_an_error_of_the_worker_ends_the_run_at_once_and_is_shown(load_plan, tmp_path):
    began = time.monotonic()
    plan = load_plan("http://127.0.0.1:9", due_s=(0.3, 0.4), words=())  # no words to make a prompt of
    with pytest.raises(MeasuringError) as error:
        fleet.drive([plan], api_key=None, folder=tmp_path, name="worker")
    assert "exit code 70" in error.value.seen
    assert "ZeroDivisionError" in error.value.seen
    assert time.monotonic() - began < 20


def test_a_schedule_without_requests_is_a_run_without_requests(drive_timetable):
    drive, _ = drive_timetable(Timetable(**QUICK), warmup=2)
    assert (len(drive.table), drive.fault, drive.warmup) == (0, None, 2)


def test_users_who_find_no_server_pause_before_they_try_again(load_plan, tmp_path):
    """A closed loop that ends by time against a dead server: some tries a user, not as many as a core can."""
    drive = fleet.drive(
        [load_plan("http://127.0.0.1:9", concurrency=2, duration_s=1.0)],
        api_key=None,
        folder=tmp_path,
        name="nobody",
    )
    assert set(drive.table.failures()) == {"refused"}
    assert 2 <= len(drive.table) <= 2 * 11
