"""What a worker leaves behind, whole or cut short by its death."""

import io
from array import array

import pytest

from pytest_inferforge.loadgen import fleet
from pytest_inferforge.loadgen.plan import CANCELLED, FAILED, OK, Finish, Row
from pytest_inferforge.loadgen.rows import read_rows, write_frame
from pytest_inferforge.records import RequestStatus


def row(index, *, status=OK, chunks=(), **fields):
    nothing = dict.fromkeys(
        (
            "reason",
            "detail",
            "http_status",
            "due_ns",
            "send_ns",
            "connect_ns",
            "first_byte_ns",
            "first_event_ns",
            "first_token_ns",
            "first_visible_ns",
            "last_token_ns",
            "end_ns",
            "prompt_tokens",
            "output_tokens",
            "cached_tokens",
            "finish_reason",
        )
    )
    rest = {
        "prompt_tokens_asked": 16,
        "output_tokens_asked": 4,
        "exact": True,
        "empty_chunks": 0,
        "resent": 0,
    }
    return Row(
        **nothing
        | rest
        | {"index": index, "status": status, "chunk_ns": array("q", chunks).tobytes()}
        | fields
    )


FINISH = Finish(
    issued=3, warmup=2, warmup_failed=1, warmup_reason="http_500: no", origin_unix_ns=5_000_000_000,
    cpu_ns=1_000_000_000, wall_ns=2_000_000_000, bytes_received=9, segments=8, connections=7,
    priority="normal",
)  # fmt: skip


def file_of(rows, finish=None):
    file = io.BytesIO()
    for content in rows:
        write_frame(file, b"R", content)
    if finish is not None:
        write_frame(file, b"F", finish)
    return file.getvalue()


@pytest.fixture
def plan(load_plan):
    return load_plan("http://127.0.0.1:1", due_s=(0.0, 0.5, 1.0))


def test_a_file_cut_at_any_byte_still_has_the_rows_before_it():
    rows = [row(0, chunks=(1, 2)), row(1), row(2, reason="cut", status=FAILED)]
    data = file_of(rows, FINISH)
    ends = [len(file_of(rows[:k])) for k in range(4)]
    for cut in range(len(data)):
        whole = sum(end <= cut for end in ends[1:])
        assert read_rows(data[:cut]) == (rows[:whole], None)
    assert read_rows(data) == (rows, FINISH)


def test_rows_become_a_table_in_the_order_of_the_schedule(plan):
    late = row(
        2,
        due_ns=1_000_000_000,
        send_ns=1_000_100_000,
        first_token_ns=1_250_000_000,
        last_token_ns=1_500_000_000,
        chunks=(1_250_000_000, 1_500_000_000),
        connect_ns=200_000,
        output_tokens=2,
        cached_tokens=0,
    )
    table = fleet.as_table(plan, [late, row(0, chunks=(1,)), row(1, status=CANCELLED, reason="cancelled")])
    assert table.index.tolist() == [0, 1, 2]
    assert table.texts["id"] == ("t-0", "t-1", "t-2")
    assert [r.status for r in table] == [RequestStatus.OK, RequestStatus.CANCELLED, RequestStatus.OK]
    seen = table[2]
    assert (seen.due_s, seen.send_s, seen.connect_s, seen.first_byte_s) == (1.0, 1.0001, 0.0002, None)
    assert (seen.chunk_s, seen.output_tokens, seen.cached_tokens) == ((1.25, 1.5), 2, 0)
    assert not table.closed_loop


def test_a_worker_that_ended_in_order_says_what_it_cost(plan):
    drive = fleet._drive(plan, [row(k) for k in range(3)], FINISH, None)
    assert (drive.lost, drive.fault) == (0, None)
    assert (drive.cpu_s, drive.wall_s, drive.segments, drive.connections) == (1.0, 2.0, 8, 7)
    assert (drive.warmup, drive.warmup_failed, drive.warmup_reason) == (2, 1, "http_500: no")


def test_requests_without_a_row_failed_because_the_worker_died(plan):
    drive = fleet._drive(plan, [row(1, chunks=(5,))], None, "exit code -9")
    assert [r.reason for r in drive.table] == ["worker_died", None, "worker_died"]
    assert [r.due_s for r in drive.table] == [0.0, None, 1.0]
    assert (drive.lost, drive.fault) == (2, "exit code -9")
    assert drive.table.request_counts().failed == 2


def test_where_time_ends_a_loop_a_dead_worker_is_known_to_have_sent_what_lies_before_its_last_row(load_plan):
    plan = load_plan("http://127.0.0.1:1", concurrency=4, duration_s=5.0)
    drive = fleet._drive(plan, [row(0), row(4), row(70)], None, "exit code -9")
    assert (len(drive.table), drive.lost) == (71, 68)
    counted = fleet._drive(
        load_plan("http://127.0.0.1:1", concurrency=4, requests=9), [row(0)], None, "exit code -9"
    )
    assert counted.lost == 8


def test_a_schedule_without_requests_is_a_table_without_rows(plan):
    assert len(fleet.as_table(plan, [])) == 0
