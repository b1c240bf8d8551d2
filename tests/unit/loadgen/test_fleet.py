"""What a worker leaves behind, whole or cut short by its death."""

import io
from array import array

import pytest

from pytest_inferforge.loadgen import fleet
from pytest_inferforge.loadgen.gathering import Gathering
from pytest_inferforge.loadgen.plan import CANCELLED, FAILED, OK, Finish, Row
from pytest_inferforge.loadgen.rows import frames, write_frame
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
            "tls_ns",
            "rtt_ns",
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
        "cls": 0,
        "session": index,
        "turn": 0,
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
    cpu_ns=1_000_000_000, wall_ns=2_000_000_000, segments=8, connections=7,
    priority="normal", loop_lag_p99_ns=1000, loop_lag_max_ns=2000, rss_bytes=((0, 1 << 20),),
)  # fmt: skip


def file_of(rows, finish=None):
    file = io.BytesIO()
    for content in rows:
        write_frame(file, b"R", content)
    if finish is not None:
        write_frame(file, b"F", finish)
    return file.getvalue()


def table_of(plan, *rows):
    gathering = Gathering()
    for one in rows:
        gathering.add(one)
    return gathering.table(plan, classes=())


@pytest.fixture
def plan(load_plan):
    return load_plan("http://127.0.0.1:1", due_s=(0.0, 0.5, 1.0))


def test_a_file_cut_at_any_byte_still_has_the_rows_before_it():
    rows = [row(0, chunks=(1, 2)), row(1), row(2, reason="cut", status=FAILED)]
    data = file_of(rows, FINISH)
    ends = [len(file_of(rows[:k])) for k in range(4)]
    for cut in range(len(data)):
        whole = sum(end <= cut for end in ends[1:])
        assert list(frames(io.BytesIO(data[:cut]))) == rows[:whole]
    assert list(frames(io.BytesIO(data))) == [*rows, FINISH]


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
        first_chunk_tokens=1,
        server_ttft_ns=12_500_000,
    )
    table = table_of(plan, late, row(0, chunks=(1,)), row(1, status=CANCELLED, reason="cancelled"))
    assert table.index.tolist() == [0, 1, 2]
    assert table.texts["id"] == ("t-0", "t-1", "t-2")
    assert [r.status for r in table] == [RequestStatus.OK, RequestStatus.CANCELLED, RequestStatus.OK]
    seen = table[2]
    assert (seen.due_s, seen.send_s, seen.connect_s, seen.first_byte_s) == (1.0, 1.0001, 0.0002, None)
    assert (seen.chunk_s, seen.output_tokens, seen.cached_tokens) == ((1.25, 1.5), 2, 0)
    assert (seen.first_chunk_tokens, seen.server_ttft_s, seen.server_queue_s) == (1, 0.0125, None)


class Hand:
    """A worker that has ended and left a file."""

    where = "worker 1 of 1"

    def __init__(self, plan, path, rows, finish=None, fault=None):
        self.plan, self.path, self.fault = plan, path, fault
        path.write_bytes(file_of(rows, finish))

    def progress(self):
        return iter(())

    def go(self, origin_ns):
        raise AssertionError(f"nobody was ready for {origin_ns}")

    def ended(self):
        return self.fault

    def rows(self):
        return self.path

    def stop(self):
        pass


def drive(plan, tmp_path, rows, finish=None, fault=None):
    return fleet.conduct([Hand(plan, tmp_path / "rows", rows, finish, fault)])


def test_a_worker_that_ended_in_order_says_what_it_cost(plan, tmp_path):
    found = drive(plan, tmp_path, [row(k) for k in range(3)], FINISH)
    assert (found.lost, found.fault) == (0, None)
    (cost,) = found.workers
    assert (cost.cpu_s, cost.wall_s, cost.segments, cost.connections) == (1.0, 2.0, 8, 7)
    assert (cost.loop_lag_p99_s, cost.memory_bytes) == (1e-6, ((0.0, 1 << 20),))
    assert (found.warmup, found.warmup_failed, found.warmup_reason) == (2, 1, "http_500: no")
    assert not (tmp_path / "rows").exists()


def test_requests_without_a_row_failed_because_the_worker_died(plan, tmp_path):
    found = drive(plan, tmp_path, [row(1, chunks=(5,))], None, "exit code -9")
    assert [r.reason for r in found.table] == ["worker_died", None, "worker_died"]
    assert [r.due_s for r in found.table] == [0.0, None, 1.0]
    assert (found.lost, found.fault) == (2, "worker 1 of 1: exit code -9")
    assert found.table.request_counts().failed == 2


def test_where_time_ends_a_loop_a_dead_worker_is_known_to_have_sent_what_lies_before_its_last_row(
    load_plan, tmp_path
):
    plan = load_plan("http://127.0.0.1:1", concurrency=4, duration_s=5.0)
    found = drive(plan, tmp_path, [row(0), row(4), row(60)], None, "exit code -9")
    assert (len(found.table), found.lost) == (61, 58)
    counted = load_plan("http://127.0.0.1:1", concurrency=4, requests=9)
    assert drive(counted, tmp_path, [row(0)], None, "exit code -9").lost == 8


def test_a_schedule_without_requests_is_a_table_without_rows(plan):
    assert len(table_of(plan)) == 0
