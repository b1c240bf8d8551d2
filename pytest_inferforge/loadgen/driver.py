"""Drives one worker's share of a load on the running loop: warm-up, measured phase, drain."""

from __future__ import annotations

import asyncio
import gc
import time
from collections import deque
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, BinaryIO

from pytest_inferforge.loadgen import priority, tasks
from pytest_inferforge.loadgen.bodies import Columns, RequestWriter
from pytest_inferforge.loadgen.conversations import Conversations
from pytest_inferforge.loadgen.dispatch import ClosedLoop, OpenLoop
from pytest_inferforge.loadgen.plan import FAILED, NOT_DUE, OK, Finish, Plan, Progress
from pytest_inferforge.loadgen.pool import NO_CONNECTION
from pytest_inferforge.loadgen.rows import Reading, as_row, write_frame
from pytest_inferforge.loadgen.transports import make_sender
from pytest_inferforge.loadgen.watch import Watch
from pytest_inferforge.loadgen.wire import Exchange

if TYPE_CHECKING:
    from collections.abc import Callable

_NS = 1_000_000_000
_SWEEP_S = 0.1
_PAUSE_S = 0.1  # of a closed loop's user who found no server
_PROGRESS_S = 0.25
_LOOK_FOR_GO_S = 0.005
_EVENTS_A_TURN = 64  # some 0.1 ms of reading, for which the stamps of other replies may have to wait
_ENDLESS = 1 << 60


