"""However the bytes of a stream are cut on their way, they say the same; only stamps follow the cuts.

The reference is the stream read a byte at a time, each byte stamped with its place, so that every stamp is
the place of the byte that ended an event (which `tests/unit/loadgen/test_sse.py` checks against a reader of
its own).
"""

import functools
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_inferforge.loadgen import sse
from pytest_inferforge.loadgen.reply import Reply

ENDS = (b"\n", b"\r\n", b"\r")
STAMPS = ("first_event_ns", "first_token_ns", "first_visible_ns", "last_token_ns")


def in_pieces(data, places):
    """The pieces between the places, each stamped with the place of its last byte."""
    return [(b - 1, data[a:b]) for a, b in pairwise((0, *places, len(data)))]


@functools.lru_cache(maxsize=512)
def by_byte(data):
    return sse.read_stream([(k, data[k : k + 1]) for k in range(len(data))])


def stamped(reply, places, size):
    """A reply that was read by the byte, as it is when the stream comes in these pieces."""
    ends = [*places, size]

    def place(when):
        return None if when is None else next(end for end in ends if end > when) - 1

    chunks = type(reply.chunk_ns)("q", map(place, reply.chunk_ns))
    moments = {name: place(getattr(reply, name)) for name in STAMPS}
    return msgspec.structs.replace(reply, chunk_ns=chunks, **moments)


def test_one_cut_anywhere_changes_nothing(stream):
    for end in ENDS:
        data = stream.replace(b"\n", end)
        reply = by_byte(data)
        for k in range(1, len(data)):
            assert sse.read_stream(in_pieces(data, [k])) == stamped(reply, [k], len(data)), (end, k)


@settings(deadline=None)  # how long it takes is nothing here, and the reference is read the first time
@given(st.data())
def test_many_cuts_change_nothing(stream, data):
    text = stream.replace(b"\n", data.draw(st.sampled_from(ENDS)))
    places = sorted(data.draw(st.sets(st.integers(1, len(text) - 1), max_size=40)))
    assert sse.read_stream(in_pieces(text, places)) == stamped(by_byte(text), places, len(text))


@pytest.mark.parametrize("events_a_step", [1, 2, 3, 64])
def test_it_does_not_matter_how_many_events_are_read_at_once(stream, events_a_step):
    reply = Reply()
    for _ in sse.reading([(k, stream[k : k + 1]) for k in range(len(stream))], reply, events_a_step):
        pass
    assert reply == by_byte(stream)


def test_text_is_kept_as_it_was_written(stream):
    """What a conversation says again: the same with and without cuts, line separators included."""
    kept = []
    for pieces in ([(0, stream)], in_pieces(stream, range(1, len(stream)))):
        reply = Reply(text=[])
        for _ in sse.reading(pieces, reply, 64):
            pass
        kept.append("".join(reply.text))
    assert kept[0] == kept[1]
