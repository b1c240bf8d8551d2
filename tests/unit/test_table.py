import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_inferforge.records import RequestCounts, RequestRecord, RequestStatus
from pytest_inferforge.table import RequestTable

MAYBE_TIME = st.none() | st.floats(-1e6, 1e6)
MAYBE_COUNT = st.none() | st.integers(0, 2**40)
MAYBE_TEXT = st.none() | st.text(max_size=8)
RECORDS = st.lists(
    st.builds(
        RequestRecord,
        index=st.integers(0, 2**31),
        id=st.text(max_size=8),
        status=st.sampled_from(RequestStatus),
        **dict.fromkeys(("reason", "detail", "finish_reason"), MAYBE_TEXT),
        **dict.fromkeys(
            ("due_s", "send_s", "connect_s", "first_byte_s", "first_event_s", "first_token_s",
             "first_visible_s", "last_token_s", "end_s", "server_ttft_s", "server_queue_s"),
            MAYBE_TIME,
        ),
        **dict.fromkeys(
            ("prompt_tokens_asked", "output_tokens_asked", "empty_chunks"), st.integers(0, 2**40)
        ),
        **dict.fromkeys(
            ("prompt_tokens", "output_tokens", "cached_tokens", "first_chunk_tokens", "http_status"),
            MAYBE_COUNT,
        ),
        output_tokens_exact=st.booleans(),
        chunk_s=st.lists(st.floats(-1e6, 1e6), max_size=4).map(tuple),
        resent=st.integers(0, 1),
    ),
    max_size=6,
    unique_by=lambda r: r.index,
)  # fmt: skip


@given(RECORDS)
def test_records_become_columns_and_records_again(records):
    table = RequestTable.from_records(records)
    assert list(table) == sorted(records, key=lambda r: r.index)
    assert list(RequestTable.from_records(list(table))) == list(table)


def test_a_request_is_found_by_its_place_from_either_end(make_request):
    table = RequestTable.from_records([make_request(k, chunks=(k + 0.5,)) for k in range(3)])
    assert [table[k].index for k in (0, 2, -1, -3)] == [0, 2, 2, 0]
    for outside in (3, -4):
        with pytest.raises(IndexError):
            table[outside]


def test_what_was_never_reached_is_none_and_zero_stays_zero():
    record = RequestRecord(
        index=0, id="t-0", status=RequestStatus.OK, prompt_tokens_asked=1, output_tokens_asked=1,
        cached_tokens=0, send_s=0.0,
    )  # fmt: skip
    read = RequestTable.from_records([record])[0]
    assert (read.send_s, read.first_token_s) == (0.0, None)
    assert (read.cached_tokens, read.prompt_tokens) == (0, None)


def test_issued_is_the_sum_of_what_became_of_requests(make_request):
    table = RequestTable.from_records(
        [
            make_request(0, chunks=(0.1,)),
            make_request(1, fails="cut"),
            make_request(2, fails="cut"),
            make_request(3, fails="refused"),
            make_request(4, cut_s=1.0),
        ]
    )
    assert table.request_counts(warmup=7) == RequestCounts(
        issued=5, completed=1, failed=3, cancelled=1, warmup=7
    )
    assert list(table.failures().items()) == [("cut", 2), ("refused", 1)]


def test_what_a_user_felt_begins_when_the_request_was_due_or_where_users_wait_when_it_was_sent(make_request):
    record = make_request(0, due_s=1.0, send_s=1.25, chunks=(2.0,))
    assert RequestTable.from_records([record]).start_s.tolist() == [1.0]
    waiting = make_request(0, due_s=None, send_s=1.25, chunks=(2.0,))
    assert RequestTable.from_records([waiting]).start_s.tolist() == [1.25]


def test_no_requests_are_a_table_too():
    table = RequestTable.from_records([])
    assert (len(table), list(table), table.failures()) == (0, [], {})
    assert table.request_counts() == RequestCounts(issued=0, completed=0, failed=0, cancelled=0)
