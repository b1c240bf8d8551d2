"""Replies as each server writes them on the wire, asked for by the real worker: the same holds for all.

The bytes in `wires/` are written after the servers' sources and what they were seen to send; ids and times
are made up. Each reply is sent in every framing and cut in every way, and its first token comes late.
"""

import asyncio
import random
import threading
from dataclasses import dataclass
from itertools import pairwise, product
from pathlib import Path

import pytest

from pytest_inferforge.loadgen import fleet
from pytest_inferforge.records import RequestStatus

PAUSE_S = 0.04  # before the first token
FRAMINGS = ("chunked", "chunked inside events, with a trailer", "content-length", "until closed")
CUTS = ("whole", "by event", "by byte", "at random")
VARIANTS = tuple(product(FRAMINGS, CUTS))


@dataclass(frozen=True, kw_only=True)
class Wire:
    """A reply, of whose events `early` come before the first token, each line ending in `end`.

    `tokens`, `chunks`, `empty`: what a client must find in it. `prompt` None: the server does not say.
    """

    chat: bool
    chunks: int
    tokens: int
    early: int = 0
    end: bytes = b"\n"
    prompt: int | None = 16
    cached: int | None = None
    exact: bool = True
    empty: int = 0
    finish: str = "length"
    visible: bool = True  # something in it is meant for the user
    survives_stream: bool = True


WIRES = {
    # vLLM 0.32: text may be empty (incomplete UTF-8), the last token comes with the finish reason, usage in a
    # chunk of its own
    "vllm_completions": Wire(chat=False, early=1, chunks=2, tokens=3, empty=1),
    # the speaker is named together with the first token, in a chunk of its own
    "vllm_chat": Wire(chat=True, early=1, chunks=2, tokens=2, cached=8, finish="stop"),
    # speculative decoding: several tokens a chunk; continuous_usage_stats count as they go
    "vllm_with_several_tokens_a_chunk": Wire(chat=False, chunks=3, tokens=8),
    # a model that thinks and then calls a tool shows the user nothing
    "vllm_chat_with_a_tool_call": Wire(
        chat=True, early=1, chunks=3, tokens=5, finish="tool_calls", visible=False
    ),
    # SGLang 0.5: "usage": null in every chunk, every field of the delta present
    "sglang_chat": Wire(chat=True, early=1, chunks=2, tokens=2),
    # TensorRT-LLM: a blank before the end of the line
    "trtllm_chat": Wire(chat=True, early=1, chunks=1, tokens=1),
    # llama.cpp 0c1e57098: usage and timings on the finish chunk; the connection ends though nobody said so
    "llama.cpp_completions": Wire(chat=False, early=1, chunks=3, tokens=3, cached=4, survives_stream=False),
    "llama.cpp_chat": Wire(chat=True, early=1, chunks=2, tokens=2, cached=4, survives_stream=False),
    # llama-cpp-python 0.3.36 behind sse-starlette: CRLF, pings, no usage in a stream
    "llama-cpp-python_completions": Wire(
        chat=False, early=1, chunks=2, tokens=2, end=b"\r\n", prompt=None, exact=False
    ),
    # transformers serve 5.19: no [DONE]; usage on the finish chunk; the speaker is named before generation
    "transformers_serve_completions": Wire(chat=False, chunks=2, tokens=2),
    "transformers_serve_chat": Wire(chat=True, early=1, chunks=2, tokens=2, finish="stop"),
    # TGI 3.3: no blank after the colon, keep-alive comments, the usage chunk has an empty id
    "tgi_chat": Wire(chat=True, early=1, chunks=2, tokens=2),
    # Ollama 0.33: every chunk of completions carries zeros as usage
    "ollama_completions": Wire(chat=False, chunks=2, tokens=2, finish="stop"),
    # OpenAI: padding against eavesdroppers in every chunk
    "openai_chat": Wire(chat=True, early=1, chunks=1, tokens=1, cached=0, finish="stop"),
}


@pytest.fixture(scope="module")
def transcript():
    """The events of a reply as `wires/NAME.sse` has them."""
    folder = Path(__file__).with_name("wires")
    return lambda name: (folder / f"{name}.sse").read_bytes().removesuffix(b"\n").split(b"\n\n")


def test_every_transcript_is_replayed():
    assert {path.stem for path in Path(__file__).with_name("wires").iterdir()} == set(WIRES)


