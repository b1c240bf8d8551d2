"""Streams as servers write them; how they are cut on the way must change nothing but the stamps."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_inferforge.loadgen import sse
from pytest_inferforge.loadgen.reply import Reply

TOKEN = b'data: {"choices":[{"index":0,"text":" tok"}]}'
FINISH = b'data: {"choices":[{"index":0,"text":"","finish_reason":"length"}]}'


def stream(*blocks, end=b"\n"):
    return b"".join(block.replace(b"\n", end) + end + end for block in blocks)


def oracle(data):
    """Server-sent events read a byte at a time: (offset of the byte that ended each, type, data)."""
    found, kind, lines, line, after_cr = [], b"", [], b"", False
    for offset, byte in enumerate(bytes([b]) for b in data):
        if byte == b"\n" and after_cr:
            after_cr = False
            continue
        after_cr = byte == b"\r"
        if byte not in (b"\n", b"\r"):
            line += byte
            continue
        if not line:
            if lines:
                found.append((offset, kind, b"\n".join(lines)))
            kind, lines = b"", []
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            lines.append(value)
        elif name == b"event":
            kind = value
        line = b""
    return found


BLOCKS = st.sampled_from(
    [b"data: a", b"data:b", b"data: one\ndata: two", b": ping", b"event: error\ndata: {}",
     b"data: caf\xc3\xa9", b"id: 7\nretry: 10\ndata: x", b"data: \xe2\x80\xa8\xc2\x85", b"data: [DONE]"]
)  # fmt: skip


@given(
    st.lists(BLOCKS, max_size=6),
    st.sampled_from([b"\n", b"\r\n", b"\r"]),
    st.sets(st.integers(0, 200)),
)
def test_wherever_a_stream_is_cut_its_events_are_the_same_and_stamped_by_their_last_byte(blocks, end, cuts):
    data = stream(*blocks, end=end)
    places = sorted({0, len(data), *(c for c in cuts if c < len(data))})
    pieces = [(b, data[a:b]) for a, b in pairwise(places)]  # each stamped with the offset of its end
    expected = [
        (next(p for p in places if p > offset), kind, content) for offset, kind, content in oracle(data)
    ]
    assert list(sse.events(pieces)) == expected


def test_an_event_is_over_at_its_carriage_return_whatever_follows():
    pieces = [(1, b"data: a\r\r"), (2, b"data: b\r\n\r"), (3, b"\ndata: c\r\n\r\n")]
    assert list(sse.events(pieces)) == [(1, b"", b"a"), (2, b"", b"b"), (3, b"", b"c")]


def test_an_event_that_never_ended_is_none():
    assert list(sse.events([(1, b"data: a\n\ndata: b\n")])) == [(1, b"", b"a")]


def test_a_piece_that_ends_in_the_next_line_is_no_whole_event():
    pieces = [(1, b"data: a\nd"), (2, b"ata: b\n\n"), (3, b"data: c\n\n")]
    assert list(sse.events(pieces)) == [(2, b"", b"a\nb"), (3, b"", b"c")]


def test_a_long_reply_can_be_read_a_slice_at_a_time():
    reply = Reply()
    steps = sse.reading([(1, stream(*[TOKEN] * 9, FINISH))], reply, 1)
    for _ in range(4):
        next(steps)
    assert len(reply.chunk_ns) == 4
    assert (sum(1 for _ in steps), len(reply.chunk_ns), reply.fault) == (6, 9, None)


OPENED = b'event: message_start\ndata: {"type":"message_start","message":{}}'
SAID = (
    b"event: content_block_delta\n"
    b'data: {"type":"content_block_delta","delta":{"type":"text_delta","text":"a"}}'
)
OVER = b'event: message_stop\ndata: {"type":"message_stop"}'
PING = b'event: ping\ndata: {"type": "ping"}'


@pytest.mark.parametrize(
    ("blocks", "fault", "detail"),
    [
        ((OPENED, SAID, OVER), None, None),
        ((PING, OPENED, SAID, OVER), None, None),
        ((OPENED, SAID), "cut", "without stop_reason and without message_stop"),
        ((TOKEN, FINISH), None, None),
        ((TOKEN,), "cut", "without finish_reason and without [DONE]"),
        ((b"event: message\n" + TOKEN, FINISH), None, None),  # a type that is nobody's
    ],
)
@pytest.mark.parametrize("events_a_step", [1, 64])
def test_the_first_event_tells_the_protocol(blocks, fault, detail, events_a_step):
    reply = Reply()
    for _ in sse.reading([(1, stream(*blocks))], reply, events_a_step):
        pass
    assert (reply.fault, len(reply.chunk_ns)) == (fault, 1)
    assert reply.detail is None if detail is None else detail in reply.detail
