"""What passes between the session and a worker process, as msgpack.

Times here are integer nanoseconds of the monotonic clock; outside `loadgen` they are float seconds.
"""

from __future__ import annotations

from typing import Any

import msgspec

OK, FAILED, CANCELLED = 0, 1, 2  # Row.status; the same numbers as in a RequestTable


class Plan(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Everything a worker needs to know; the API key comes by its environment.

    `due_ns` counts from the origin, which the worker sets; it is empty in a closed loop, where
    `concurrency` is set. Lengths repeat when a closed loop that ends by time has used them all.
    """

    url: str  # scheme://host:port/path of the endpoint
    model: str
    chat: bool
    body: dict[str, Any]  # constant fields of the request body
    max_tokens_field: str
    min_tokens_field: str | None
    id_prefix: str
    due_ns: list[int]
    prompt_tokens: list[int]
    output_tokens: list[int]
    concurrency: int | None
    requests: int | None
    duration_ns: int | None
    warmup_concurrency: int
    warmup_prompt_tokens: list[int]
    warmup_output_tokens: list[int]
    words: list[str]
    ring: list[str]
    overhead_tokens: int
    salt: str | None
    survives_stream: bool
    timeout_ns: int
    stall_timeout_ns: int
    drain_timeout_ns: int
    connect_lead_ns: int


class Row(msgspec.Struct, array_like=True, kw_only=True):
    """One finished request. Times are nanoseconds from the origin, None = not reached."""

    index: int
    status: int  # OK, FAILED or CANCELLED
    reason: str | None
    detail: str | None
    http_status: int | None
    due_ns: int | None
    send_ns: int | None
    connect_ns: int | None
    first_byte_ns: int | None
    first_event_ns: int | None
    first_token_ns: int | None
    first_visible_ns: int | None
    last_token_ns: int | None
    end_ns: int | None
    prompt_tokens_asked: int
    output_tokens_asked: int
    prompt_tokens: int | None
    output_tokens: int | None
    exact: bool
    cached_tokens: int | None
    chunk_ns: bytes  # int64, little endian
    empty_chunks: int
    resent: int
    finish_reason: str | None


class Finish(msgspec.Struct, kw_only=True):
    """The worker's last word: what it cost and tolerated."""

    issued: int
    warmup: int
    warmup_failed: int
    warmup_reason: str | None
    origin_unix_ns: int
    cpu_ns: int
    wall_ns: int
    bytes_received: int
    segments: int  # how often bytes arrived
    connections: int
    priority: str  # as priority.hurry was granted


class Progress(msgspec.Struct, kw_only=True):
    """A line a quarter of a second while the load runs."""

    phase: str  # warmup, load, drain
    sent: int
    done: int
    failed: int
    in_flight: int
    elapsed_ns: int