class Replay:
    """A server that answers request i with the i-th variant of a reply, on a thread of its own."""

    def __init__(self, wire, events):
        self.wire = wire
        self.events = events
        self.url = ""
        self.paths = set()
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._serve()))

    def __enter__(self):
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *exc):
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(10)
        self._loop.close()

    async def _serve(self):
        self._over = asyncio.Event()
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._ready.set()
        await self._over.wait()
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.sleep(0)

    async def _connected(self, reader, writer):
        try:
            while await self._answer(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client went away
        writer.close()

    async def _answer(self, reader, writer):
        """Answer one request; whether the connection stays."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
        await reader.readexactly(int(fields["content-length"]))
        self.paths.add(head.split()[1])
        index = int(fields["x-request-id"].rpartition("-")[2])
        framing, cut = VARIANTS[index]
        early, late = self._segments(framing, cut, random.Random(index))
        for part in (early, late):
            for data in part:
                writer.write(data)
                await writer.drain()
                await asyncio.sleep(0)
            await asyncio.sleep(PAUSE_S if part is early else 0)
        return framing != "until closed" and self.wire.survives_stream

    def _segments(self, framing, cut, rng):
        """What is written before and after the pause, each a list of writes."""
        wire = self.wire
        blocks = [event.replace(b"\n", wire.end) + wire.end * 2 for event in self.events]
        head = b"HTTP/1.1 200 OK\r\nserver: replay\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
        tail = b""
        if framing.startswith("chunked"):
            head += b"Transfer-Encoding: chunked\r\n"
            blocks = [_chunked(block, 1 if framing == "chunked" else rng.randint(1, 3)) for block in blocks]
            tail = b"0\r\n\r\n" if framing == "chunked" else b"0\r\nX-Time: 1\r\n\r\n"
        elif framing == "content-length":
            head += f"Content-Length: {sum(map(len, blocks))}\r\n".encode()
        early = [head + b"\r\n", *blocks[: wire.early]]
        late = [*blocks[wire.early :], *([tail] if tail else [])]
        return _cut(early, cut, rng), _cut(late, cut, rng)


def _chunked(block, parts):
    """An event in that many chunks of HTTP."""
    size = -(-len(block) // parts)
    pieces = [block[k : k + size] for k in range(0, len(block), size)]
    return b"".join(f"{len(piece):X}\r\n".encode() + piece + b"\r\n" for piece in pieces)


def _cut(blocks, cut, rng):
    data = b"".join(blocks)
    if cut == "by event":
        return blocks
    if cut == "by byte":
        return [data[k : k + 1] for k in range(len(data))]
    if cut == "at random":
        places = sorted({0, len(data), *(rng.randrange(len(data)) for _ in range(12))})
        return [data[a:b] for a, b in pairwise(places)]
    return [data]


@pytest.mark.parametrize("name", WIRES)
def test_a_reply_means_the_same_however_it_comes(name, transcript, load_plan, tmp_path):
    wire = WIRES[name]
    with Replay(wire, transcript(name)) as server:
        plan = load_plan(
            server.url,
            chat=wire.chat,
            concurrency=4,
            requests=len(VARIANTS),
            survives_stream=wire.survives_stream,
        )
        drive = fleet.drive([plan], api_key=None, folder=tmp_path, name="worker")
    assert server.paths == {"/v1/chat/completions" if wire.chat else "/v1/completions"}
    assert (drive.fault, drive.lost, len(drive.table)) == (None, 0, len(VARIANTS))
    for (framing, cut), seen in zip(VARIANTS, drive.table, strict=True):
        how = f"{framing}, {cut}"
        assert (seen.status, seen.reason, seen.http_status) == (RequestStatus.OK, None, 200), how
        assert len(seen.chunk_s) == wire.chunks, how
        assert (seen.output_tokens, seen.output_tokens_exact) == (wire.tokens, wire.exact), how
        assert (seen.prompt_tokens, seen.cached_tokens) == (wire.prompt, wire.cached), how
        assert (seen.empty_chunks, seen.finish_reason, seen.resent) == (wire.empty, wire.finish, 0), how
        assert (seen.first_visible_s is not None) == wire.visible, how
        stages = [
            seen.send_s, seen.first_byte_s, seen.first_event_s, seen.first_token_s, *seen.chunk_s, seen.end_s
        ]  # fmt: skip
        assert stages == sorted(stages), how
        assert (seen.chunk_s[0], seen.chunk_s[-1]) == (seen.first_token_s, seen.last_token_s), how
        assert seen.first_token_s - seen.first_byte_s > 0.75 * PAUSE_S, how
