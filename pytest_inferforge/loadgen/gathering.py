"""From the files that workers left to one table of requests, row by row."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from pytest_inferforge.loadgen.plan import FAILED, NOT_DUE, Finish, Plan, Row
from pytest_inferforge.loadgen.rows import frames
from pytest_inferforge.table import RequestTable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

_TIMES = ("due", "send", "connect", "tls", "rtt", "first_byte", "first_event", "first_token",
          "first_visible", "last_token", "end", "server_ttft", "server_queue")  # fmt: skip
_COUNTS = ("prompt_tokens_asked", "output_tokens_asked", "prompt_tokens", "output_tokens", "cached_tokens",
           "first_chunk_tokens", "http_status", "empty_chunks", "resent", "session", "turn")  # fmt: skip
_TEXTS = ("reason", "detail", "finish_reason")
_NONE = -(1 << 62)


class Gathering:
    """Columns that grow a row at a time; 8 bytes a number, and 8 a chunk."""

    def __init__(self) -> None:
        self._index = array("q")
        self._cls = array("h")
        self._status = array("b")
        self._exact = array("b")
        self._times = {name: array("q") for name in _TIMES}
        self._counts = {name: array("q") for name in _COUNTS}
        self._texts: dict[str, list[str | None]] = {name: [] for name in _TEXTS}
        self._sizes = array("q")
        self._origins = array("q")
        self._chunks = bytearray()

    def __len__(self) -> int:
        return len(self._index)

    def read(self, file: BinaryIO) -> Finish | None:
        """Take in a worker's rows; its last word, None when it died before it."""
        finish = None
        for frame in frames(file):
            if isinstance(frame, Finish):
                finish = frame
            else:
                self.add(frame)
        return finish

    def add(self, row: Row) -> None:
        """One more request."""
        self._index.append(row.index)
        self._cls.append(row.cls)
        self._status.append(row.status)
        self._exact.append(row.exact)
        for name, times in self._times.items():
            when = getattr(row, f"{name}_ns")
            times.append(_NONE if when is None else when)
        for name, counts in self._counts.items():
            count = getattr(row, name)
            counts.append(-1 if count is None else count)
        for name, texts in self._texts.items():
            texts.append(getattr(row, name))
        self._sizes.append(len(row.chunk_ns) // 8)
        self._origins.append(row.chunk_origin_ns)
        self._chunks += row.chunk_ns

    def indexes(self) -> set[int]:
        """Places in the schedule of all rows so far."""
        return set(self._index)

    def table(self, plan: Plan, *, classes: Sequence[str]) -> RequestTable:
        """All rows, ordered by their place in the schedule."""
        index = np.array(self._index, dtype=np.int64)
        order = np.argsort(index, kind="stable")
        sizes = np.array(self._sizes, dtype=np.int64)
        starts = np.cumsum(sizes) - sizes
        chunk_ns = np.frombuffer(bytes(self._chunks), dtype="<i8")
        self._chunks.clear()
        chunk_ns = chunk_ns - np.repeat(np.array(self._origins, dtype=np.int64), sizes)
        sizes, starts = sizes[order], starts[order]
        picked = np.repeat(starts - (np.cumsum(sizes) - sizes), sizes) + np.arange(int(sizes.sum()))
        places = order.tolist()
        return RequestTable(
            times={f"{name}_s": _seconds(column)[order] for name, column in self._times.items()},
            counts={name: np.array(column, dtype=np.int64)[order] for name, column in self._counts.items()},
            texts={
                "id": tuple(f"{plan.id_prefix}-{k}" for k in index[order].tolist()),
                **{name: tuple(texts[k] for k in places) for name, texts in self._texts.items()},
            },
            index=index[order],
            cls=np.array(self._cls, dtype=np.int16)[order],
            classes=tuple(classes),
            status=np.array(self._status, dtype=np.int8)[order],
            exact=np.array(self._exact, dtype=bool)[order],
            chunk_s=chunk_ns[picked] / 1e9,
            chunk_start=np.concatenate((np.zeros(1, np.int64), np.cumsum(sizes))),
        )


def gather(plan: Plan, path: Path, into: Gathering) -> tuple[Finish | None, int]:
    """One worker's file; its last word, and how many requests of a worker that died have no row.

    Of a closed loop that ends by time those are known to have been sent that stand before one with a row.
    """
    finish = None
    if path.exists():
        with path.open("rb") as file:
            finish = into.read(file)
    if finish is not None:
        return finish, 0
    known = into.indexes()
    has_row = [_index(plan, k) in known for k in range(len(plan.items.index) // 8)]
    stop = len(has_row) if _planned(plan) else max((k for k, has in enumerate(has_row) if has), default=0)
    lost = [k for k in range(stop) if not has_row[k]]
    for k in lost:
        into.add(_lost_row(plan, k))
    return None, len(lost)


def _planned(plan: Plan) -> bool:
    """Every item was to be sent: no closed loop that ends by time and may use only some."""
    return all(lane.requests is not None for lane in plan.lanes)


def _index(plan: Plan, k: int) -> int:
    return int.from_bytes(plan.items.index[8 * k : 8 * k + 8], "little")


def _seconds(column: array[int]) -> NDArray[np.float64]:
    ns = np.array(column, dtype=np.int64)
    return np.where(ns == _NONE, np.nan, ns / 1e9)


def _lost_row(plan: Plan, k: int) -> Row:
    def item(name: str, code: str) -> int:
        size = array(code).itemsize
        data: bytes = getattr(plan.items, name)
        return array(code, data[size * k : size * (k + 1)])[0]

    nothing = dict.fromkeys(
        ("http_status", "send_ns", "connect_ns", "tls_ns", "rtt_ns", "first_byte_ns", "first_event_ns",
         "first_token_ns", "first_visible_ns", "last_token_ns", "end_ns", "prompt_tokens", "output_tokens",
         "cached_tokens", "finish_reason")
    )  # fmt: skip
    due_ns = item("due_ns", "q")
    return Row(
        index=item("index", "q"),
        cls=item("cls", "h"),
        session=item("session", "q"),
        turn=item("turn", "h"),
        status=FAILED,
        reason="worker_died",
        detail="the load client died before this request ended",
        due_ns=None if due_ns == NOT_DUE else due_ns,
        prompt_tokens_asked=item("prompt_tokens", "i"),
        output_tokens_asked=item("output_tokens", "i"),
        exact=False,
        chunk_ns=b"",
        chunk_origin_ns=0,
        empty_chunks=0,
        resent=0,
        **nothing,
    )
