"""A connection on a transport that is none: what it stamps, when it reads, what is left of a broken reply."""

from itertools import pairwise

import pytest

from pytest_inferforge.loadgen.wire import Connection, Exchange

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
LAST = b"0\r\n\r\n"


def framed(data):
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


class Transport:
    """Stands for a TLS transport, so that nothing is written past it."""

    def __init__(self):
        self.written = b""
        self.aborted = False

    def get_extra_info(self, name):
        return object() if name == "ssl_object" else None

    def write(self, data):
        self.written += data

    def abort(self):
        self.aborted = True


class Line:
    """A connection with an exchange on it, and what happened to both."""

    def __init__(self):
        self.freed, self.lost, self.ended = [], [], []
        self.connection = Connection(self.freed.append, self.lost.append)
        self.transport = Transport()
        self.connection.connection_made(self.transport)
        self.exchange = self.send()

    def send(self):
        exchange = Exchange(
            index=0,
            place=0,
            cls=0,
            data=b"ask",
            prompt_tokens=1,
            output_tokens=1,
            measured=True,
            on_end=self.ended.append,
        )
        self.connection.send(exchange)
        return exchange

    def receive(self, *segments):
        for data in segments:
            self.connection.data_received(data)

    @property
    def body(self):
        return b"".join(data for _, data in self.exchange.pieces)


@pytest.fixture
def line():
    return Line()


WHOLE = {
    "chunked": HEAD + framed(b"data: a\n\n") + framed(b"data: b\n\n") + LAST,
    "chunked, with a trailer": HEAD
    + framed(b"data: a\n\n")
    + framed(b"data: b\n\n")
    + b"0\r\nX-Time: 1\r\n\r\n",
    "a length": b"HTTP/1.1 200 OK\r\nContent-Length: 18\r\n\r\ndata: a\n\ndata: b\n\n",
    "after an interim reply": b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    + HEAD
    + framed(b"data: a\n\ndata: b\n\n")
    + LAST,
}


@pytest.mark.parametrize("reply", WHOLE.values(), ids=WHOLE)
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 16, 1000])
def test_a_reply_ends_with_its_last_byte_however_it_is_cut(line, reply, size):
    segments = [reply[a : a + size] for a in range(0, len(reply), size)]
    line.receive(*segments[:-1])
    assert line.ended == []
    line.receive(segments[-1])
    assert line.ended == [line.exchange]
    assert (line.exchange.fault, line.exchange.status, line.body) == (None, 200, b"data: a\n\ndata: b\n\n")
    assert line.freed == [line.connection]


def test_every_byte_is_stamped_with_the_segment_that_brought_it(line):
    line.receive(HEAD + framed(b"data: a\n\n"), framed(b"data: b\n\n"), LAST)
    stamps = line.exchange.stamps
    assert [when for when, _ in line.exchange.pieces] == stamps[:2]
    assert all(a <= b for a, b in pairwise([line.exchange.send_ns, *stamps]))
    assert line.exchange.end_ns == stamps[-1]


def test_segments_that_cannot_be_the_last_are_read_later_but_not_all_at_the_end(line):
    line.receive(HEAD, *[framed(b"data: a\n\n")] * 200)
    assert line.exchange.pieces == []
    line.receive(*[framed(b"data: a\n\n")] * 200)
    assert len(line.exchange.pieces) == 255


@pytest.mark.parametrize(
    ("head", "kept"),
    [
        (b"HTTP/1.1 200 OK\r\n", True),
        (b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\n", True),
        (b"HTTP/1.1 200 OK\r\nConnection: Close\r\n", False),
        (b"HTTP/1.1 200 OK\r\nConnection: close, TE\r\n", False),
        (b"HTTP/1.0 200 OK\r\n", False),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n", True),
    ],
)
def test_a_connection_is_kept_when_the_server_promises_it(line, head, kept):
    line.receive(head + b"Content-Length: 2\r\n\r\nok")
    assert bool(line.freed) == kept
    assert line.transport.aborted != kept


def test_the_second_request_of_a_connection_is_one_on_a_used_one(line):
    line.receive(WHOLE["a length"])
    second = line.send()
    assert (line.exchange.was_idle, second.was_idle) == (False, True)
    assert second.connect_ns is None
    line.receive(WHOLE["a length"])
    assert line.ended == [line.exchange, second]


@pytest.mark.parametrize("fault", ["timeout", "stalled", "cancelled"])
def test_a_request_given_up_keeps_what_had_come(line, fault):
    line.receive(HEAD, framed(b"data: a\n\n"), framed(b"data: b\n\n"))
    line.connection.give_up(fault, "why")
    assert line.ended == [line.exchange]
    assert (line.exchange.fault, line.exchange.detail, line.body) == (fault, "why", b"data: a\n\ndata: b\n\n")
    assert line.transport.aborted
    line.connection.connection_lost(None)
    assert (line.ended, line.lost) == ([line.exchange], [line.connection])


@pytest.mark.parametrize(
    ("segments", "fault", "body"),
    [
        ((), "unanswered", b""),
        ((HEAD[:20],), "cut", b""),
        ((HEAD, framed(b"data: a\n\n")), "cut", b"data: a\n\n"),
        ((HEAD, framed(b"data: a\n\n")[:6]), "cut", b"dat"),
        ((b"HTTP/1.1 200 OK\r\nContent-Length: 18\r\n\r\ndata: a\n\n",), "cut", b"data: a\n\n"),
        ((b"HTTP/1.1 200 OK\r\n\r\ndata: a\n\n",), None, b"data: a\n\n"),  # it ends with the connection
    ],
)
def test_a_connection_that_closes_leaves_what_had_come(line, segments, fault, body):
    line.receive(*segments)
    line.connection.connection_lost(None)
    assert line.ended == [line.exchange]
    assert (line.exchange.fault, line.body) == (fault, body)
    assert line.lost == [line.connection]


def test_what_is_not_http_is_a_failure_and_the_end_of_the_connection(line):
    line.receive(b"SSH-2.0-OpenSSH_9.6\r\n")
    assert line.exchange.fault == "bad_http"
    assert line.transport.aborted


def test_bytes_that_nobody_asked_for_end_the_connection(line):
    line.receive(WHOLE["a length"])
    line.receive(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
    assert line.transport.aborted
    assert line.ended == [line.exchange]
