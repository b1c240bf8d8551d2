"""A timetable server: `python -m pytest_inferforge.testing.timetable_process CONFIG ADDRESS [PORT]`.

Its times are the truth that a client is checked against, so tokens are written by the same exact alarm that
the client sends by, straight to the socket (under TLS through the event loop), and stamped right before.
"""

from __future__ import annotations

import asyncio
import gc
import heapq
import itertools
import json
import os
import random
import socket
import ssl
import sys
import time
import zlib
from collections import deque
from pathlib import Path
from time import monotonic_ns
from typing import Any

import httptools
import uvloop

from pytest_inferforge.loadgen.dispatch import Alarm
from pytest_inferforge.loadgen.priority import hurry
from pytest_inferforge.testing import timetable_replies as replies
from pytest_inferforge.testing.timetable_boots import of_this_boot

_NS = 1_000_000_000


class Stream:
    """One reply being written by the timetable."""

    def __init__(
        self, peer: Peer, name: str, index: int | None, tokens: int, chat: bool, times: list[int]
    ) -> None:
        self.peer = peer
        self.name = name
        self.tokens = tokens
        self.chat = chat
        self.times = times  # of each token, ns after the reply was begun
        self.fault = peer.server.faults.get(index) if index is not None else None
        self.prompt_tokens = 0
        self.begun_ns = 0
        self.opened = False  # the head of the reply was written
        self.written = 0
        self.log: list[int] = []


