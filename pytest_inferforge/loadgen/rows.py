"""What is left of a finished request: its reply is read, and a row is written that outlives the worker."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

import msgspec

from pytest_inferforge.loadgen import sse
from pytest_inferforge.loadgen.plan import CANCELLED, FAILED, OK, Finish, Row
from pytest_inferforge.loadgen.reply import Reply

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_inferforge.loadgen.wire import Exchange


class Reading:
    """A finished reply being read, a slice at a time."""

    def __init__(self, exchange: Exchange, events_a_step: int, *, keep_text: bool = False) -> None:
        self.exchange = exchange
        self.reply = Reply(text=[] if keep_text else None)
        self._steps = self._read(events_a_step)

    def read_on(self) -> bool:
        """Read a step's events; True: all was read."""
        return next(self._steps, self) is self

    def _read(self, events_a_step: int) -> Iterator[None]:
        exchange = self.exchange
        if exchange.status != 200:
            return
        if exchange.streamed:
            yield from sse.reading(exchange.pieces, self.reply, events_a_step)
        elif exchange.fault is None:
            body = b"".join(data for _, data in exchange.pieces)
            self.reply = sse.read_whole(exchange.stamps[-1], body)


def as_row(exchange: Exchange, reply: Reply, origin_ns: int) -> Row:
    """What became of a request whose reply was read."""
    reason, detail = _fault(exchange, reply)

    def relative(when: int | None) -> int | None:
        return None if when is None else when - origin_ns

    chunks = reply.chunk_ns
    counted = reply.output_tokens
    return Row(
        index=exchange.index,
        cls=exchange.cls,
        session=exchange.session,
        turn=exchange.turn,
        status=OK if reason is None else CANCELLED if reason == "cancelled" else FAILED,
        reason=reason,
        detail=detail,
        http_status=exchange.status,
        due_ns=relative(exchange.due_ns),
        send_ns=relative(exchange.send_ns),
        connect_ns=exchange.connect_ns,
        tls_ns=exchange.tls_ns,
        rtt_ns=exchange.rtt_ns,
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
        chunk_origin_ns=origin_ns,
        empty_chunks=reply.empty_chunks,
        resent=exchange.resent,
        finish_reason=reply.finish_reason,
        first_chunk_tokens=reply.first_chunk_tokens,
        server_ttft_ns=reply.server_ttft_ns,
        server_queue_ns=reply.server_queue_ns,
    )


def _fault(exchange: Exchange, reply: Reply) -> tuple[str | None, str | None]:
    """Why a request failed (None: it did not), and what was seen; what the server said goes first."""
    if exchange.fault is not None and reply.fault not in ("error_event", "bad_json"):
        return "cut" if exchange.fault == "unanswered" else exchange.fault, exchange.detail
    if exchange.status != 200:
        body = b"".join(data for _, data in exchange.pieces)
        return f"http_{exchange.status}", body[:200].decode("utf-8", "backslashreplace")
    return reply.fault, reply.detail


def write_frame(file: BinaryIO, kind: bytes, content: Row | Finish) -> None:
    """Append a frame: kind, length (4 bytes, big endian), msgpack."""
    data = msgspec.msgpack.encode(content)
    frame = kind + len(data).to_bytes(4, "big") + data
    while frame:  # an unbuffered file may take a part only
        frame = frame[file.write(frame) :]


def frames(file: BinaryIO) -> Iterator[Row | Finish]:
    """What a worker's file holds from its position on, one by one; up to one that is not whole (yet)."""
    row = msgspec.msgpack.Decoder(Row)
    while True:
        start = file.tell()
        head = file.read(5)
        size = int.from_bytes(head[1:], "big")
        content = file.read(size)
        if len(head) < 5 or len(content) < size:
            file.seek(start)
            return
        yield row.decode(content) if head[:1] == b"R" else msgspec.msgpack.decode(content, type=Finish)
