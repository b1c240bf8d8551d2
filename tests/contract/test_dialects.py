"""Replies as each server writes them on the wire, asked for by the real worker: the same holds for all.

The bytes in `wires/` are written after the servers' sources and what they were seen to send; ids and times
are made up. Each reply is sent in every framing, with both line ends, and cut in every way; its first token
comes late, and so does its last.
"""

import asyncio
import json
import math
import random
import threading
from dataclasses import dataclass
from itertools import pairwise, product
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from pytest_inferforge import measures
from pytest_inferforge.dialects import DIALECTS
from pytest_inferforge.loadgen import fleet
from pytest_inferforge.loadgen.planning import Target, make_plan
from pytest_inferforge.options import LoadOptions
from pytest_inferforge.records import RequestStatus
from pytest_inferforge.words import WORDS
from pytest_inferforge.workload import arguments, schedule
from pytest_inferforge.workload.prompts import WordBank

PAUSE_S = 0.04  # before the first token, and before the last
FRAMINGS = ("chunked", "chunked inside events, with a trailer", "content-length", "until closed")
ENDS = (b"\n", b"\r\n")
CUTS = ("whole", "by event", "by byte", "at random")
VARIANTS = tuple(product(FRAMINGS, ENDS, CUTS))
CHAT: Literal["chat"] = "chat"


@dataclass(frozen=True, kw_only=True)
class Wire:
    """A reply in a dialect, and what a client must find in it.

    `first`, `last`: places of the events (comments count) with the first and the last token; None: there is
    no token. `shown`: place of the first chunk that is meant for the user. `k1`: tokens up to the first
    chunk, where the server counts as it goes. `reason`: of a failure, with `detail` in what was seen.
    """

    dialect: str
    api: Literal["completions", "chat"] = "completions"
    first: int | None
    last: int | None
    chunks: int
    tokens: int | None
    prompt: int | None = 16
    cached: int | None = None
    exact: bool = True
    empty: int = 0
    finish: str | None = "length"
    shown: int | None = 0
    k1: int | None = None
    server_ttft_s: float | None = None
    server_queue_s: float | None = None
    status: int = 200
    reason: str | None = None
    detail: str = ""


def failing(dialect, reason, detail, *, first=None, last=None, prompt=None, **more):
    """A reply that is a failure after two chunks, or before any."""
    chunks = 0 if first is None else 2
    found = {"chunks": chunks, "tokens": chunks or None, "exact": False, "finish": None, "prompt": prompt}
    return Wire(dialect=dialect, first=first, last=last, reason=reason, detail=detail, **found | more)