class Timetabled:
    """All connections, streams and the log."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        self.faults = {int(k): v for k, v in config["faults"].items()}
        self.closures = {c["after_index"]: c for c in config["closures"]}
        self.log: dict[str, tuple[int, list[int]]] = {}
        self.heap: list[tuple[int, int, Stream]] = []
        self.waiting: deque[Stream] = deque()
        self.running = 0
        self.started_at_unix_s = time.time()
        self.tick_ns = round((config["tick_s"] or 0.0) * _NS)
        self.serial = 0
        self.unnamed = itertools.count()  # serial numbers of requests without an id
        self.listener: asyncio.Server | None = None
        self.peers: set[Peer] = set()
        self.dropped: set[str] = set()
        self.port = config["port"]
        self.tls = _tls_context(config["tls_cert"], config["tls_key"])

    async def start(self) -> None:
        self.alarm = Alarm(asyncio.get_running_loop(), self.tick)
        await self.listen()

    async def listen(self) -> None:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", self.port))
        self.port = sock.getsockname()[1]
        self.listener = await asyncio.get_running_loop().create_server(
            lambda: Peer(self), sock=sock, backlog=4096, ssl=self.tls
        )

    def close_for_a_while(self, closure: dict[str, float]) -> None:
        loop = asyncio.get_running_loop()

        def shut() -> None:
            assert self.listener is not None
            self.listener.close()
            for peer in tuple(self.peers):
                peer.close_if_idle()

        loop.call_later(closure["start_s"], shut)
        loop.call_later(closure["stop_s"], lambda: loop.create_task(self.listen()))

    def submit(self, stream: Stream) -> None:
        slots = self.config["slots"]
        if slots is not None and self.running >= slots:
            self.waiting.append(stream)
            return
        self.running += 1
        stream.begun_ns = monotonic_ns()
        if stream.fault == "empty_chunks":  # long before the first token, so that taking them for it shows
            early_s = stream.times[0] / 2 / _NS
            asyncio.get_running_loop().call_later(early_s, stream.peer.write_empty, stream)
        self.push(stream)

    def push(self, stream: Stream) -> None:
        self.serial += 1
        due_ns = stream.begun_ns + stream.times[stream.written]
        if self.tick_ns:
            due_ns = -(-due_ns // self.tick_ns) * self.tick_ns
        heapq.heappush(self.heap, (due_ns, self.serial, stream))
        if self.heap[0][1] == self.serial:
            self.alarm.set(self.heap[0][0])

    def finished(self) -> None:
        self.running -= 1
        if self.waiting:
            self.submit(self.waiting.popleft())

    def tick(self) -> None:
        while self.heap and self.heap[0][0] <= monotonic_ns():
            stream = heapq.heappop(self.heap)[2]
            if stream.peer.write_token(stream):
                self.push(stream)
            else:
                self.finished()
        if self.heap:
            self.alarm.set(self.heap[0][0])

    def times(self, name: str, tokens: int) -> list[int]:
        """When each of the tokens is due, in ns after the beginning: the same for the same request id."""
        config = self.config
        rng = random.Random(f"{config['seed']}/{name.rpartition('-')[2]}")  # noqa: S311 (no secret)
        low, high = 1.0 - config["spread"], 1.0 + config["spread"]
        at = config["ttft_s"] * rng.uniform(low, high)
        out = [int(at * _NS)]
        for _ in range(tokens - 1):
            at += config["gap_s"] * rng.uniform(low, high)
            out.append(int(at * _NS))
        return out


class Peer(asyncio.Protocol):
    """One client connection."""

    def __init__(self, server: Timetabled) -> None:
        self.server = server
        self.transport: asyncio.Transport | None = None
        self.parser = httptools.HttpRequestParser(self)
        self.path, self.name, self.key = b"", "", ""
        self.body: list[bytes] = []
        self.received_ns = 0
        self.asked = 0  # requests that came, and replies that were written to their end
        self.answered = 0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.fd = None if self.server.tls else transport.get_extra_info("socket").fileno()
        self.server.peers.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 (asyncio calls it)
        self.transport = None
        self.server.peers.discard(self)

    def close_if_idle(self) -> None:
        if self.transport is not None and self.asked == self.answered:
            self.transport.close()

    def data_received(self, data: bytes) -> None:
        self.received_ns = monotonic_ns()
        self.parser.feed_data(data)

    # httptools

    def on_message_begin(self) -> None:
        self.path, self.name, self.key = b"", "", ""
        self.body.clear()
        self.asked += 1

    def on_url(self, url: bytes) -> None:
        self.path += url

    def on_header(self, name: bytes, value: bytes) -> None:
        lower = name.lower()
        if lower == b"x-request-id":
            self.name = value.decode()
        elif lower == b"authorization":
            self.key = value.decode().removeprefix("Bearer ")

    def on_body(self, data: bytes) -> None:
        self.body.append(data)

    def on_message_complete(self) -> None:
        received_ns, server = self.received_ns, self.server
        if server.config["api_key"] not in (None, self.key):
            self.whole(401, {"error": {"message": "wrong API key"}})
        elif self.path == b"/health":
            self.whole(200, {"status": "ok"})
        elif self.path == b"/v1/models":
            self.whole(200, {"object": "list", "data": [{"id": "timetable", "object": "model"}]})
        elif self.path == b"/metrics":
            self.whole(200, f"process_start_time_seconds {server.started_at_unix_s}\n")
        elif self.path == b"/timetable/log":
            self.whole(200, server.log)
        elif self.path == b"/tokenize":
            words = json.loads(b"".join(self.body))["prompt"].split()
            self.whole(200, {"tokens": [zlib.crc32(word.encode()) % 50_000 for word in words]})
        elif self.path in (b"/v1/completions", b"/v1/chat/completions"):
            self.generate(json.loads(b"".join(self.body)), received_ns, chat=b"chat" in self.path)
        else:
            self.whole(404, {"error": {"message": "no such path"}})

    # replies

    def generate(self, request: dict[str, Any], received_ns: int, *, chat: bool) -> None:
        server = self.server
        name = self.name or f"anonymous-{next(server.unnamed)}"
        asked = [m["content"] for m in request["messages"]] if chat else request["prompt"]
        prompt_tokens = replies.prompt_tokens(asked) + (server.config["template_tokens"] if chat else 0)
        tokens = int(request.get("max_tokens") or request.get("max_completion_tokens") or 16)
        last = self.name.rpartition("-")[2]
        index = int(last) if last.isdigit() else None  # warm-up requests end in w0, w1, ...
        if index is not None and index == server.config["restart_after_index"]:
            server.started_at_unix_s += 3600.0
        if index is not None and index in server.closures:
            server.close_for_a_while(server.closures[index])
        if not request.get("stream"):
            whole: dict[str, Any] = {"choices": [{"text": " tok" * tokens, "finish_reason": "length"}]}
            if server.config["counts_tokens"]:
                whole["usage"] = {"prompt_tokens": prompt_tokens, "completion_tokens": tokens}
            self.whole(200, whole)
            return
        stream = Stream(self, name, index, tokens, chat, server.times(name, tokens))
        stream.prompt_tokens = prompt_tokens
        if stream.fault == "drop" or (stream.fault == "drop_once" and name not in server.dropped):
            server.dropped.add(name)
            if self.transport is not None:
                self.transport.close()
            return
        server.log[name] = (received_ns, stream.log)
        if stream.fault in ("http_500", "http_429"):
            self.whole(int(stream.fault[-3:]), {"error": {"message": "injected"}})
            return
        server.submit(stream)

    def whole(self, status: int, content: object) -> None:
        """A text as it is, anything else as JSON."""
        kind = "text/plain" if isinstance(content, str) else "application/json"
        body = content.encode() if isinstance(content, str) else json.dumps(content).encode()
        head = f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
        self.raw((head + self.closing() + "\r\n").encode() + body)
        self.answered += 1
        if self.server.config["close"] and self.transport is not None:
            self.transport.close()

    def closing(self) -> str:
        return "Connection: close\r\n" if self.server.config["close"] else ""

    def write_token(self, stream: Stream) -> bool:
        """Write the token that is due; False: the reply is over."""
        if self.transport is None:
            return False
        k = stream.written
        data = self.opening(stream)
        fault = stream.fault
        if fault and k == stream.tokens // 2 and self.breaks(stream, data):
            return False
        if fault == "no_token":
            self.raw(data + _finish(stream))
            self.answered += 1
            return False
        stream.log.append(monotonic_ns())
        stream.written += 1
        over = stream.written == stream.tokens or (fault == "short" and 2 * stream.written >= stream.tokens)
        self.raw(data + replies.token(stream.chat) + (_finish(stream) if over else b""))
        self.answered += over
        if over and (self.server.config["close"] or fault == "hang_up") and self.transport is not None:
            self.transport.close()
        return not over

    def opening(self, stream: Stream) -> bytes:
        """The head of the reply and, in a chat, the role; nothing when they were written before."""
        if stream.opened:
            return b""
        stream.opened = True
        head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"
        role = replies.chunk(True, delta={"role": "assistant"}) if stream.chat else b""
        return (head + self.closing() + "\r\n").encode() + role

    def write_empty(self, stream: Stream) -> None:
        if not stream.opened:
            self.raw(self.opening(stream) + replies.empty(stream.chat) * 2)

    def breaks(self, stream: Stream, data: bytes) -> bool:
        """Break in the middle of a reply as the fault says; False: this fault does not."""
        assert self.transport is not None
        if stream.fault == "cut":
            self.raw(data)
            self.transport.abort()
        elif stream.fault == "stalled":
            self.raw(data)
        elif stream.fault == "bad_json":
            self.raw(data + replies.framed(b'data: {"choices": [{"tex\n\n') + _finish(stream))
        elif stream.fault == "error_event":
            self.raw(data + replies.event({"error": {"message": "injected", "code": 500}}) + b"0\r\n\r\n")
        else:
            return False
        return True

    def raw(self, data: bytes) -> None:
        if self.transport is None:
            return
        if self.fd is None or self.transport.get_write_buffer_size():  # it goes behind what still waits there
            self.transport.write(data)
            return
        try:
            sent = os.write(self.fd, data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.transport.abort()
            return
        if sent < len(data):
            self.transport.write(data[sent:])


def _finish(stream: Stream) -> bytes:
    usage: dict[str, Any] = {"prompt_tokens": stream.prompt_tokens, "completion_tokens": stream.written}
    if stream.fault == "cached":
        usage["prompt_tokens_details"] = {"cached_tokens": stream.prompt_tokens // 2}
    return replies.finish(stream.chat, None if stream.fault == "no_usage" else usage)


def _tls_context(cert: str | None, key: str | None) -> ssl.SSLContext | None:
    if cert is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return context


async def _serve(config: dict[str, Any], address: Path) -> None:
    slower = of_this_boot(config)
    server = Timetabled({**config, "ttft_s": config["ttft_s"] * slower, "gap_s": config["gap_s"] * slower})
    await server.start()
    partial = address.with_suffix(".partial")
    partial.write_text(f"{'https' if server.tls else 'http'}://127.0.0.1:{server.port}")
    partial.rename(address)
    gc.collect()
    gc.freeze()
    gc.disable()
    hurry()  # the truth must wait neither for the collector nor for a core
    await asyncio.Event().wait()


def main(config_path: str, address: str, port: str = "0") -> None:
    config = json.loads(Path(config_path).read_text())
    uvloop.run(_serve({**config, "port": int(port) or config["port"]}, Path(address)))


if __name__ == "__main__":
    main(*sys.argv[1:])
