"""TLS on both transports, and what httpx is there for: proxies and HTTP/2."""

import asyncio
import ssl
from statistics import median
from urllib.parse import urlsplit

import h2.config
import h2.connection
import h2.errors
import h2.events
import pytest

from pytest_inferforge.records import RequestStatus
from pytest_inferforge.testing.timetable import Timetable, TimetableServer

QUICK = {"ttft_s": 0.03, "gap_s": 0.004}
TOKENS = 6
BOTH = pytest.mark.parametrize("transport", ["wire", "httpx"])


def every(gap_s, n):
    return tuple(k * gap_s for k in range(n))


async def pump(reader, writer):
    """Everything that comes, on to the other side, until it ends."""
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


async def join(reader, writer, host, port, first=b""):
    """Be the two directions between a client and a server."""
    there, to_there = await asyncio.open_connection(host, port)
    to_there.write(first)
    await asyncio.gather(pump(reader, to_there), pump(there, writer))


def server_tls(certificate, *protocols):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.cert, certificate.key)
    if protocols:
        context.set_alpn_protocols(protocols)
    return context


# -- TLS


@BOTH
def test_https_with_the_authority_of_a_file(transport, certificate, drive_plan):
    with TimetableServer(Timetable(**certificate.served, **QUICK)) as server:
        assert server.url.startswith("https://")
        driven = drive_plan(
            server.url, transport=transport, due_s=every(0.01, 60), output_tokens=TOKENS,
            ca_file=certificate.authority,
        )  # fmt: skip
        true = server.true_times()
    assert driven.table.request_counts().completed == len(true) == 60
    assert {(len(r.chunk_s), r.output_tokens, r.prompt_tokens) for r in driven.table} == {
        (TOKENS, TOKENS, 16)
    }
    made = [r for r in driven.table if r.connect_s is not None]
    assert made
    assert all(r.connect_s > 0 and r.tls_s > 0 for r in made)
    assert all(r.tls_s is None for r in driven.table if r.connect_s is None)
    assert median(r.tls_s for r in made) > median(r.connect_s for r in made)  # it is real work
    if transport == "wire":
        assert 0 < median(r.rtt_s for r in made) < 0.005


@BOTH
def test_a_certificate_that_nobody_vouches_for_is_refused_or_taken_unseen(transport, certificate, drive_plan):
    with TimetableServer(Timetable(**certificate.served, **QUICK)) as server:
        load = {"transport": transport, "due_s": every(0.02, 5), "output_tokens": TOKENS}
        strict = drive_plan(server.url, **load)
        lax = drive_plan(server.url, verify_tls=False, **load)
    assert strict.table.failures() == {"tls_failed": 5}
    assert all("certificate verify failed" in r.detail and r.send_s is None for r in strict.table)
    assert lax.table.request_counts().completed == 5


@BOTH
def test_a_slow_handshake_is_no_part_of_a_service_latency(transport, certificate, serve, drive_plan):
    handshake_s, ttft_s = 0.15, 0.05
    tls = server_tls(certificate)
    with TimetableServer(Timetable(ttft_s=ttft_s, gap_s=0.004)) as server:
        host, port = urlsplit(server.url).netloc.split(":")

        async def relay(sock):
            await asyncio.sleep(handshake_s)
            loop, reader = asyncio.get_running_loop(), asyncio.StreamReader()
            protocol = asyncio.StreamReaderProtocol(reader)
            transport, _ = await loop.connect_accepted_socket(lambda: protocol, sock, ssl=tls)
            await join(reader, asyncio.StreamWriter(transport, protocol, reader, loop), host, int(port))

        driven = drive_plan(
            f"https://127.0.0.1:{serve(relay)}", transport=transport, ca_file=certificate.authority,
            due_s=every(0.1, 20), output_tokens=TOKENS, survives_stream=False, lead_s=0.4,
        )  # fmt: skip
    assert driven.table.request_counts().completed == 20
    assert all(r.tls_s > 0.9 * handshake_s > r.connect_s for r in driven.table)  # each on one of its own
    assert abs(median(r.first_token_s - r.send_s for r in driven.table) - ttft_s) < 0.02
    if transport == "wire":  # connections were ready before they were needed
        assert median(r.send_s - r.due_s for r in driven.table) < 0.02