WIRES = {
    # vLLM 0.32: text may be empty (incomplete UTF-8), the last token comes with the finish reason, usage in a
    # chunk of its own
    "vllm_completions": Wire(dialect="vllm", first=1, last=2, chunks=2, tokens=3, empty=1),
    # what other tools take for the end of a line stands unescaped inside strings
    "vllm_completions_with_line_separators": Wire(dialect="vllm", first=0, last=2, chunks=3, tokens=5),
    # speculative decoding: several tokens a chunk; continuous_usage_stats count as they go
    "vllm_with_several_tokens_a_chunk": Wire(dialect="vllm", first=0, last=2, chunks=3, tokens=8, k1=3),
    # --enable-per-request-metrics
    "vllm_completions_with_its_own_times": Wire(
        dialect="vllm", first=0, last=1, chunks=2, tokens=2, server_ttft_s=0.03825, server_queue_s=0.0015
    ),
    # after the first token an error is an event, and [DONE] follows
    "vllm_completions_with_an_error": failing("vllm", "error_event", "EngineCore", first=0, last=1),
    # an error is one whatever its status says
    "vllm_error_with_status_200": failing("vllm", "error_event", "does not exist"),
    # the speaker is named together with the first token, in a chunk of its own
    "vllm_chat": Wire(
        dialect="vllm", api=CHAT, first=1, last=2, chunks=2, tokens=2, cached=8, finish="stop"
    ),
    "vllm_chat_that_counts_as_it_goes": Wire(
        dialect="vllm", api=CHAT, first=1, last=3, chunks=3, tokens=6, k1=3, finish="stop"
    ),
    "vllm_chat_that_reasons": Wire(
        dialect="vllm", api=CHAT, first=1, last=4, chunks=4, tokens=9, finish="stop", shown=2
    ),
    # a model that thinks and then calls a tool shows the user nothing
    "vllm_chat_with_a_tool_call": Wire(
        dialect="vllm", api=CHAT, first=1, last=3, chunks=3, tokens=5, finish="tool_calls", shown=None
    ),
    # SGLang 0.5: "usage": null in every chunk, every field of the delta present; chunks of several tokens
    "sglang_completions": Wire(dialect="sglang", first=0, last=1, chunks=2, tokens=3, cached=12),
    "sglang_completions_that_count_as_they_go": Wire(
        dialect="sglang", first=0, last=1, chunks=2, tokens=3, k1=2
    ),
    "sglang_chat": Wire(dialect="sglang", api=CHAT, first=1, last=2, chunks=2, tokens=2),
    "sglang_chat_that_reasons": Wire(
        dialect="sglang", api=CHAT, first=1, last=3, chunks=3, tokens=5, finish="stop", shown=2
    ),
    # TensorRT-LLM: chunks that carry tokens may have no text
    "trtllm_completions_with_empty_text": Wire(
        dialect="tensorrt-llm", first=1, last=3, chunks=2, tokens=4, empty=2
    ),
    # a blank before the end of the line
    "trtllm_chat": Wire(dialect="tensorrt-llm", api=CHAT, first=1, last=1, chunks=1, tokens=1),
    # stream_interval: 10; the first chunk has as many tokens
    "trtllm_chat_with_a_stream_interval": Wire(
        dialect="tensorrt-llm", api=CHAT, first=1, last=2, chunks=2, tokens=12, k1=10
    ),
    # llama.cpp 0c1e57098: usage and timings on the finish chunk; the connection ends though nobody said so
    "llama.cpp_completions": Wire(
        dialect="llama.cpp", first=1, last=3, chunks=3, tokens=3, cached=4, server_ttft_s=0.0031
    ),
    "llama.cpp_completions_with_times_in_every_chunk": Wire(
        dialect="llama.cpp", first=0, last=2, chunks=3, tokens=3, cached=0, server_ttft_s=0.00775
    ),
    # an error in a stream ends it, without [DONE]
    "llama.cpp_completions_with_an_error": failing(
        "llama.cpp", "error_event", "Context size", first=1, last=3
    ),
    "llama.cpp_chat": Wire(
        dialect="llama.cpp", api=CHAT, first=1, last=3, chunks=2, tokens=2, cached=4, server_ttft_s=0.0031
    ),
    # return_progress: chunks that name the speaker before there is a token
    "llama.cpp_chat_with_prompt_progress": Wire(
        dialect="llama.cpp", api=CHAT, first=4, last=5, chunks=2, tokens=3, cached=4, finish="stop",
        server_ttft_s=0.0265,
    ),
    # llama-cpp-python 0.3.36 behind sse-starlette: pings, no usage in a stream
    "llama-cpp-python_chat": Wire(
        dialect="generic", api=CHAT, first=2, last=3, chunks=2, tokens=2, prompt=None, exact=False
    ),
    "llama-cpp-python_completions": Wire(
        dialect="generic", first=1, last=2, chunks=2, tokens=2, prompt=None, exact=False
    ),
    # TGI 3.3: no blank after the colon, keep-alive comments, the usage chunk has an empty id
    "tgi_completions": Wire(dialect="tgi", first=1, last=2, chunks=2, tokens=2),
    "tgi_chat": Wire(dialect="tgi", api=CHAT, first=1, last=3, chunks=2, tokens=2),
    "tgi_overloaded": failing("tgi", "http_429", "Model is overloaded", status=429),
    # transformers serve 5.19: no [DONE]; usage on the finish chunk; the speaker is named before generation
    "transformers_serve_completions": Wire(dialect="transformers", first=0, last=1, chunks=2, tokens=2),
    "transformers_serve_chat": Wire(
        dialect="transformers", api=CHAT, first=1, last=2, chunks=2, tokens=2, finish="stop"
    ),
    "transformers_serve_chat_with_an_error": failing(
        "transformers", "error_event", "buffer size", first=1, last=2, api=CHAT
    ),
    # LMDeploy 0.18: "usage": null in every chunk
    "lmdeploy_completions": Wire(dialect="lmdeploy", first=0, last=1, chunks=2, tokens=2),
    "lmdeploy_chat": Wire(dialect="lmdeploy", api=CHAT, first=1, last=2, chunks=2, tokens=4),
    # Ollama 0.33: every chunk of completions carries zeros as usage
    "ollama_completions": Wire(dialect="ollama", first=0, last=1, chunks=2, tokens=2, finish="stop"),
    "ollama_chat": Wire(dialect="ollama", api=CHAT, first=0, last=1, chunks=2, tokens=3, finish="stop"),
    "ollama_chat_in_one_piece": Wire(
        dialect="ollama", api=CHAT, first=0, last=0, chunks=1, tokens=3, k1=3, finish="stop"
    ),
    # OpenAI: padding against eavesdroppers in every chunk; usage may be missing
    "openai_chat": Wire(
        dialect="openai", api=CHAT, first=1, last=1, chunks=1, tokens=1, cached=0, finish="stop"
    ),
    "openai_chat_that_reasons_in_secret": Wire(
        dialect="openai", api=CHAT, first=1, last=2, chunks=2, tokens=66, cached=0, finish="stop"
    ),
    "openai_chat_with_two_tool_calls": Wire(
        dialect="openai", api=CHAT, first=1, last=3, chunks=2, tokens=34, cached=0, empty=1,
        finish="tool_calls", shown=None,
    ),
    "openai_completions": Wire(dialect="openai", first=0, last=1, chunks=2, tokens=2),
    "openai_chat_without_usage": Wire(
        dialect="openai", api=CHAT, first=1, last=2, chunks=2, tokens=2, prompt=None, exact=False,
        finish="stop",
    ),
    "openai_chat_that_breaks_off": failing("openai", "cut", "", first=1, last=2, api=CHAT),
    # Anthropic: named events, pings; usage at both ends, the prompt's without what the cache had
    "anthropic_messages": Wire(
        dialect="anthropic", api=CHAT, first=3, last=6, chunks=3, tokens=7, finish="end_turn"
    ),
    "anthropic_messages_that_think_and_call_a_tool": Wire(
        dialect="anthropic", api=CHAT, first=2, last=12, chunks=5, tokens=41, cached=8, empty=1,
        finish="tool_use", shown=2,
    ),
    "anthropic_messages_in_one_piece": Wire(
        dialect="anthropic", api=CHAT, first=0, last=0, chunks=1, tokens=7, cached=8, finish="max_tokens"
    ),
    "anthropic_messages_with_an_error": failing(
        "anthropic", "error_event", "overloaded_error", first=2, last=3, prompt=16, api=CHAT
    ),
    "anthropic_messages_that_break_off": failing(
        "anthropic", "cut", "", first=3, last=4, prompt=16, api=CHAT
    ),
    "anthropic_overloaded": failing("anthropic", "http_529", "overloaded_error", status=529, api=CHAT),
}  # fmt: skip


