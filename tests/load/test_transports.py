"""The wire and httpx against the same servers: what a user reads does not depend on the transport."""

import asyncio
import gc
import socket
from statistics import median

import httpx
import pytest

from pytest_inferforge.loadgen.bodies import Columns, RequestWriter
from pytest_inferforge.loadgen.httpx_transport import HttpxSender
from pytest_inferforge.loadgen.wire import Exchange
from pytest_inferforge.records import RequestStatus
from pytest_inferforge.testing.timetable import Timetable, TimetableServer

QUICK = {"ttft_s": 0.03, "gap_s": 0.004}
TOKENS = 6
BOTH = pytest.mark.parametrize("transport", ["wire", "httpx"])


def every(gap_s, n):
    return tuple(k * gap_s for k in range(n))


def outcomes(drive):
    """What a user reads of each request, times apart."""
    assert drive.fault is None
    return {
        r.index: (r.status, r.reason, r.http_status, len(r.chunk_s), r.output_tokens, r.output_tokens_exact,
                  r.prompt_tokens, r.empty_chunks, r.finish_reason)
        for r in drive.table
    }  # fmt: skip


# -- the same answers


FAULTS = ("http_500", "http_429", "cut", "stalled", "bad_json", "error_event", "no_token", "drop", "no_usage",
          "empty_chunks", "hang_up")  # fmt: skip


@pytest.mark.parametrize(
    "load",
    [{"due_s": every(0.01, 66)}, {"chat": True, "concurrency": 8, "requests": 66}],
    ids=["open", "closed"],
)
def test_both_say_the_same_of_every_request_of_a_schedule_with_faults(load, drive_plan):
    faults = {6 * k + 3: name for k, name in enumerate(FAULTS)}
    found = {}
    for transport in ("wire", "httpx"):
        with TimetableServer(Timetable(faults=faults, **QUICK)) as server:
            driven = drive_plan(
                server.url, transport=transport, output_tokens=TOKENS, stall_s=0.5, warmup=8, **load
            )
        found[transport] = outcomes(driven)
        assert all(r.detail for r in driven.table if r.status is RequestStatus.FAILED)
    assert found["httpx"] == found["wire"]
    assert {found["wire"][k][1] for k in faults} > {"http_500", "cut", "stalled", "no_token", None}


@BOTH
@pytest.mark.parametrize(
    ("reply", "reason", "status"),
    [
        (b"", "cut", None),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort", "cut", 200),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "bad_json", 200),
        (b"it says hello\r\n\r\n", "bad_http", None),
        (b"HTTP/1.1 307 X\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n", "http_307", 307),
    ],
    ids=["nothing", "part", "empty", "no http", "redirect"],
)
def test_odd_replies_are_the_same_failures_on_both(reply, reason, status, transport, serve, drive_plan):
    async def answer(sock):
        reader, writer = await asyncio.open_connection(sock=sock)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(reply)
        await writer.drain()
        writer.close()

    driven = drive_plan(f"http://127.0.0.1:{serve(answer)}", transport=transport, due_s=every(0.02, 3))
    assert [(r.reason, r.http_status) for r in driven.table] == [(reason, status)] * 3


@BOTH
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_where_nobody_listens_every_request_is_refused(host, transport, drive_plan):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    driven = drive_plan(f"http://{host}:{port}", transport=transport, due_s=every(0.01, 10), warmup=2)
    assert driven.table.failures() == {"refused": 10}
    assert all(r.send_s is None and "Errno 111" in r.detail for r in driven.table)
    assert driven.warmup_reason.startswith("refused: ")


# -- httpx: times


def test_times_over_httpx_are_near_the_truth(drive_plan):
    with TimetableServer(Timetable()) as server:
        driven = drive_plan(
            server.url, transport="httpx", due_s=every(0.05, 60), output_tokens=TOKENS, warmup=4
        )
        true = server.true_times()
    assert driven.table.request_counts().completed == 60
    errors = [r.first_token_s - r.send_s - true[r.id].ttft_s for r in driven.table]
    assert min(errors) >= 0
    assert median(errors) < 0.01
    assert median(r.last_token_s - r.send_s - true[r.id].e2e_s for r in driven.table) < 0.01
    assert all(r.due_s <= r.send_s <= r.first_byte_s <= r.first_token_s for r in driven.table)


