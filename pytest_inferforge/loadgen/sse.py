"""What a reply says: server-sent events, and who reads them. Runs after the request ended.

Source: WHATWG HTML, "Server-sent events" (fields, line ends, comments).
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from pytest_inferforge.loadgen import replies_anthropic, replies_openai
from pytest_inferforge.loadgen.reply import Reply

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pytest_inferforge.loadgen.reply import Event

Piece = tuple[int, bytes]  # when it arrived (ns), what arrived


def events(pieces: Iterable[Piece]) -> Iterator[Event]:
    r"""Server-sent events as (arrival of the byte that ended them, event type, data).

    Lines end in LF, CRLF or CR (the CR ends the line; a LF after it belongs to it, whenever it comes), and in
    nothing else; comments and fields that we do not need are skipped.

    >>> list(events([(1, b"data: a"), (2, b"\n\n: ping\n\ndata: b\n\n")]))
    [(2, b'', b'a'), (2, b'', b'b')]
    """
    rest, after_cr = b"", False
    kind = b""
    data: list[bytes] = []
    for when, piece in pieces:
        if (
            # a whole event of one line of data: what most engines write, and quick to read
            piece.startswith(b"data: ")
            and piece.endswith(b"\n\n")
            and piece.find(b"\n") == len(piece) - 2
            and b"\r" not in piece
            and not (rest or after_cr or data or kind)
        ):
            yield when, b"", piece[6:-2]
            continue
        rest += piece[1:] if after_cr and piece.startswith(b"\n") else piece
        after_cr = piece.endswith(b"\r")
        if b"\r" in rest:
            rest = rest.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        lines = rest.split(b"\n")
        rest = lines.pop()
        for line in lines:
            if not line:
                if data:
                    yield when, kind, b"\n".join(data) if len(data) > 1 else data[0]
                    data = []
                kind = b""
            elif line.startswith(b"data:"):
                data.append(line[6:] if line.startswith(b"data: ") else line[5:])
            elif line.startswith(b"event:"):
                kind = line[6:].strip()


def read_stream(pieces: Iterable[Piece]) -> Reply:
    """Read a streamed reply; the first fault ends the reading, what came before it is kept."""
    reply = Reply()
    for _ in reading(pieces, reply, 1 << 30):
        pass
    return reply


def reading(pieces: Iterable[Piece], reply: Reply, events_a_step: int) -> Iterator[None]:
    """`read_stream` into an empty reply, in steps; it says what it came to when the last was taken.

    The first event tells which protocol it is: Anthropic's has a type.
    """
    arriving = events(pieces)
    read, ends = replies_openai.read, replies_openai.ENDS
    while step := list(itertools.islice(arriving, events_a_step)):
        if reply.first_event_ns is None:
            reply.first_event_ns, kind, _ = step[0]
            if kind in replies_anthropic.OPENINGS:
                read, ends = replies_anthropic.read, replies_anthropic.ENDS
        read(reply, step)
        if reply.fault is not None:
            return
        yield
    reply.close(ends=ends)


def read_whole(when: int, body: bytes) -> Reply:
    """Read a reply that was not streamed: one chunk, at the arrival of its last byte."""
    reply = Reply(first_event_ns=when, done=True)
    protocol = replies_anthropic if replies_anthropic.is_message(body) else replies_openai
    protocol.read_whole(reply, when, body)
    if reply.fault is None:
        reply.close(ends=protocol.ENDS)
    return reply