def test_every_transcript_is_replayed():
    assert {path.stem for path in Path(__file__).with_name("wires").iterdir()} == set(WIRES)


def test_every_dialect_has_replies_in_every_api_that_it_offers():
    offered = {(name, "chat") for name in DIALECTS}
    offered |= {(name, "completions") for name, dialect in DIALECTS.items() if dialect.completions_path}
    assert {(wire.dialect, wire.api) for wire in WIRES.values()} == offered


@pytest.mark.parametrize(
    "name", [name for name, wire in WIRES.items() if not wire.reason and "one_piece" not in name]
)
def test_a_stream_ends_and_counts_as_its_dialect_says(name, transcript):
    wire, dialect = WIRES[name], DIALECTS[WIRES[name].dialect]
    events, _ = transcript(name)
    assert (events[-1].strip() == b"data: [DONE]") == dialect.done_marker
    assert wire.k1 is None or dialect.continuous_usage
    if wire.api == "completions" and wire.exact:
        assert any(b'"choices":[],"usage"' in event for event in events) != dialect.usage_on_finish_chunk


class Replay:
    """A server that answers request i with the i-th variant of a reply, on a thread of its own."""

    def __init__(self, wire, events, *, streamed):
        self.wire = wire
        self.dialect = DIALECTS[wire.dialect]
        self.events = events
        self.streamed = streamed
        self.url = ""
        self.asked = []  # (path, header fields, body)
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
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.strip().split("\r\n")
        fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        body = json.loads(await reader.readexactly(int(fields["content-length"])))
        self.asked.append((first.split()[1], fields, body))
        index = int(fields["x-request-id"].rpartition("-")[2])
        framing, end, cut = VARIANTS[index]
        for k, part in enumerate(self._segments(framing, end, cut, random.Random(index))):
            await asyncio.sleep(PAUSE_S if k else 0)
            for data in part:
                writer.write(data)
                await writer.drain()
                await asyncio.sleep(0)
        whole = self.wire.reason != "cut"
        return whole and framing != "until closed" and (self.dialect.survives_stream or not self.streamed)

    def _segments(self, framing, end, cut, rng):
        """What is written before the first token, up to the last one, and from there, each in writes."""
        wire = self.wire
        blocks = [event.replace(b"\n", end) if self.streamed else event for event in self.events]
        kind = "text/event-stream; charset=utf-8" if self.streamed else "application/json"
        head = f"HTTP/1.1 {wire.status} Because\r\nserver: replay\r\nContent-Type: {kind}\r\n".encode()
        tail = b""
        if framing.startswith("chunked"):
            head += b"Transfer-Encoding: chunked\r\n"
            blocks = [_chunked(block, 1 if framing == "chunked" else rng.randint(1, 3)) for block in blocks]
            tail = b"0\r\n\r\n" if framing == "chunked" else b"0\r\nX-Time: 1\r\n\r\n"
        elif framing == "content-length":
            head += f"Content-Length: {sum(map(len, blocks)) + (wire.reason == 'cut')}\r\n".encode()
        places = sorted({place for place in (wire.first, wire.last) if place is not None})
        parts = [blocks[a:b] for a, b in pairwise((0, *places, len(blocks)))]
        parts[0].insert(0, head + b"\r\n")
        if tail and wire.reason != "cut":
            parts[-1].append(tail)
        return [_cut(part, cut, rng) for part in parts]


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


