"""A worker process: takes a plan, drives the load, leaves a row a request.

    python -m pytest_inferforge.loadgen.worker PLAN ROWS

PLAN is a msgpack `Plan`; ROWS becomes a sequence of frames (a kind byte, four length bytes, msgpack): one
`Row` each as requests end, one `Finish` at the very end. A worker that dies leaves the rows it had. On
standard output it prints a JSON `Progress` line four times a second, and drops it when nobody reads. The API
key comes in the environment variable INFERFORGE_WORKER_KEY.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import ssl
import sys
import time
from collections import deque
from pathlib import Path
from time import monotonic_ns
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import urlsplit

import msgspec
import uvloop

from pytest_inferforge.loadgen import sse
from pytest_inferforge.loadgen.dispatch import ClosedLoop, OpenLoop
from pytest_inferforge.loadgen.plan import CANCELLED, FAILED, OK, Finish, Plan, Progress, Row
from pytest_inferforge.loadgen.pool import Pool, resolve
from pytest_inferforge.loadgen.wire import Exchange
from pytest_inferforge.workload.prompts import PromptMaker

if TYPE_CHECKING:
    from collections.abc import Callable

_NS = 1_000_000_000
_SWEEP_S = 0.1
_PROGRESS_S = 0.25
_SETTLE_NS = 20_000_000


class RequestWriter:
    """Makes the bytes of request i."""

    def __init__(self, plan: Plan, key: str | None) -> None:
        self._plan = plan
        self._prompts = PromptMaker(
            words=tuple(plan.words),
            ring=tuple(plan.ring),
            overhead_tokens=plan.overhead_tokens,
            salt=plan.salt,
        )
        parts = urlsplit(plan.url)
        target = parts.path or "/"
        lines = [
            f"POST {target} HTTP/1.1",
            f"Host: {parts.netloc.rpartition('@')[2]}",
            "Content-Type: application/json",
            "Accept: text/event-stream",
            "User-Agent: pytest-inferforge",
        ]
        if key:
            lines.append(f"Authorization: Bearer {key}")
        self._head = "\r\n".join(lines)
        self._encode = msgspec.json.Encoder().encode

    def request(self, name: str, index: int, prompt_tokens: int, output_tokens: int) -> bytes:
        plan = self._plan
        text = self._prompts.text(index, prompt_tokens)
        body = dict(plan.body)
        body["model"] = plan.model
        if plan.chat:
            body["messages"] = [{"role": "user", "content": text}]
        else:
            body["prompt"] = text
        body[plan.max_tokens_field] = output_tokens
        if plan.min_tokens_field:
            body[plan.min_tokens_field] = output_tokens
        data = self._encode(body)
        head = f"{self._head}\r\nX-Request-Id: {name}\r\nContent-Length: {len(data)}\r\n\r\n"
        return head.encode("latin-1") + data


class Worker:
    """Drives one plan on the running loop."""

    def __init__(self, plan: Plan, key: str | None, rows: BinaryIO, say: Callable[[Progress], None]) -> None:
        parts = urlsplit(plan.url)
        tls = ssl.create_default_context() if parts.scheme == "https" else None
        host, port = parts.hostname or "", parts.port or (443 if tls else 80)
        if tls is None:
            host, port = resolve(host, port)
        self._plan = plan
        self._rows = rows
        self._say = say
        self._writer = RequestWriter(plan, key)
        self._pool = Pool(host=host, port=port, tls=tls, survives_stream=plan.survives_stream)
        self._closed: ClosedLoop | None = None
        self._in_flight: set[Exchange] = set()
        self._to_read: deque[Exchange] = deque()
        self._idle = asyncio.Event()
        self._origin_ns = 0
        self._counts = {"sent": 0, "done": 0, "failed": 0}
        self._warmup_faults: list[str] = []
        self._bytes = 0
        self._segments = 0

    async def run(self) -> Finish:
        """Warm up, drive the measured load, drain, and say what it cost."""
        plan = self._plan
        loop = asyncio.get_running_loop()
        sweeper = loop.create_task(self._sweep())
        if plan.warmup_prompt_tokens:
            await self._warm_up()
        gc.collect()
        gc.freeze()
        gc.disable()
        teller = loop.create_task(self._tell())
        cpu_ns, began_ns = time.process_time_ns(), monotonic_ns()
        phase = self._measured_phase()
        self._phase = "load"
        origin_unix_ns = time.time_ns() + self._origin_ns - monotonic_ns()
        phase.start()
        await phase.all_sent.wait()
        self._phase = "drain"
        await self._drain(plan.drain_timeout_ns)
        while self._to_read:
            self._read_next()
        sweeper.cancel()
        teller.cancel()
        self._pool.close()
        return Finish(
            issued=self._counts["sent"],
            warmup=len(plan.warmup_prompt_tokens),
            warmup_failed=len(self._warmup_faults),
            warmup_reason=self._warmup_faults[0] if self._warmup_faults else None,
            origin_unix_ns=origin_unix_ns,
            cpu_ns=time.process_time_ns() - cpu_ns,
            wall_ns=monotonic_ns() - began_ns,
            bytes_received=self._bytes,
            segments=self._segments,
            connections=self._pool.opened,
        )

    _phase = "warmup"

    async def _warm_up(self) -> None:
        plan = self._plan
        self._closed = ClosedLoop(
            pool=self._pool,
            make=self._make_warmup,
            concurrency=plan.warmup_concurrency,
            requests=len(plan.warmup_prompt_tokens),
            until_ns=None,
        )
        self._closed.start()
        await self._closed.all_sent.wait()
        await self._drain(None)
        self._closed = None

    def _measured_phase(self) -> OpenLoop | ClosedLoop:
        plan = self._plan
        if plan.concurrency is None:
            self._origin_ns = monotonic_ns() + plan.connect_lead_ns + _SETTLE_NS
            return OpenLoop(
                pool=self._pool,
                make=self._make,
                due_ns=plan.due_ns,
                origin_ns=self._origin_ns,
                lead_ns=plan.connect_lead_ns,
            )
        self._origin_ns = monotonic_ns()
        self._closed = ClosedLoop(
            pool=self._pool,
            make=self._make,
            concurrency=plan.concurrency,
            requests=plan.requests,
            until_ns=None if plan.duration_ns is None else self._origin_ns + plan.duration_ns,
        )
        return self._closed

    # -- requests -----------------------------------------------------------------------------------

    def _make(self, index: int) -> Exchange:
        plan = self._plan
        k = index % len(plan.prompt_tokens)
        self._counts["sent"] += 1
        return self._exchange(index, plan.prompt_tokens[k], plan.output_tokens[k], measured=True)

    def _make_warmup(self, index: int) -> Exchange:
        plan = self._plan
        tokens = plan.warmup_prompt_tokens[index], plan.warmup_output_tokens[index]
        return self._exchange(index, *tokens, measured=False)

    def _exchange(self, index: int, prompt_tokens: int, output_tokens: int, *, measured: bool) -> Exchange:
        name = f"{self._plan.id_prefix}-{'' if measured else 'w'}{index}"
        salt_index = index if measured else -1 - index
        exchange = Exchange(
            index=index,
            data=self._writer.request(name, salt_index, prompt_tokens, output_tokens),
            prompt_tokens=prompt_tokens,
            output_tokens=output_tokens,
            measured=measured,
            on_end=self._ended,
        )
        self._in_flight.add(exchange)
        self._idle.clear()
        return exchange

    def _ended(self, exchange: Exchange) -> None:
        if exchange.fault == "unanswered" and self._pool.send_again(exchange):
            return
        self._in_flight.discard(exchange)
        if self._closed is not None:
            self._closed.ended()
        self._to_read.append(exchange)
        asyncio.get_running_loop().call_soon(self._read_next)
        if not self._in_flight:
            self._idle.set()

    def _read_next(self) -> None:
        """Read one finished reply: a turn of the loop each, so that no stamp waits for two."""
        if not self._to_read:
            return
        exchange = self._to_read.popleft()
        row = as_row(exchange, self._origin_ns)
        if not exchange.measured:
            if row.status != OK:
                self._warmup_faults.append(f"{row.reason}: {row.detail}")
            return
        self._counts["failed" if row.status == FAILED else "done"] += 1
        self._segments += len(exchange.stamps)
        self._bytes += sum(len(data) for _, data in exchange.pieces)
        write_frame(self._rows, b"R", row)

    # -- time limits --------------------------------------------------------------------------------

    async def _sweep(self) -> None:
        plan = self._plan
        while True:
            await asyncio.sleep(_SWEEP_S)
            now = monotonic_ns()
            for exchange in list(self._in_flight):
                connection, sent = exchange.connection, exchange.send_ns
                if connection is None or sent is None:
                    continue
                if now - sent > plan.timeout_ns:
                    connection.give_up("timeout", f"not finished {plan.timeout_ns / _NS:g} s after its send")
                elif now - exchange.activity_ns > plan.stall_timeout_ns:
                    connection.give_up("stalled", f"no byte for {plan.stall_timeout_ns / _NS:g} s")

    async def _drain(self, limit_ns: int | None) -> None:
        """Wait until nothing is in flight; after `limit_ns` cut what still runs."""
        if not self._in_flight:
            return
        try:
            await asyncio.wait_for(self._idle.wait(), None if limit_ns is None else limit_ns / _NS)
        except TimeoutError:
            self._closed = None
            self._pool.close()
            for exchange in list(self._in_flight):
                if exchange.connection is not None:
                    exchange.connection.give_up("cancelled", "cut at the end of the run")
                else:
                    exchange.fault, exchange.end_ns = "cancelled", monotonic_ns()
                    self._ended(exchange)

    async def _tell(self) -> None:
        while True:
            self._say(
                Progress(
                    phase=self._phase,
                    in_flight=len(self._in_flight),
                    elapsed_ns=max(0, monotonic_ns() - self._origin_ns),
                    **self._counts,
                )
            )
            await asyncio.sleep(_PROGRESS_S)


def as_row(exchange: Exchange, origin_ns: int) -> Row:
    """Read the reply of a finished exchange and say what became of the request."""
    reply, reason, detail = _read(exchange)

    def relative(when: int | None) -> int | None:
        return None if when is None else when - origin_ns

    chunks = reply.chunk_ns
    for k, when in enumerate(chunks):
        chunks[k] = when - origin_ns
    counted = reply.output_tokens
    return Row(
        index=exchange.index,
        status=OK if reason is None else CANCELLED if reason == "cancelled" else FAILED,
        reason=reason,
        detail=detail,
        http_status=exchange.status,
        due_ns=relative(exchange.due_ns),
        send_ns=relative(exchange.send_ns),
        connect_ns=exchange.connect_ns,
        first_byte_ns=relative(exchange.stamps[0] if exchange.stamps else None),
        first_event_ns=relative(reply.first_event_ns),
        first_token_ns=relative(reply.first_token_ns),
        first_visible_ns=relative(reply.first_visible_ns),
        last_token_ns=relative(reply.last_token_ns),
        end_ns=relative(exchange.end_ns),
        prompt_tokens_asked=exchange.prompt_tokens,
        output_tokens_asked=exchange.output_tokens,
        prompt_tokens=reply.prompt_tokens,
        output_tokens=counted if counted is not None else (len(chunks) or None),
        exact=counted is not None,
        cached_tokens=reply.cached_tokens,
        chunk_ns=chunks.tobytes(),
        empty_chunks=reply.empty_chunks,
        resent=exchange.resent,
        finish_reason=reply.finish_reason,
    )


def _read(exchange: Exchange) -> tuple[sse.Reply, str | None, str | None]:
    """The reply, and why the request failed (None: it did not)."""
    if exchange.fault is not None:
        reply = sse.read_stream(exchange.pieces) if exchange.streamed else sse.Reply()
        reason = "cut" if exchange.fault == "unanswered" else exchange.fault
        return reply, reason, exchange.detail
    body = b"".join(data for _, data in exchange.pieces)
    if exchange.status != 200:
        return sse.Reply(), f"http_{exchange.status}", body[:200].decode("utf-8", "backslashreplace")
    reply = (
        sse.read_stream(exchange.pieces) if exchange.streamed else sse.read_whole(exchange.stamps[-1], body)
    )
    return reply, reply.fault, reply.detail


def write_frame(file: BinaryIO, kind: bytes, content: Row | Finish) -> None:
    """Append a frame: kind, length (4 bytes, big endian), msgpack."""
    data = msgspec.msgpack.encode(content)
    file.write(kind + len(data).to_bytes(4, "big") + data)


def _print_progress(progress: Progress) -> None:
    with contextlib.suppress(OSError):  # nobody reads: progress is for eyes only
        os.write(1, msgspec.json.encode(progress) + b"\n")


def main(plan_path: str, rows_path: str) -> None:
    plan = msgspec.msgpack.decode(Path(plan_path).read_bytes(), type=Plan)
    key = os.environ.pop("INFERFORGE_WORKER_KEY", None)
    os.set_blocking(1, False)

    async def drive(rows: BinaryIO) -> None:
        finish = await Worker(plan, key, rows, _print_progress).run()
        write_frame(rows, b"F", finish)

    with Path(rows_path).open("wb") as rows:
        uvloop.run(drive(rows))


if __name__ == "__main__":
    main(*sys.argv[1:])
