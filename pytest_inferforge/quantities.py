"""The METRICS table: the only place that knows a quantity's id, unit, direction and definition.

Definitions and their sources: `docs/metrics.md`. How they are computed: `pytest_inferforge.measures`; what is
measured beside the requests: `pytest_inferforge.telemetry`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

Direction = Literal["lower", "higher", "none"]
Scale = Literal["log", "asin_sqrt"]

STATISTICS = ("mean", "p50", "p90", "p95", "p99", "p99.9", "cvar95", "max")
SERVER_QUANTILES = ("p50", "p95", "p99")


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """A measured quantity.

    `per`: "request" has one value a request and wants a statistic; "run" is one number a run.
    `scale`: on which scale two runs are compared. `telemetry`: it is one number a boot, measured beside the
    requests, which do not decide it. `statistics`: what exists of it beside the number that the id means.
    """

    id: str
    unit: str  # a base unit of `pytest_inferforge.units`
    direction: Direction
    per: Literal["request", "run"]
    definition: str
    names: tuple[str, ...]  # what people write in an SLO, lower case
    scale: Scale = "log"
    telemetry: bool = False
    statistics: tuple[str, ...] = ()


def _q(
    id_: str, unit: str, direction: Direction, per: Literal["request", "run"], definition: str, *names: str
) -> Quantity:
    scale: Scale = "asin_sqrt" if unit == "ratio" else "log"
    return Quantity(
        id=id_, unit=unit, direction=direction, per=per, definition=definition, names=names, scale=scale
    )


def _beside(
    id_: str,
    unit: str,
    direction: Direction,
    definition: str,
    *names: str,
    statistics: tuple[str, ...] = (),
) -> Quantity:
    found = _q(id_, unit, direction, "run", definition, *names)
    return replace(found, telemetry=True, statistics=statistics)


METRICS: dict[str, Quantity] = {
    q.id: q
    for q in (
        _q(
            "ttft_s", "s", "lower", "request",
            "time to first token: from the due time (open loop) or the send (closed loop) to the first chunk"
            " with text, reasoning or tool-call arguments",
            "ttft", "time to first token", "first token",
        ),
        _q(
            "ttft_service_s", "s", "lower", "request",
            "time to first token from the moment the request was handed to a ready connection",
            "ttft service", "service ttft",
        ),
        _q(
            "ttft_any_s", "s", "lower", "request",
            "time to the first SSE data event, also an empty one (what vLLM's benchmark calls TTFT)",
            "ttft any", "time to first event",
        ),
        _q(
            "ttfo_s", "s", "lower", "request",
            "time to first output: like ttft_s, but reasoning and tool calls do not count",
            "ttfo", "time to first output",
        ),
        _q(
            "tpot_s", "s", "lower", "request",
            "time per output token after the first chunk: (last - first) / (tokens - tokens of the first"
            " chunk)",
            "tpot", "time per output token",
        ),
        _q(
            "icl_s", "s", "lower", "request",
            "inter-chunk latency: 99th percentile of the gaps between one request's chunks (its largest gap"
            " when it has fewer than 100); chunks are not tokens",
            "icl", "itl", "inter-chunk latency", "inter-token latency",
        ),
        _q(
            "e2e_s", "s", "lower", "request",
            "end to end: from the due time (open loop) or the send (closed loop) to the last token",
            "e2e", "latency", "end to end", "e2el",
        ),
        _q(
            "e2e_service_s", "s", "lower", "request",
            "end to end from the moment the request was handed to a ready connection",
            "e2e service", "service e2e", "service latency",
        ),
        _q(
            "schedule_lag_s", "s", "lower", "request",
            "how late the client handed the request over: send - due (open loop only)",
            "schedule lag", "lag",
        ),
        _q(
            "connect_s", "s", "lower", "request",
            "time to make the TCP connection, where one was made; never part of a service latency",
            "connect", "connection time",
        ),
        _q(
            "tls_s", "s", "lower", "request",
            "time of the TLS handshake, where one was made; never part of a service latency",
            "tls", "tls time", "tls handshake",
        ),
        _q(
            "rtt_s", "s", "lower", "request",
            "least round trip of the network that the system saw on the request's connection",
            "rtt", "round trip", "round-trip time",
        ),
        _q(
            "output_tok_per_s", "tok/s", "higher", "run",
            "output tokens that arrived inside the steady window, over its length (the drain is outside)",
            "output throughput", "throughput", "output tok per s", "tok/s", "output tokens per second",
        ),
        _q(
            "total_tok_per_s", "tok/s", "higher", "run",
            "output tokens inside the steady window plus prompt tokens of first tokens inside it, over its"
            " length",
            "total throughput", "total tok per s",
        ),
        _q(
            "request_per_s", "req/s", "higher", "run",
            "requests completed inside the steady window, over its length",
            "request throughput", "request rate", "requests per second", "req/s",
        ),
        _q(
            "goodput_req_per_s", "req/s", "higher", "run",
            "completed requests that meet every per-request limit of the test's SLOs, over the window",
            "goodput",
        ),
        _q(
            "goodput_ratio", "ratio", "higher", "run",
            "share of issued requests that meet every per-request limit of the test's SLOs",
            "goodput ratio", "attainment", "slo attainment",
        ),
        _q(
            "error_ratio", "ratio", "lower", "run",
            "failed requests over completed and failed ones",
            "error rate", "errors", "error ratio", "failure rate",
        ),
        _q(
            "makespan_output_tok_per_s", "tok/s", "higher", "run",
            "all output tokens over the time from the first send to the last token, drain included",
            "makespan throughput",
        ),
        _q(
            "makespan_request_per_s", "req/s", "higher", "run",
            "all completed requests over the time from the first send to the last token, drain included",
            "makespan request rate",
        ),
        _q(
            "capacity_req_per_s", "req/s", "higher", "run",
            "highest rate of a stress run at which every SLO held; 0 when the lowest broke one",
            "capacity", "breaking point",
        ),
        _q(
            "ttft_drift_ratio", "change", "lower", "run",
            "relative change of the median TTFT from the beginning to the end of the run, by a straight line",
            "ttft drift",
        ),
        _q(
            "tpot_drift_ratio", "change", "lower", "run",
            "the same of the median TPOT",
            "tpot drift",
        ),
        _q(
            "server_memory_drift_ratio", "change", "lower", "run",
            "the same of the resident memory of the server's processes",
            "server memory drift", "memory drift", "memory growth", "server memory growth",
        ),
        _q(
            "boot_first_token_s", "s", "lower", "run",
            "from the start of the server's process to its first token: a probe may be green before",
            "first token of the boot", "boot first token",
        ),
        _q(
            "ready_s", "s", "lower", "run",
            "from the start of the server's process to its ready probe",
            "ready", "boot time",
        ),
        # what the server says of its requests: means, from its counters before and after the load
        _beside(
            "queue_s", "s", "lower",
            "from the arrival of a request in the server to its first step: the mean",
            "queue", "queue time", "server queue time", statistics=SERVER_QUANTILES,
        ),
        _beside(
            "prefill_s", "s", "lower", "time that the server took for a request's prompt: the mean",
            "prefill", "prefill time", statistics=SERVER_QUANTILES,
        ),
        _beside(
            "decode_s", "s", "lower",
            "from a request's first token to its last one inside the server: the mean",
            "decode", "decode time", statistics=SERVER_QUANTILES,
        ),
        _beside(
            "server_ttft_s", "s", "lower", "time to first token as the server measures it: the mean",
            "server ttft", "server time to first token", statistics=SERVER_QUANTILES,
        ),
        _beside(
            "server_e2e_s", "s", "lower", "a request's time in the server as it measures it: the mean",
            "server e2e", "server latency", statistics=SERVER_QUANTILES,
        ),
        _beside(
            "prefix_hit_ratio", "ratio", "higher",
            "share of the prompt tokens (blocks, where an engine counts these) found in the prefix cache",
            "prefix hits", "prefix hit rate", "prefix cache hit rate", "cache hit rate",
        ),
        _beside(
            "preemptions", "count", "lower", "how many times the server put a running request back",
            "preemption", "retractions",
        ),
        _beside(
            "spec_accepted_ratio", "ratio", "higher", "share of the drafted tokens that were accepted",
            "acceptance rate", "acceptance", "spec accepted",
        ),
        _beside(
            "spec_tokens_per_draft", "tok", "higher",
            "tokens that a verification of drafted ones yields, its own included: the mean",
            "acceptance length", "accepted length",
        ),
        # its state, looked at once a second
        _beside(
            "requests_running", "count", "none", "requests that the server worked on: the mean",
            "running", "running requests", statistics=("max",),
        ),
        _beside(
            "requests_waiting", "count", "lower", "requests that waited in the server: the mean",
            "waiting", "waiting requests", "queue length", statistics=("max",),
        ),
        _beside(
            "kv_cache_use_ratio", "ratio", "none",
            "share of the KV cache in use, of the fullest engine: the mean",
            "kv cache use", "kv cache usage", "kv use", statistics=("max",),
        ),
        # the GPUs that the server uses
        _beside(
            "gpu_use_ratio", "ratio", "none", "share of the time in which anything ran on a GPU: the mean",
            "gpu use", "gpu utilization", "gpu utilisation",
        ),
        _beside(
            "peak_vram_bytes", "bytes", "lower",
            "memory in use on the server's GPUs together, the most that was seen",
            "peak vram", "vram", "gpu memory",
        ),
        _beside(
            "gpu_power_w", "W", "none", "electrical power of the server's GPUs together: the mean",
            "gpu power", "power",
        ),
        _beside(
            "energy_j", "J", "lower",
            "electrical energy that the server's GPUs took for the load, its drain included",
            "energy", "gpu energy",
        ),
        _beside(
            "energy_j_per_output_tok", "J/tok", "lower", "the same over the output tokens of the load",
            "energy per token", "energy per output token", "joules per token",
        ),
        _beside(
            "gpu_clock_hz", "Hz", "none", "clock of the GPUs' multiprocessors: the mean",
            "gpu clock", "sm clock",
        ),
        _beside(
            "gpu_memory_clock_hz", "Hz", "none", "clock of the GPUs' memory: the mean",
            "gpu memory clock", "memory clock",
        ),
        # the machine
        _beside(
            "server_cpu_cores", "cores", "lower",
            "CPU time of the server's processes over the time: the mean number of busy cores",
            "server cpu",
        ),
        _beside(
            "server_memory_bytes", "bytes", "lower",
            "resident memory of the server's processes, the most that was seen",
            "server memory", "peak server memory",
        ),
        _beside(
            "host_cpu_use_ratio", "ratio", "none",
            "share of this machine's cores that were busy, with whatever: the mean",
            "host cpu", "host cpu use",
        ),
        _beside(
            "foreign_cpu_cores", "cores", "lower",
            "cores that were busy with neither the server nor this test run: the mean",
            "foreign cpu", "foreign load",
        ),
        _beside(
            "host_steal_ratio", "ratio", "lower",
            "share of the cores' time that the hypervisor gave to other machines: the mean",
            "host steal", "steal", "steal time",
        ),
        _beside(
            "host_free_memory_bytes", "bytes", "higher",
            "memory of this machine that was available, the least that was seen",
            "host free memory", "free memory",
        ),
        *(
            _q(
                f"{short}_beyond_ratio", "ratio", "lower", "run",
                f"share of requests whose {short}_s lies beyond the reference's P99 (the quantile that is"
                " gated); it exists in comparisons only",
                f"{short} beyond",
            )
            for short in ("ttft", "tpot", "icl", "e2e")
        ),
    )
}  # fmt: skip
