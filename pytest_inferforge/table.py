"""All requests of one run as columns: what measures, checks and reports compute on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_inferforge.records import RequestCounts, RequestRecord, RequestStatus

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

TIMES = (
    "due_s", "send_s", "connect_s", "tls_s", "rtt_s", "first_byte_s", "first_event_s", "first_token_s",
    "first_visible_s", "last_token_s", "end_s", "server_ttft_s", "server_queue_s",
)  # fmt: skip
COUNTS = (
    "prompt_tokens_asked", "output_tokens_asked", "prompt_tokens", "output_tokens", "cached_tokens",
    "first_chunk_tokens", "http_status", "empty_chunks", "resent", "session", "turn",
)  # fmt: skip
TEXTS = ("id", "reason", "detail", "finish_reason")


@dataclass(frozen=True, slots=True, eq=False)
class RequestTable:
    """n requests of one run on one boot, ordered by their place in the schedule.

    Time columns: float64 (n,), seconds from the run's origin (`connect_s`, `tls_s`, `rtt_s`, `server_ttft_s`
    and `server_queue_s` are durations), NaN = not reached, or not told. Count columns: int64 (n,), -1 = not
    known. `chunk_s` holds the arrival of every chunk with payload of all requests one after the other; those
    of request i are `chunk_s[chunk_start[i] : chunk_start[i + 1]]`.
    `cls`: place of each request's class in `classes`.
    """

    times: dict[str, Floats]
    counts: dict[str, Ints]
    texts: dict[str, tuple[str | None, ...]]
    index: Ints
    cls: NDArray[np.int16]
    classes: tuple[str, ...]
    status: NDArray[np.int8]  # 0 ok, 1 failed, 2 cancelled
    exact: NDArray[np.bool_]
    chunk_s: Floats
    chunk_start: Ints

    def __len__(self) -> int:
        return len(self.index)

    def __iter__(self) -> Iterator[RequestRecord]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, i: int) -> RequestRecord:
        """The i-th request as a record."""
        if not -len(self) <= i < len(self):
            raise IndexError(i)
        i %= len(self)
        cells: dict[str, Any] = {name: column[i] for name, column in self.texts.items()}
        cells |= {name: _time(column[i]) for name, column in self.times.items()}
        cells |= {name: _count(column[i]) for name, column in self.counts.items()}
        start, stop = self.chunk_start[i : i + 2]
        return RequestRecord(
            index=int(self.index[i]),
            class_name=self.classes[self.cls[i]] if self.classes else "",
            status=STATUSES[self.status[i]],
            output_tokens_exact=bool(self.exact[i]),
            chunk_s=tuple(self.chunk_s[start:stop].tolist()),
            **cells,
        )

    @property
    def ok(self) -> NDArray[np.bool_]:
        """bool (n,): completed."""
        return np.equal(self.status, 0)

    @property
    def failed(self) -> NDArray[np.bool_]:
        """bool (n,): failed for a reason of the server or the network."""
        return np.equal(self.status, 1)

    @property
    def cancelled(self) -> NDArray[np.bool_]:
        """bool (n,): cut by us at the end of the run; its age at `end_s` is a lower bound."""
        return np.equal(self.status, 2)

    @property
    def start_s(self) -> Floats:
        """float64 (n,): where what the user felt begins: the due time, or the send where there is none."""
        due, send = self.times["due_s"], self.times["send_s"]
        return np.where(np.isnan(due), send, due)

    def of_class(self, name: str) -> RequestTable:
        """The requests of one class; all when the run has no classes."""
        if not self.classes or name not in self.classes:
            return self
        return self.where(self.cls == self.classes.index(name))

    def where(self, keep: NDArray[np.bool_]) -> RequestTable:
        """The requests that `keep`, bool (n,), picks."""
        sizes = np.diff(self.chunk_start)
        kept = sizes[keep]
        return RequestTable(
            times={name: column[keep] for name, column in self.times.items()},
            counts={name: column[keep] for name, column in self.counts.items()},
            texts={
                name: tuple(text for text, k in zip(column, keep.tolist(), strict=True) if k)
                for name, column in self.texts.items()
            },
            index=self.index[keep],
            cls=self.cls[keep],
            classes=self.classes,
            status=self.status[keep],
            exact=self.exact[keep],
            chunk_s=self.chunk_s[np.repeat(keep, sizes)],
            chunk_start=np.concatenate(([0], np.cumsum(kept))).astype(np.int64),
        )

    def request_counts(self, warmup: int = 0) -> RequestCounts:
        """How many requests ended how."""
        return RequestCounts(
            issued=len(self),
            completed=int(self.ok.sum()),
            failed=int(self.failed.sum()),
            cancelled=int(self.cancelled.sum()),
            warmup=warmup,
        )

    def failures(self) -> dict[str, int]:
        """Reason -> number of failed requests, most frequent first."""
        tally: dict[str, int] = {}
        for i in np.flatnonzero(self.failed):
            reason = self.texts["reason"][i] or "unknown"
            tally[reason] = tally.get(reason, 0) + 1
        return dict(sorted(tally.items(), key=lambda item: (-item[1], item[0])))

    @classmethod
    def from_records(cls, records: Sequence[RequestRecord]) -> RequestTable:
        """Columns from records, ordered by `index`."""
        rows = sorted(records, key=lambda r: r.index)
        sizes = [len(r.chunk_s) for r in rows]
        classes = sorted({r.class_name for r in rows})
        return cls(
            times={name: np.array([_nan(getattr(r, name)) for r in rows], dtype=float) for name in TIMES},
            counts={
                name: np.array([_minus_one(getattr(r, name)) for r in rows], dtype=np.int64)
                for name in COUNTS
            },
            texts={name: tuple(getattr(r, name) for r in rows) for name in TEXTS},
            index=np.array([r.index for r in rows], dtype=np.int64),
            cls=np.array([classes.index(r.class_name) for r in rows], dtype=np.int16),
            classes=tuple(classes) if any(classes) else (),
            status=np.array([STATUSES.index(r.status) for r in rows], dtype=np.int8),
            exact=np.array([r.output_tokens_exact for r in rows], dtype=bool),
            chunk_s=np.array([t for r in rows for t in r.chunk_s], dtype=float),
            chunk_start=np.concatenate(([0], np.cumsum(sizes, dtype=np.int64))).astype(np.int64),
        )


STATUSES = (RequestStatus.OK, RequestStatus.FAILED, RequestStatus.CANCELLED)


def _time(value: np.float64) -> float | None:
    return None if math.isnan(value) else float(value)


def _count(value: np.int64) -> int | None:
    return None if value < 0 else int(value)


def _nan(value: float | None) -> float:
    return math.nan if value is None else value


def _minus_one(value: int | None) -> int:
    return -1 if value is None else value