class Driver:
    """Drives one plan on the running loop. `told_to_stop`: asked as often as progress is told."""

    def __init__(
        self,
        plan: Plan,
        key: str | None,
        rows: BinaryIO,
        say: Callable[[Progress], None],
        *,
        told_to_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self._plan = plan
        self._call_soon = asyncio.get_running_loop().call_soon  # to look the loop up is a system call
        self._rows = rows
        self._say = say
        self._told_to_stop = told_to_stop
        self._writer = RequestWriter(plan, key)
        self._sender = make_sender(plan)
        self._columns = Columns(plan.items)
        self._conversations = Conversations(self._columns, self._writer)
        self._open: OpenLoop | None = None
        self._closed: list[ClosedLoop] = []
        self._in_flight: set[Exchange] = set()
        self._to_read: deque[Reading] = deque()
        self._reads = False  # a turn of reading is on its way
        self._idle = asyncio.Event()
        self._origin_ns = 0
        self._until_ns: int | None = None
        self._phase = "warmup"
        self._counts = {"sent": 0, "done": 0, "failed": 0}
        self._warmup_faults: list[str] = []
        self._segments = 0

    async def run(self, origin_ns: Callable[[], int | None]) -> Finish:
        """Warm up, wait for the origin, drive the measured load, drain, and say what it cost."""
        plan = self._plan
        sweeper = tasks.start(self._sweep())
        teller = tasks.start(self._tell())
        await self._warm_up(Columns(plan.warmup))
        gc.collect()
        gc.freeze()
        gc.disable()
        granted = priority.hurry(plan.core)
        self._phase = "ready"
        while (origin := origin_ns()) is None:  # noqa: ASYNC110 (another process says it)
            await asyncio.sleep(_LOOK_FOR_GO_S)
        self._origin_ns = origin
        watch = Watch()
        watch.start()
        cpu_ns, began_ns = time.process_time_ns(), monotonic_ns()
        origin_unix_ns = time.time_ns() + self._origin_ns - monotonic_ns()
        self._phase = "load"
        await self._drive()
        self._phase = "drain"
        await self._drain(plan.drain_timeout_ns)
        while self._to_read:
            self._read_on()
        watch.stop()
        sweeper.cancel()
        teller.cancel()
        self._sender.close()
        return Finish(
            issued=self._counts["sent"],
            warmup=len(plan.warmup.index) // 8,
            warmup_failed=len(self._warmup_faults),
            warmup_reason=self._warmup_faults[0] if self._warmup_faults else None,
            origin_unix_ns=origin_unix_ns,
            cpu_ns=time.process_time_ns() - cpu_ns,
            wall_ns=monotonic_ns() - began_ns,
            segments=self._segments,
            connections=self._sender.opened,
            priority=granted,
            loop_lag_p99_ns=watch.lag_ns(0.99),
            loop_lag_max_ns=watch.most_ns,
            rss_bytes=watch.memory(self._origin_ns),
        )

    async def _warm_up(self, columns: Columns) -> None:
        if not len(columns):
            return
        loop = ClosedLoop(
            pool=self._sender,
            make=lambda k: self._make_warmup(columns, k),
            starts_ns=[0] * self._plan.warmup_concurrency,
            requests=len(columns),
            until_ns=None,
        )
        self._closed = [loop]
        loop.start()
        await loop.all_sent.wait()
        await self._drain(None)
        self._closed = []

    async def _drive(self) -> None:
        """Send everything; returns when nothing more will be sent."""
        plan, columns = self._plan, self._columns
        if plan.duration_ns is not None:
            self._until_ns = self._origin_ns + plan.duration_ns
        starts = [k for k in range(len(columns)) if columns.due_ns[k] != NOT_DUE]
        every = len(starts) == len(columns)
        self._open = OpenLoop(
            pool=self._sender,
            make=(lambda k: self._make(k, 0)) if every else (lambda k: self._make(starts[k], 0)),
            due_ns=columns.due_ns if every else [columns.due_ns[k] for k in starts],
            origin_ns=self._origin_ns,
            lead_ns=plan.connect_lead_ns,
            to_come=0 if every else self._later_turns(),
            until_ns=self._until_ns,
        )
        self._closed = [self._closed_loop(k) for k in range(len(plan.lanes))]
        await self._at_origin()
        self._open.start()
        for closed in self._closed:
            closed.start()
        await self._open.all_sent.wait()
        for closed in self._closed:
            await closed.all_sent.wait()

    def _stop(self) -> None:
        """Send nothing new; what runs may end, and no conversation goes on."""
        assert self._open is not None
        self._until_ns = monotonic_ns()
        self._open.end()
        for closed in self._closed:
            closed.end()

    def _later_turns(self) -> int:
        """How many requests wait for another to end; until a duration is over there is no end of them."""
        later = sum(turn > 0 for turn in self._columns.turn)
        return _ENDLESS if later and self._plan.duration_ns is not None else later

    async def _at_origin(self) -> None:
        """Closed loops begin at the origin; open ones prepare before it, and have their own clock."""
        if self._plan.lanes:
            await asyncio.sleep(max(0, self._origin_ns - monotonic_ns()) / _NS)

    def _closed_loop(self, place: int) -> ClosedLoop:
        """The users of a lane, whose conversations follow one another and start over at the end."""
        lane, columns = self._plan.lanes[place], self._columns
        mine = [k for k in range(len(columns)) if columns.lane[k] == lane.lane and columns.turn[k] == 0]
        total = self._plan.total

        def make(i: int) -> Exchange:
            cycle, k = divmod(i, len(mine))
            exchange = self._make(mine[k], cycle * total)
            exchange.loop = loop
            return exchange

        loop = ClosedLoop(
            pool=self._sender,
            make=make,
            starts_ns=[self._origin_ns + start for start in lane.start_ns],
            requests=None if lane.requests is None else len(mine),
            until_ns=self._until_ns,
        )
        return loop

    # -- requests -----------------------------------------------------------------------------------

    def _make(self, k: int, offset: int) -> Exchange:
        """The k-th of our items; `offset`: what its index is raised by when the schedule starts over."""
        columns = self._columns
        index = columns.index[k] + offset
        self._counts["sent"] += 1
        asked = self._writer.opening(columns, k, index)
        return self._exchange(columns, k, index, asked, measured=True)

    def _make_warmup(self, columns: Columns, k: int) -> Exchange:
        index = columns.index[k]
        exchange = self._exchange(
            columns, k, index, self._writer.opening(columns, k, -1 - index), measured=False
        )
        exchange.loop = self._closed[0]
        return exchange

    def _exchange(self, columns: Columns, k: int, index: int, asked: Any, *, measured: bool) -> Exchange:
        cls, name = columns.cls[k], f"{self._plan.id_prefix}-{'' if measured else 'w'}{index}"
        output_tokens = columns.output_tokens[k]
        exchange = Exchange(
            index=index,
            place=k,
            cls=cls,
            data=self._writer.request(cls, name, asked, output_tokens),
            prompt_tokens=columns.prompt_tokens[k],
            output_tokens=output_tokens,
            measured=measured,
            on_end=self._ended,
            session=columns.session[k],
            turn=columns.turn[k],
            asked=asked if measured and self._plan.classes[cls].turns and columns.goes_on(k) else None,
        )
        self._in_flight.add(exchange)
        self._idle.clear()
        return exchange

    def _ended(self, exchange: Exchange) -> None:
        if exchange.fault == "unanswered" and self._sender.send_again(exchange):
            return
        self._in_flight.discard(exchange)
        if exchange.asked is None:
            self._free(exchange)
        self._to_read.append(Reading(exchange, _EVENTS_A_TURN, keep_text=exchange.asked is not None))
        if not self._reads:
            self._reads = True
            self._call_soon(self._read_turn)
        if not self._in_flight:
            self._idle.set()

    def _free(self, exchange: Exchange) -> None:
        """The user of a closed loop has nothing more to say."""
        loop, exchange.loop = exchange.loop, None
        if not isinstance(loop, ClosedLoop) or self._phase == "drain":
            return
        if exchange.fault in NO_CONNECTION:  # a user tries again after a while, not a million times
            asyncio.get_running_loop().call_later(_PAUSE_S, loop.ended)
        else:
            loop.ended()

    def _read_turn(self) -> None:
        self._read_on()
        self._reads = bool(self._to_read)
        if self._reads:
            self._call_soon(self._read_turn)

    def _read_on(self) -> None:
        """Read a slice of a finished reply: a turn of the loop each, so that no stamp waits for long."""
        if self._to_read and self._to_read[0].read_on():
            self._keep(self._to_read.popleft())

    def _keep(self, reading: Reading) -> None:
        """Write the row of a reply that was read, and go on with its conversation."""
        exchange = reading.exchange
        row = as_row(exchange, reading.reply, self._origin_ns)
        if not exchange.measured:
            if row.status != OK:
                self._warmup_faults.append(f"{row.reason}: {row.detail}")
            return
        self._counts["failed" if row.status == FAILED else "done"] += 1
        self._segments += len(exchange.stamps)
        write_frame(self._rows, b"R", row)
        if exchange.asked is not None:
            self._go_on(exchange, "".join(reading.reply.text or ()), ok=row.status == OK)

    def _go_on(self, exchange: Exchange, reply: str, *, ok: bool) -> None:
        """The next turn of a conversation, or its end: after a failure, or when the load is over."""
        assert self._open is not None
        assert exchange.end_ns is not None
        columns, k = self._columns, exchange.place + 1
        due_ns = exchange.end_ns + columns.think_ns[k]
        over = self._phase == "drain" or (self._until_ns is not None and due_ns >= self._until_ns)
        if over or not ok:
            self._open.come(self._conversations.left(k))
            self._free(exchange)
            return
        asked = self._conversations.next_turn(exchange, reply)
        self._counts["sent"] += 1
        following = self._exchange(
            columns,
            k,
            exchange.index - columns.index[exchange.place] + columns.index[k],
            asked,
            measured=True,
        )
        following.loop = exchange.loop
        self._open.add(following, due_ns)

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
            self._sender.close()
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
                    elapsed_ns=max(0, monotonic_ns() - self._origin_ns) if self._origin_ns else 0,
                    **self._counts,
                )
            )
            if self._phase == "load" and self._open is not None and self._told_to_stop():
                self._stop()
            await asyncio.sleep(_LOOK_FOR_GO_S if self._phase == "warmup" else _PROGRESS_S)
