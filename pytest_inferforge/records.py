"""What was measured and what was decided: plain frozen data that every other module exchanges.

Times are seconds (float). A time point of a request counts from the origin of its run (the start of the
measured phase, on the monotonic clock); `None` means "not measured", never 0.
"""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 (the codec reads these annotations at run time)
from dataclasses import dataclass, field
from enum import StrEnum

from pytest_inferforge.outcomes import Outcomes  # noqa: TC001 (the codec reads annotations at run time)


class RequestStatus(StrEnum):
    """How one request ended."""

    OK = "ok"
    FAILED = "failed"
    CANCELLED = "cancelled"  # cut by us when the run ended: censored, not a failure of the server


class RunVerdict(StrEnum):
    """Whether a run may be judged at all."""

    VALID = "valid"
    INVALID = "invalid"


class SloVerdict(StrEnum):
    """What a check of one SLO can say."""

    PASS = "pass"  # noqa: S105 (a verdict, not a password)
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"


class DecisionKind(StrEnum):
    """What a person decides about stored sessions."""

    ACCEPT = "accept"
    REJECT = "reject"
    PIN = "pin"
    UNPIN = "unpin"


class ComparisonVerdict(StrEnum):
    """What a comparison with a baseline can say."""

    NOT_REGRESSED = "not_regressed"
    IMPROVED = "improved"
    REGRESSED = "regressed"
    INCONCLUSIVE = "inconclusive"
    INCOMPARABLE = "incomparable"
    NO_BASELINE = "no_baseline"

    @property
    def judged(self) -> bool:
        """Whether the evidence was weighed at all."""
        return self not in (ComparisonVerdict.INCOMPARABLE, ComparisonVerdict.NO_BASELINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRecord:
    """One request as the client saw it. A field that the request never reached is None."""

    index: int  # position in the schedule
    id: str  # sent as X-Request-Id
    class_name: str = ""  # of a workload with several kinds of requests
    session: int | None = None  # its conversation
    turn: int | None = None  # 0, 1, ... in it
    status: RequestStatus
    reason: str | None = None  # of a failure: http_500, refused, cut, stalled, timeout, bad_json, ...
    detail: str | None = None  # what was seen, a line for a person
    http_status: int | None = None
    due_s: float | None = None  # planned arrival; None in a closed loop
    send_s: float | None = None  # first byte of the request handed to a ready connection
    connect_s: float | None = None  # TCP of the connection used; None when it was reused
    tls_s: float | None = None  # TLS handshake of it; None without TLS, or when it was reused
    rtt_s: float | None = None  # least round trip that the system saw on the connection
    first_byte_s: float | None = None  # first byte of the response
    first_event_s: float | None = None  # first SSE data event, also an empty one
    first_token_s: float | None = None  # first event with text, reasoning or tool-call arguments
    first_visible_s: float | None = None  # first event with user-visible text
    last_token_s: float | None = None
    end_s: float | None = None  # end of the response, or when the failure was seen
    server_ttft_s: float | None = None  # as the server says: until its first token (llama.cpp: of prefill)
    server_queue_s: float | None = None  # as the server says: in its queue
    prompt_tokens_asked: int
    output_tokens_asked: int
    prompt_tokens: int | None = None  # as the server counted them
    output_tokens: int | None = None
    output_tokens_exact: bool = False  # from the server's usage; False: counted from chunks
    cached_tokens: int | None = None  # prompt tokens that the server says came from its prefix cache
    first_chunk_tokens: int | None = None  # output tokens up to the first chunk, where the server counts them
    chunk_s: tuple[float, ...] = ()  # arrival of every event with payload
    empty_chunks: int = 0  # events without payload before the last token: tolerated, counted
    resent: int = 0  # 1 when a reused connection was found dead and the request was sent again
    finish_reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SloResult:
    """One SLO judged. `value`, `lower`, `upper` and `limit` are in the metric's unit.

    `lower` and `upper` are one-sided bounds, each at the confidence of the check; None is unbounded.
    `n` counts what was judged (requests, batches or boots, as `unit` says), `n_effective` the same after the
    design effect.
    """

    text: str
    metric: str
    verdict: SloVerdict
    value: float | None
    limit: float
    lower: float | None
    upper: float | None
    n: int
    n_effective: float
    unit: str = "requests"  # what n counts: requests, batches, slices, boots
    misses_limit: bool = False  # the point estimate misses the limit
    reason: str = ""
    implicit: bool = False  # the error check that every load test has
    class_name: str = ""  # of the requests it is about; empty: all


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One gated metric of one test against its reference. Ratios are current over reference."""

    nodeid: str
    metric: str
    verdict: ComparisonVerdict
    ratio: float | None = None
    lower: float | None = None
    upper: float | None = None
    p: float | None = None
    p_adjusted: float | None = None
    margin: float | None = None
    mde_ratio: float | None = None  # smallest worsening that would have been seen, as a ratio > 1
    reference: str = ""  # baseline:X
    reference_value: float | None = None
    value: float | None = None
    n_reference: int = 0  # sessions; boots where `evidence` is abba
    n_current_boots: int = 0
    evidence: str = "stored"  # what decided: stored sessions; confirmed: with more boots; abba
    slots: tuple[tuple[str, float], ...] = ()  # of abba: (reference or current, value), in order
    trend_ratio: float | None = None  # of abba: by how much values rise from one boot to the next
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """Where and of what something was measured.

    `hard`: differs, and the two are incomparable. `identity`: the same unless named as under test.
    `soft`: recorded, shown as "changed since baseline".
    """

    hard: Mapping[str, str] = field(default_factory=dict)
    identity: Mapping[str, str] = field(default_factory=dict)
    soft: Mapping[str, str] = field(default_factory=dict)

    def merged(self, other: Fingerprint) -> Fingerprint:
        """Both; `other` wins where a key stands in both."""
        return Fingerprint(
            hard={**self.hard, **other.hard},
            identity={**self.identity, **other.identity},
            soft={**self.soft, **other.soft},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestCounts:
    """Measured requests: issued = completed + failed + cancelled; `warmup` stands apart."""

    issued: int
    completed: int
    failed: int
    cancelled: int
    warmup: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class BootResult:
    """What one test measured on one boot, without its request rows."""

    boot: int  # 1, 2, ... of this test within the session
    ready_s: float | None
    requests: RequestCounts
    metrics: Mapping[str, float]  # metric id -> value in the metric's unit; absent: not measured
    verdict: RunVerdict = RunVerdict.VALID
    reasons: tuple[str, ...] = ()
    position: int = 1  # this run was the k-th on its boot
    tails: Mapping[str, tuple[float, ...]] = field(default_factory=dict)  # quantity -> its upper quantiles


@dataclass(frozen=True, slots=True, kw_only=True)
class TestResult:
    """One test of one session: the unit that a baseline stores and a gate compares."""

    __test__ = False

    nodeid: str
    fingerprint: Fingerprint  # of its server and workload, to be merged over the session's
    gated: tuple[str, ...]  # metric ids under the gate
    boots: tuple[BootResult, ...]  # of its load; empty: only its quality was looked at
    quality: tuple[Outcomes, ...] = ()  # a task each
    workload: Mapping[str, object] = field(default_factory=dict)
    server: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionResult:
    """One pytest run as a baseline stores it. `started_at` is ISO 8601 in UTC."""

    schema: int
    id: str
    started_at: str
    version: str
    seed: int
    fingerprint: Fingerprint
    planned_boots: int
    complete: bool  # every selected test was measured
    accepted: bool  # may serve as a reference
    tests: tuple[TestResult, ...]
    source: Mapping[str, str] = field(default_factory=dict)  # git commit, branch, dirty


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What was decided about sessions of a baseline, kept beside them. `at` is ISO 8601 in UTC."""

    schema: int
    decision: DecisionKind
    sessions: tuple[str, ...]  # ids; of an unpin: none
    reason: str
    at: str
    by: str | None = None  # git's user name or the login, as far as there is one


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """One session in a series. `value` is in the metric's unit; `z`, `cusum`: None without a reference."""

    session: SessionResult
    value: float
    z: float | None = None
    cusum: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A step of the level: `first` is the first session after it, `described` how much worse or better."""

    first: SessionResult
    worse: bool
    described: str
    p: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One metric of one test, oldest first, of the sessions that are comparable with the newest one.

    `reference`: what the drift is measured against, in words. `alarm`: the session at which the sum of small
    worsenings got too large, `began` where it began to rise; None: it did not. `left_out`: sessions under
    other conditions.
    """

    nodeid: str
    metric: str
    moments: tuple[Moment, ...]
    reference: str
    alarm: SessionResult | None
    began: SessionResult | None
    changes: tuple[Change, ...]
    left_out: int