@pytest.fixture
def drive(tmp_path):
    """Ask a server as many times as there are variants, in a dialect."""

    def drive(url, dialect, api):
        options = LoadOptions()
        given = {"arrivals": "closed 8", "requests": len(VARIANTS), "api": api, "prompt_tokens": 16}
        workload = arguments.from_arguments(given | {"output_tokens": 4, "warmup": 0}, options, folder=None)
        drawn = schedule.build(workload, warmup_waves=2, warmup_max_concurrency=32)
        banks = {api: WordBank(words=WORDS, overhead_tokens=1)}
        target = Target(base_url=url, model="m", dialect=DIALECTS[dialect], banks=banks)
        plan = make_plan(drawn, target, id_prefix="t", salt="a salt", connect_lead_s=options.connect_lead_s)
        return fleet.drive([plan], api_key="sesame", folder=tmp_path, name="worker")

    return drive


@pytest.mark.parametrize("name", WIRES)
def test_a_reply_means_the_same_however_it_comes(name, transcript, drive):
    wire = WIRES[name]
    events, streamed = transcript(name)
    with Replay(wire, events, streamed=streamed) as server:
        found = drive(server.url, wire.dialect, wire.api)
    asked_in_its_words(server)
    assert (found.fault, found.lost, len(found.table)) == (None, 0, len(VARIANTS))
    tpot_s = measures.values(found.table, "tpot_s").tolist()
    for variant, seen, tpot in zip(VARIANTS, found.table, tpot_s, strict=True):
        how = ", ".join(map(str, variant))
        status = RequestStatus.FAILED if wire.reason else RequestStatus.OK
        assert (seen.status, seen.reason, seen.http_status) == (status, wire.reason, wire.status), how
        assert wire.detail in (seen.detail or ""), how
        assert len(seen.chunk_s) == wire.chunks, how
        assert (seen.output_tokens, seen.output_tokens_exact) == (wire.tokens, wire.exact), how
        assert (seen.prompt_tokens, seen.cached_tokens) == (wire.prompt, wire.cached), how
        assert (seen.empty_chunks, seen.finish_reason, seen.resent) == (wire.empty, wire.finish, 0), how
        assert seen.first_chunk_tokens == wire.k1, how
        assert (seen.server_ttft_s, seen.server_queue_s) == (wire.server_ttft_s, wire.server_queue_s), how
        if wire.first is not None:
            came_in_order(seen, wire, tpot, how)
    if wire.first is not None:
        came_late(found.table, wire)