def test_a_connection_is_used_again_and_only_its_first_request_says_what_it_cost(drive_plan):
    with TimetableServer(Timetable(**QUICK)) as server:
        driven = drive_plan(server.url, transport="httpx", concurrency=4, requests=80, output_tokens=TOKENS)
    made = [r for r in driven.table if r.connect_s is not None]
    assert len(made) == driven.connections == 4
    assert all(0 < r.connect_s < 1 and r.tls_s is None for r in made)


def test_where_connections_end_with_each_reply_httpx_makes_one_for_each(drive_plan):
    with TimetableServer(Timetable(**QUICK)) as server:
        driven = drive_plan(
            server.url, transport="httpx", concurrency=4, requests=40, output_tokens=TOKENS,
            survives_stream=False,
        )  # fmt: skip
    assert driven.table.request_counts().completed == driven.connections == 40


def test_a_dead_connection_is_replaced_once_and_it_is_counted(drive_plan):
    with TimetableServer(Timetable(faults={7: "drop_once", 9: "drop"}, **QUICK)) as server:
        driven = drive_plan(server.url, transport="httpx", concurrency=1, requests=12, output_tokens=TOKENS)
    assert driven.table.failures() == {"cut": 1}
    assert {r.index: r.resent for r in driven.table if r.resent} == {7: 1, 9: 1}


def test_httpx_leaves_nothing_that_only_the_collector_would_free(load_plan):
    """The worker has none while it measures: what is left of each request would fill the memory."""
    with TimetableServer(Timetable(faults={1: "cut", 2: "http_500"}, **QUICK)) as server:
        plan = load_plan(server.url, transport="httpx", requests=4)

        async def drive():
            sender, columns, writer = HttpxSender(plan), Columns(plan.items), RequestWriter(plan, None)
            for k in range(4):
                done = asyncio.Event()
                exchange = Exchange(
                    index=k, place=k, cls=0, prompt_tokens=16, output_tokens=4, measured=True,
                    data=writer.request(0, f"t-{k}", writer.opening(columns, k, k), 4),
                    on_end=lambda _, done=done: done.set(),
                )  # fmt: skip
                sender.submit(exchange)
                await done.wait()
            await asyncio.sleep(0.01)  # the tasks end
            return [o for o in gc.get_objects() if isinstance(o, httpx.Request | httpx.Response)]

        gc.collect()
        gc.disable()
        try:
            assert asyncio.run(drive()) == []
        finally:
            gc.enable()


# -- httpx: limits in time


SLOW = Timetable(ttft_s=0.05, gap_s=0.05)  # 64 tokens take over 3 s


def test_a_request_over_httpx_that_takes_too_long_fails_and_keeps_its_tokens(drive_plan):
    with TimetableServer(SLOW) as server:
        driven = drive_plan(
            server.url, transport="httpx", due_s=every(0.01, 10), output_tokens=64, timeout_s=0.6
        )
    assert driven.table.failures() == {"timeout": 10}
    assert all(0.6 <= r.end_s - r.send_s < 1.5 and len(r.chunk_s) > 4 for r in driven.table)


def test_what_still_runs_over_httpx_at_the_end_of_the_drain_is_cut_and_keeps_its_tokens(drive_plan):
    with TimetableServer(SLOW) as server:
        driven = drive_plan(
            server.url, transport="httpx", due_s=every(0.01, 10), output_tokens=64, drain_s=0.5
        )
    assert driven.table.request_counts().cancelled == 10
    assert driven.workers[0].wall_s < 2.5
    assert all(r.reason == "cancelled" and 4 < len(r.chunk_s) < 64 for r in driven.table)