# -- proxies


@pytest.fixture
def proxy(serve):
    """An HTTP proxy: its URL, and what it was asked for as (method, target)."""
    asked = []

    async def answer(sock):
        reader, writer = await asyncio.open_connection(sock=sock)
        head = await reader.readuntil(b"\r\n\r\n")
        method, target, _ = head.decode().split(" ", 2)
        asked.append((method, target))
        parts = urlsplit(f"//{target}" if method == "CONNECT" else target)
        if method == "CONNECT":
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        first = b"" if method == "CONNECT" else head.replace(target.encode(), parts.path.encode(), 1)
        await join(reader, writer, parts.hostname, parts.port, first)

    return f"http://127.0.0.1:{serve(answer)}", asked


@pytest.fixture(params=["http", "https"])
def closing_server(request, certificate):
    """A server whose connections carry one request each, with and without TLS."""
    tls = certificate.served if request.param == "https" else {}
    with TimetableServer(Timetable(close=True, **tls, **QUICK)) as server:
        yield server


def test_httpx_goes_by_the_proxy_of_the_environment(
    closing_server, proxy, certificate, drive_plan, monkeypatch
):
    url, asked = proxy
    monkeypatch.setenv("HTTP_PROXY", url)
    monkeypatch.setenv("HTTPS_PROXY", url)
    driven = drive_plan(
        closing_server.url, transport="httpx", due_s=every(0.02, 5), output_tokens=TOKENS,
        ca_file=certificate.authority,
    )  # fmt: skip
    assert driven.table.request_counts().completed == 5
    assert all(r.connect_s > 0 for r in driven.table)
    parts = urlsplit(closing_server.url)
    secure = parts.scheme == "https"
    wanted = ("CONNECT", parts.netloc) if secure else ("POST", f"{closing_server.url}/v1/completions")
    assert asked == [wanted] * 5
    assert all((r.tls_s is not None) == secure for r in driven.table)


@pytest.mark.parametrize(
    ("load", "excepted"),
    [
        ({"transport": "wire"}, ""),
        ({"transport": "httpx"}, "127.0.0.1"),
        ({"transport": "httpx", "proxies": False}, ""),
    ],
    ids=["by the wire", "where it is excepted", "where the plan has none"],
)
def test_the_proxy_is_left_aside(load, excepted, closing_server, proxy, certificate, drive_plan, monkeypatch):
    url, asked = proxy
    monkeypatch.setenv("ALL_PROXY", url)
    monkeypatch.setenv("NO_PROXY", excepted)
    driven = drive_plan(
        closing_server.url, due_s=every(0.02, 5), output_tokens=TOKENS, ca_file=certificate.authority, **load
    )
    assert driven.table.request_counts().completed == 5
    assert asked == []


@pytest.mark.parametrize(
    ("says", "reason", "detail"),
    [(b"HTTP/1.1 403 Forbidden\r\n\r\n", "connect_failed", "403 Forbidden"), (b"", "stalled", "no byte")],
    ids=["refuses", "is silent"],
)
def test_a_proxy_that_makes_no_tunnel(says, reason, detail, serve, drive_plan, monkeypatch):
    async def answer(sock):
        reader, writer = await asyncio.open_connection(sock=sock)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(says)
        if says:
            writer.close()
        await asyncio.sleep(10)

    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{serve(answer)}")
    driven = drive_plan("https://10.255.255.1", transport="httpx", due_s=every(0.02, 3), stall_s=0.3)
    assert driven.table.failures() == {reason: 3}
    assert all(detail in r.detail and r.send_s is None for r in driven.table)