def came_late(table, wire):
    """The pauses as clients saw them, most of whom were awake when the bytes before them came."""
    moments = [table.times[name] for name in ("first_byte_s", "first_token_s", "last_token_s")]
    before_first, before_last = (float(np.median(b - a)) for a, b in pairwise(moments))
    assert before_first > 0.75 * PAUSE_S
    assert (before_last > 0.75 * PAUSE_S) == (wire.last > wire.first)


def asked_in_its_words(server):
    """Where the dialect wants it, with its headers and its key."""
    dialect, api = server.dialect, server.wire.api
    name, before = dialect.key_header
    for path, fields, body in server.asked:
        assert path == (dialect.chat_path if api == CHAT else dialect.completions_path)
        assert fields[name.lower()] == f"{before}sesame"
        assert {(key, fields.get(key.lower())) for key, _ in dialect.headers} == set(dialect.headers)
        assert body["stream"] is True


def came_in_order(seen, wire, tpot_s, how):
    """The moments of a request, and the pauses that must lie before them: no machine is so busy that they
    would be shorter."""
    stages = [
        seen.send_s, seen.first_byte_s, seen.first_event_s, seen.first_token_s, *seen.chunk_s, seen.end_s
    ]  # fmt: skip
    assert stages == sorted(stages), how
    assert (seen.chunk_s[0], seen.chunk_s[-1]) == (seen.first_token_s, seen.last_token_s), how
    assert seen.first_token_s - seen.send_s > 0.95 * PAUSE_S, how
    assert seen.first_visible_s == (None if wire.shown is None else seen.chunk_s[wire.shown]), how
    if wire.first == wire.last:
        assert math.isnan(tpot_s), how
        return
    assert seen.last_token_s - seen.send_s > 0.95 * 2 * PAUSE_S, how
    tokens = wire.tokens - (wire.k1 or 1)
    assert tpot_s == pytest.approx((seen.last_token_s - seen.first_token_s) / tokens, rel=1e-9), how
