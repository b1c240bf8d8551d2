"""What passes between the session and a worker process, as msgpack.

Times here are integer nanoseconds of the monotonic clock; outside `loadgen` they are float seconds.
"""

from __future__ import annotations

from typing import Any

import msgspec

from pytest_inferforge.dialects import BEARER, Wire

OK, FAILED, CANCELLED = 0, 1, 2  # Row.status; the same numbers as in a RequestTable
NOT_DUE = -1  # Items.due_ns of a request that waits for another one to end


class Items(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """n requests of `workload.schedule.Requests` as columns of integers; letters are array's typecodes."""

    index: bytes  # q, place in the whole schedule
    due_ns: bytes  # q, from the origin
    lane: bytes  # h
    cls: bytes  # h
    session: bytes  # q
    turn: bytes  # h
    think_ns: bytes  # q
    prompt_tokens: bytes  # i
    output_tokens: bytes  # i
    text: bytes  # i
    block_start: bytes  # q, n + 1
    blocks: bytes  # i


class ClassPlan(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """How the requests of one class are written. `bank`: place in `Plan.banks`; `images`: count, width,
    height of each; `length_json`: see `dialects.Dialect`."""

    name: str
    path: str  # of the endpoint, below `Plan.url`
    chat: bool
    body: dict[str, Any]  # constant fields
    max_tokens_field: str
    min_tokens_field: str | None
    bank: int
    salt: str | None
    token_ids: bool
    block_tokens: int
    images: tuple[int, int, int] | None
    turns: bool  # its conversations may go on: replies are kept
    wire: Wire = Wire.OPENAI
    length_json: tuple[str, tuple[str, ...]] | None = None


class BankPlan(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Words of one token each, and the ring of them that prompts are cut from."""

    words: list[str]
    ids: list[int]
    ring: list[int]
    overhead_tokens: int


class LanePlan(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A closed loop: this worker's users of it. `requests`: of them, None: until the duration ends."""

    lane: int
    concurrency: int
    start_ns: list[int]  # when each user begins, from the origin
    requests: int | None


class TextPlan(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A conversation of a prompt file: what its user says."""

    system: str | None
    turns: list[str]


class Plan(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Everything one of `workers` workers needs to know; the API key comes by its environment.

    `items` are its share of the schedule, of `total` requests in all. Open-loop requests have a due time;
    the others belong to `lanes`, which start over when they have used all their items. The origin comes
    later, when all workers are ready.
    """

    url: str  # scheme://host:port
    model: str
    worker: int
    workers: int
    id_prefix: str
    total: int
    items: Items
    lanes: list[LanePlan]
    classes: list[ClassPlan]
    banks: list[BankPlan]
    texts: list[list[TextPlan]]  # by class; empty: synthetic
    duration_ns: int | None
    warmup: Items
    warmup_concurrency: int
    survives_stream: bool
    timeout_ns: int
    stall_timeout_ns: int
    drain_timeout_ns: int
    connect_lead_ns: int
    transport: str  # wire, httpx
    proxies: bool  # httpx goes by those of its environment
    ca_file: str | None
    verify_tls: bool
    core: int | None  # to stay on; None: where the system likes
    headers: tuple[tuple[str, str], ...] = ()  # of the dialect
    key_header: tuple[str, str] = BEARER


class Row(msgspec.Struct, array_like=True, kw_only=True):
    """One finished request. Times are nanoseconds from the origin, None = not reached."""

    index: int
    cls: int
    session: int
    turn: int
    status: int  # OK, FAILED or CANCELLED
    reason: str | None
    detail: str | None
    http_status: int | None
    due_ns: int | None
    send_ns: int | None
    connect_ns: int | None  # DNS and TCP
    tls_ns: int | None
    rtt_ns: int | None
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
    chunk_ns: bytes  # int64, little endian, from `chunk_origin_ns`: who gathers them takes it off
    empty_chunks: int
    resent: int
    finish_reason: str | None
    chunk_origin_ns: int = 0
    first_chunk_tokens: int | None = None
    server_ttft_ns: int | None = None  # by the server's clock, as the next: durations
    server_queue_ns: int | None = None


class Finish(msgspec.Struct, kw_only=True):
    """The worker's last word: what it cost and tolerated."""

    issued: int
    warmup: int
    warmup_failed: int
    warmup_reason: str | None
    origin_unix_ns: int
    cpu_ns: int
    wall_ns: int
    segments: int  # how often bytes arrived
    connections: int
    priority: str  # as priority.hurry was granted
    loop_lag_p99_ns: int  # how late a timer of the worker's loop was
    loop_lag_max_ns: int
    rss_bytes: tuple[tuple[int, int], ...]  # (ns from the origin, resident memory), every few seconds


class Progress(msgspec.Struct, kw_only=True):
    """A line a quarter of a second while the load runs."""

    phase: str  # warmup, ready (waits for the origin), load, drain
    sent: int
    done: int
    failed: int
    in_flight: int
    elapsed_ns: int