# -- HTTP/2


class Http2Answers(asyncio.Protocol):
    """Streams four tokens to each request; at the third of the one named t-3, something `breaks`."""

    def __init__(self, breaks):
        self.breaks = breaks
        self.line = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        self.names = {}
        self.tasks = set()

    def connection_made(self, transport):
        self.transport = transport
        self.line.initiate_connection()
        self.flush()

    def flush(self):
        self.transport.write(self.line.data_to_send())

    def data_received(self, data):
        for event in self.line.receive_data(data):
            if isinstance(event, h2.events.RequestReceived):
                self.names[event.stream_id] = dict(event.headers)[b"x-request-id"]
            elif isinstance(event, h2.events.DataReceived):
                self.line.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.StreamEnded):
                task = asyncio.get_running_loop().create_task(self.answer(event.stream_id))
                self.tasks.add(task)
        self.flush()

    def break_off(self, stream):
        if self.breaks == "stream":
            self.line.reset_stream(stream, h2.errors.ErrorCodes.INTERNAL_ERROR)
        elif self.breaks == "politely":
            self.line.close_connection()
        elif self.breaks == "garbage":
            self.transport.write(bytes(64))
        else:
            self.transport.abort()

    def connection_lost(self, _):
        for task in self.tasks:
            task.cancel()

    async def answer(self, stream):
        self.line.send_headers(stream, [(":status", "200"), ("content-type", "text/event-stream")])
        for k in range(4):
            await asyncio.sleep(0.02)
            if k == 2 and self.names[stream] == b"t-3":
                self.break_off(stream)
                self.flush()
                return
            if self.line.state_machine.state is h2.connection.ConnectionState.CLOSED:
                return
            self.line.send_data(stream, b'data: {"choices": [{"text": " tok"}]}\n\n')
            self.flush()
        self.line.send_data(stream, b"data: [DONE]\n\n", end_stream=True)
        self.flush()


def test_streams_of_http2_share_a_connection_and_one_may_break(certificate, serve, drive_plan):
    tls = server_tls(certificate, "h2")

    async def answer(sock):
        loop = asyncio.get_running_loop()
        await loop.connect_accepted_socket(lambda: Http2Answers("stream"), sock, ssl=tls)

    driven = drive_plan(
        f"https://127.0.0.1:{serve(answer)}", transport="httpx", ca_file=certificate.authority,
        due_s=every(0.02, 12),
    )  # fmt: skip
    assert driven.connections == 1
    assert driven.table.failures() == {"cut": 1}
    assert {r.index: len(r.chunk_s) for r in driven.table} == dict.fromkeys(range(12), 4) | {3: 2}
    whole = [r for r in driven.table if r.status is RequestStatus.OK]
    assert median(r.chunk_s[-1] - r.chunk_s[0] for r in whole) > 0.04  # they came one by one


@pytest.mark.parametrize("breaks", ["politely", "garbage", "at once"])
def test_a_connection_of_http2_that_breaks_fails_what_runs_on_it_and_nothing_else(
    breaks, certificate, serve, drive_plan
):
    tls = server_tls(certificate, "h2")

    async def answer(sock):
        await asyncio.get_running_loop().connect_accepted_socket(lambda: Http2Answers(breaks), sock, ssl=tls)

    driven = drive_plan(
        f"https://127.0.0.1:{serve(answer)}", transport="httpx", ca_file=certificate.authority,
        due_s=(*every(0.02, 6), *(1.0 + t for t in every(0.02, 6))), stall_s=0.5,
    )  # fmt: skip
    assert (driven.fault, driven.connections) == (None, 2)
    failed = {r.index: r.reason for r in driven.table if r.status is RequestStatus.FAILED}
    assert 3 in failed
    assert all(k < 6 for k in failed)
    assert set(failed.values()) <= {"cut", "bad_http", "stalled"}  # which, only its first reader may learn
