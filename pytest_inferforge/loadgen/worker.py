"""A worker process: takes a plan, drives the load, leaves a row a request.

    python -m pytest_inferforge.loadgen.worker PLAN ROWS

PLAN is a msgpack `Plan`; ROWS becomes a sequence of frames (`loadgen.rows`): one `Row` each as requests end,
one `Finish` at the very end. A worker that dies leaves the rows it had. On
standard output it prints a JSON `Progress` line four times a second, and drops it when nobody reads. The API
key comes in the environment variable INFERFORGE_WORKER_KEY.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import ssl
import sys
import time
from collections import deque
from pathlib import Path
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import urlsplit

import msgspec
import uvloop

from pytest_inferforge.loadgen import priority, tasks
from pytest_inferforge.loadgen.dispatch import ClosedLoop, OpenLoop
from pytest_inferforge.loadgen.plan import FAILED, OK, Finish, Plan, Progress
from pytest_inferforge.loadgen.pool import NO_CONNECTION, Pool, resolve
from pytest_inferforge.loadgen.rows import Reading, as_row, write_frame
from pytest_inferforge.loadgen.wire import Exchange
from pytest_inferforge.workload.prompts import PromptMaker

if TYPE_CHECKING:
    from collections.abc import Callable

_NS = 1_000_000_000
_SWEEP_S = 0.1
_PAUSE_S = 0.1  # of a closed loop's user who found no server
_PROGRESS_S = 0.25
_SETTLE_NS = 20_000_000
_EVENTS_A_TURN = 64  # some 0.1 ms of reading, for which the stamps of other replies may have to wait
_BROKEN = 70  # exit code of a worker whose own code failed


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
        self._to_read: deque[Reading] = deque()
        self._reads = False  # a turn of reading is on its way
        self._idle = asyncio.Event()
        self._origin_ns = 0
        self._phase = "warmup"
        self._counts = {"sent": 0, "done": 0, "failed": 0}
        self._warmup_faults: list[str] = []
        self._bytes = 0
        self._segments = 0

    async def run(self) -> Finish:
        """Warm up, drive the measured load, drain, and say what it cost."""
        plan = self._plan
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(_die)
        sweeper = tasks.start(self._sweep())
        if plan.warmup_prompt_tokens:
            await self._warm_up()
        gc.collect()
        gc.freeze()
        gc.disable()
        granted = priority.hurry()
        teller = tasks.start(self._tell())
        cpu_ns, began_ns = time.process_time_ns(), monotonic_ns()
        phase = self._measured_phase()
        self._phase = "load"
        origin_unix_ns = time.time_ns() + self._origin_ns - monotonic_ns()
        phase.start()
        await phase.all_sent.wait()
        self._phase = "drain"
        await self._drain(plan.drain_timeout_ns)
        while self._to_read:
            self._read_on()
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
            priority=granted,
        )

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
            if exchange.fault in NO_CONNECTION:  # a user tries again after a while, not a million times
                asyncio.get_running_loop().call_later(_PAUSE_S, self._closed.ended)
            else:
                self._closed.ended()
        self._to_read.append(Reading(exchange))
        if not self._reads:
            self._reads = True
            asyncio.get_running_loop().call_soon(self._read_turn)
        if not self._in_flight:
            self._idle.set()

    def _read_turn(self) -> None:
        self._read_on()
        self._reads = bool(self._to_read)
        if self._reads:
            asyncio.get_running_loop().call_soon(self._read_turn)

    def _read_on(self) -> None:
        """Read a slice of a finished reply: a turn of the loop each, so that no stamp waits for long."""
        if self._to_read and self._to_read[0].read_on(_EVENTS_A_TURN):
            self._keep(self._to_read.popleft())

    def _keep(self, reading: Reading) -> None:
        """Write the row of a reply that was read."""
        exchange = reading.exchange
        row = as_row(exchange, reading.reply, self._origin_ns)
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
                elif now - (exchange.stamps[-1] if exchange.stamps else sent) > plan.stall_timeout_ns:
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


def _print_progress(progress: Progress) -> None:
    with contextlib.suppress(OSError):  # nobody reads: progress is for eyes only
        os.write(1, msgspec.json.encode(progress) + b"\n")


def _die(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """A client whose own code failed measures nothing: end at once, with the error in the log."""
    if isinstance(context.get("exception"), OSError) and "transport" in context:
        return  # its request has it as its failure
    loop.default_exception_handler(context)
    os._exit(_BROKEN)


def _raise_file_limit() -> None:
    """As many connections as the system allows: the usual soft limit of 1024 would be a failure of ours."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def main(plan_path: str, rows_path: str) -> None:
    plan = msgspec.msgpack.decode(Path(plan_path).read_bytes(), type=Plan)
    key = os.environ.pop("INFERFORGE_WORKER_KEY", None)
    os.set_blocking(1, False)
    _raise_file_limit()

    async def drive(rows: BinaryIO) -> None:
        finish = await Worker(plan, key, rows, _print_progress).run()
        write_frame(rows, b"F", finish)

    with Path(rows_path).open("wb", buffering=0) as rows:  # a row that was written outlives this process
        uvloop.run(drive(rows))


if __name__ == "__main__":
    main(*sys.argv[1:])
