"""The one home of every default that a verdict rests on.

Values and their reasons: `docs/how-it-judges.md`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeOptions:
    """How measurements become verdicts. All probabilities are one-sided."""

    alpha: float = 0.05
    power: float = 0.80
    batches: int = 20  # per boot, for the design effect and for batch means
    error_limit: float = 0.01  # of the error check that every load test has
    extend: int = 1  # times the planned requests: so long is measured on what is inconclusive
    look_first: int = 500  # requests before the first look at a run that may end early or be extended
    look_every: int = 25
    look_common_factor: float = 5.0  # of the allowed share: what so many exceed shows how requests clump
    deploy_boots: int = 3  # the fewest for a claim about the next boot
    min_sessions: int = 3  # below it a baseline decides nothing, but see gross_ratio
    wanted_sessions: int = 10
    window_sessions: int = 20  # newest accepted sessions that are compared with
    sd_floor: float = 0.005  # log scale
    young_sd_floor: float = 0.02  # until the sessions span young_days
    young_days: float = 3.0
    screen_alpha: float = 0.05  # a comparison is suspicious below it ...
    screen_margin_share: float = 0.5  # ... and when it is worse by that share of its margin
    confirming_boots: int = 2  # of a suspicious test, where its reference cannot be booted
    pairs_of_boots: int = 4  # of reference and current, in turns, where it can
    pairs_of_slow_boots: int = 3
    slow_boot_s: float = 60.0  # from here on a boot is slow: fewer pairs
    costly_boot_s: float = 240.0  # from here on only one confirming boot, unless pairs are asked for
    pinned_alpha_share: float = 0.2  # of alpha, for comparisons with the pinned reference
    pinned_margin_factor: float = 2.0
    cusum_slack: float = 0.5  # standard deviations that a session may lie above its reference
    cusum_height: float = 8.0  # of the sum of what is beyond: the alarm
    step_alpha: float = 0.001  # of a change of level in the history
    step_permutations: int = 1999
    gross_ratio: float = 1.5  # with one or two sessions, a mean worse by this factor is red
    margin_mean: float = 0.05
    margin_p50: float = 0.05
    margin_p90: float = 0.08
    margin_p99: float = 0.10
    margin_boot_time: float = 0.20
    margin_ratio_points: float = 0.02  # proportions: absolute
    margin_beyond_points: float = 0.01  # of requests beyond the reference's P99: twice as many as there
    quality_margin: float = 0.02  # of a score: 2 points
    pair_match: float = 0.95  # of all items of both sides: with fewer in common nothing is paired
    unanswered_limit: float = 0.01  # of the items: beyond it an evaluation is not judged
    # beyond these shares of the items a score may be the evaluation's and not the server's
    truncated_limit: float = 0.05
    tied_limit: float = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """How load is driven where a workload is silent. Times in seconds."""

    seed: int = 20260101
    request_timeout_s: float = 300.0
    stall_timeout_s: float = 60.0
    drain_timeout_s: float = 120.0
    connect_lead_s: float = 0.05  # a connection stands this long before it is needed
    warmup_waves: int = 2
    warmup_max_concurrency: int = 32
    quick_requests: int = 4
    tokenizer: str | None = None  # a tokenizer.json, for servers that count no tokens
    workers: str = "auto"  # or a number, or ray:N, ray:N@address
    worker_cpu_wanted: float = 0.5  # of a core: what "auto" plans for
    floor_requests: int = 300  # at least so many measure the client's own error; 0: not measured
    floor_seconds: float = 5.0  # about how long that takes
    floor_attempts: int = 3
    # a run beyond one of these is not judged
    lag_limit_s: float = 0.002
    httpx_lag_limit_s: float = 0.01  # at least, where httpx carries the requests: it takes its own time
    lag_limit_share: float = 0.05  # of the tightest limit, or of the median TTFT when there is none
    floor_limit_s: float = 0.002  # the client's own error of TTFT, p99; the same share holds
    achieved_rate_limit: float = 0.02  # sent less than asked by that share
    dispersion_limit: float = 0.25  # index of dispersion of sends against that of due times, as a share
    worker_cpu_limit: float = 0.9  # of a core
    loop_lag_limit_s: float = 0.01  # p99
    miscounted_limit: float = 0.01  # of requests whose prompt the server counts differently
    chunks_limit: float = 0.01  # of replies with more chunks than tokens
    short_limit: float = 0.02  # of replies shorter than asked, where the server is told the exact length
    cache_size_limit: float = 0.01  # size of a boot's KV cache against that of its peers
    cached_limit: float = 0.02  # of prompt tokens from the prefix cache, where prompts are salted


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityOptions:
    """How items are asked where a test is silent. Times in seconds."""

    seed: int = 20260101
    concurrency: int = 8
    timeout_s: float = 300.0
    retries: int = 3
    repeat_items: int = 100  # asked twice when a session is saved: what flips though nothing changed
    quick_items: int = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOptions:
    """How a session is run where nobody says otherwise."""

    boots: int = 1
    policy: str = "default"  # default, strict, observe
    tail: str = "p99"  # or p95, cvar95: of TTFT, gated under an open loop
    budget: str = "30 min"  # for boots beyond the planned ones
    store: str = ".inferforge"
    pinned_sessions: int = 10  # that `inferforge baseline pin` takes when nobody says which
    default_backend: str = "llama.cpp"
    default_model: str = "forge-tiny"
    api_key_env: str = "INFERFORGE_API_KEY"
