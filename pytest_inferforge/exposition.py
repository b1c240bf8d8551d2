"""Where each server's Prometheus exposition holds what telemetry reads: facts, no code.

Engines choose an exposition by the name of their dialect. What an engine does not publish is None here, and
absent from the results. Times are in seconds, the use of the KV cache is from 0 to 1.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """The samples of one name that have all of these labels."""

    name: str
    labels: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposition:
    """One engine's names: counters and gauges as they are exposed, histograms without `_bucket` and the like.

    Series of one name are summed over their labels, except the use of the KV cache, of which the fullest
    counts. `rank_labels` tell processes that say the same of the same requests apart: of each such group only
    the lowest rank counts. `total_labels`: where one of them is empty, that series is the sum of the others.
    """

    name: str
    path: str = "/metrics"
    rank_labels: tuple[str, ...] = ()
    total_labels: tuple[str, ...] = ()

    # histograms, one observation a request
    queue: Series | None = None
    prefill: Series | None = None
    decode: Series | None = None
    ttft: Series | None = None
    e2e: Series | None = None

    # counters: seconds of all requests together, where there is no histogram
    prefill_seconds: Series | None = None
    decode_seconds: Series | None = None

    # gauges
    running: Series | None = None
    waiting: Series | None = None
    kv_cache_use: Series | None = None

    # counters
    prefix_hits: Series | None = None
    """Found in the prefix cache, in the same unit (tokens, blocks) as one of the next two."""
    prefix_queries: Series | None = None
    """Looked for, found or not."""
    prefix_misses: Series | None = None
    """Looked for and not found; where an engine counts these instead."""
    generation_tokens: Series | None = None
    preemptions: Series | None = None
    drafts: Series | None = None
    """How many times drafted tokens were verified."""
    draft_tokens: Series | None = None
    accepted_tokens: Series | None = None


EXPOSITIONS: dict[str, Exposition] = {
    # Source: vLLM 0.32.0, vllm/v1/metrics; label `engine` per data-parallel engine. The lowest bucket of all
    # histograms but TTFT ends at 0.3 s, so that quantiles of a fast server cannot be told;
    # `vllm:iteration_tokens_total` is a histogram despite its name.
    "vllm": Exposition(
        name="vllm",
        queue=Series(name="vllm:request_queue_time_seconds"),
        prefill=Series(name="vllm:request_prefill_time_seconds"),
        decode=Series(name="vllm:request_decode_time_seconds"),
        ttft=Series(name="vllm:time_to_first_token_seconds"),
        e2e=Series(name="vllm:e2e_request_latency_seconds"),
        running=Series(name="vllm:num_requests_running"),
        waiting=Series(name="vllm:num_requests_waiting"),
        kv_cache_use=Series(name="vllm:kv_cache_usage_perc"),  # 1 is 100 %
        prefix_hits=Series(name="vllm:prefix_cache_hits_total"),
        prefix_queries=Series(name="vllm:prefix_cache_queries_total"),
        generation_tokens=Series(name="vllm:generation_tokens_total"),
        preemptions=Series(name="vllm:num_preemptions_total"),
        drafts=Series(name="vllm:spec_decode_num_drafts_total"),
        draft_tokens=Series(name="vllm:spec_decode_num_draft_tokens_total"),
        accepted_tokens=Series(name="vllm:spec_decode_num_accepted_tokens_total"),
    ),
    # Source: SGLang 0.5.23, sglang/srt/observability/metrics_collector.py; only with --enable-metrics. With
    # --enable-metrics-for-all-schedulers each rank repeats the others' requests; with priority scheduling the
    # empty priority is the total. Gauges are refreshed every --decode-log-interval decode steps (40): samples
    # of them lag, unless that is 1. Prompt and cached tokens are counted when a request ends, the former with
    # the latter in it. The share of drafted tokens that was accepted is a gauge (`sglang:spec_accept_rate`)
    # without a counter, and 0 also where nothing is drafted: it is not read.
    "sglang": Exposition(
        name="sglang",
        rank_labels=("tp_rank", "pp_rank", "moe_ep_rank"),
        total_labels=("priority",),
        queue=Series(name="sglang:queue_time_seconds"),
        prefill=Series(name="sglang:per_stage_req_latency_seconds", labels=(("stage", "prefill_forward"),)),
        ttft=Series(name="sglang:time_to_first_token_seconds"),
        e2e=Series(name="sglang:e2e_request_latency_seconds"),
        running=Series(name="sglang:num_running_reqs"),
        waiting=Series(name="sglang:num_queue_reqs"),
        kv_cache_use=Series(name="sglang:token_usage"),
        prefix_hits=Series(name="sglang:cached_tokens_total"),
        prefix_queries=Series(name="sglang:prompt_tokens_total"),
        generation_tokens=Series(name="sglang:generation_tokens_total"),
        preemptions=Series(name="sglang:num_retracted_requests_total"),
        drafts=Series(name="sglang:spec_verify_calls_total"),
    ),
    # Source: TensorRT-LLM main at 050f80de, tensorrt_llm/metrics/collector.py; only with
    # `return_perf_metrics: true`, gauges and blocks only with `enable_iter_perf_stats: true`; releases of the
    # 1.1 line publish five of these. `/metrics` is something else: JSON that is gone when it was read. The
    # lowest bucket of queue, decode and e2e ends at 0.3 s. The prefix cache is counted in blocks.
    "tensorrt-llm": Exposition(
        name="tensorrt-llm",
        path="/prometheus/metrics",
        queue=Series(name="trtllm_request_queue_time_seconds"),
        prefill=Series(name="trtllm_request_prefill_time_seconds"),
        decode=Series(name="trtllm_request_decode_time_seconds"),
        ttft=Series(name="trtllm_time_to_first_token_seconds"),
        e2e=Series(name="trtllm_e2e_request_latency_seconds"),
        running=Series(name="trtllm_num_requests_running"),
        waiting=Series(name="trtllm_num_requests_waiting"),
        kv_cache_use=Series(name="trtllm_kv_cache_utilization"),
        prefix_hits=Series(name="trtllm_kv_cache_reused_blocks_total"),
        prefix_misses=Series(name="trtllm_kv_cache_missed_blocks_total"),
        generation_tokens=Series(name="trtllm_generation_tokens_total"),
        draft_tokens=Series(name="trtllm_spec_decode_num_draft_tokens_total"),
        accepted_tokens=Series(name="trtllm_spec_decode_num_accepted_tokens_total"),
    ),
    # Source: llama.cpp tools/server at 0c1e57098; only with --metrics. No histogram, no use of the KV cache.
    # Its throughput gauges are means since the last scrape, which resets them: they are not read, and another
    # scraper of the same server is disturbed by ours. `prompt_tokens_total` leaves out cached tokens.
    "llama.cpp": Exposition(
        name="llama.cpp",
        prefill_seconds=Series(name="llamacpp:prompt_seconds_total"),
        decode_seconds=Series(name="llamacpp:tokens_predicted_seconds_total"),
        running=Series(name="llamacpp:requests_processing"),
        waiting=Series(name="llamacpp:requests_deferred"),
        prefix_hits=Series(name="llamacpp:prompt_tokens_cached_total"),
        prefix_misses=Series(name="llamacpp:prompt_tokens_total"),
        generation_tokens=Series(name="llamacpp:tokens_predicted_total"),
        drafts=Series(name="llamacpp:spec_decode_num_drafts_total"),
        draft_tokens=Series(name="llamacpp:spec_decode_num_draft_tokens_total"),
        accepted_tokens=Series(name="llamacpp:spec_decode_num_accepted_tokens_total"),
    ),
    # Source: TGI v3.3.7, router/src/server.rs; in seconds though the names do not say so. No time to first
    # token; `tgi_batch_forward_duration` is of a batch, not of a request.
    "tgi": Exposition(
        name="tgi",
        queue=Series(name="tgi_request_queue_duration"),
        e2e=Series(name="tgi_request_duration"),
        running=Series(name="tgi_batch_current_size"),
        waiting=Series(name="tgi_queue_size"),
        generation_tokens=Series(name="tgi_request_generated_tokens_sum"),  # of a histogram of counts
    ),
    # Source: LMDeploy 0.18.0, lmdeploy/metrics/loggers.py; label `engine` per data-parallel engine. The
    # lowest bucket of all histograms but TTFT ends at 0.3 s. Prompt tokens are counted whole, with cached.
    "lmdeploy": Exposition(
        name="lmdeploy",
        queue=Series(name="lmdeploy:request_queue_time_seconds"),
        prefill=Series(name="lmdeploy:request_prefill_time_seconds"),
        decode=Series(name="lmdeploy:request_decode_time_seconds"),
        ttft=Series(name="lmdeploy:time_to_first_token_seconds"),
        e2e=Series(name="lmdeploy:e2e_request_latency_seconds"),
        running=Series(name="lmdeploy:num_requests_running"),
        waiting=Series(name="lmdeploy:num_requests_waiting"),
        kv_cache_use=Series(name="lmdeploy:gpu_cache_usage_perc"),
        prefix_hits=Series(name="lmdeploy:cached_tokens_total"),
        prefix_queries=Series(name="lmdeploy:prompt_tokens_total"),
        generation_tokens=Series(name="lmdeploy:generation_tokens_total"),
        drafts=Series(name="lmdeploy:spec_decode_num_drafts_total"),
        draft_tokens=Series(name="lmdeploy:spec_decode_num_draft_tokens_total"),
        accepted_tokens=Series(name="lmdeploy:spec_decode_num_accepted_tokens_total"),
    ),
}
