"""SGLang, from its own environment.

Source: sglang 0.5.23, srt/server_args.py and srt/entrypoints/http_server.py of its wheel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_inferforge.engines import launching, models
from pytest_inferforge.engines.installation import Found, Way, version_of
from pytest_inferforge.engines.launching import Kind, Own
from pytest_inferforge.engines.protocol import Launch, Profiler
from pytest_inferforge.engines.settings import (
    Put,
    Speculative,
    Table,
    Written,
    flag,
    one_of,
    share,
    speculative,
    switch,
    whole,
    word,
    write,
    yes_no,
)
from pytest_inferforge.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

    from pytest_inferforge.engines.protocol import Spec

STARTS_PROCESS = True
PROFILER: Profiler | None = Profiler(
    start_path="/start_profile", stop_path="/stop_profile", body={"output_dir": "{folder}"}
)
COMPILING: str | None = r"Capture (cuda )?graph|torch\.compile|Compiling|autotun"
LIMITS: tuple[str, ...] = (
    "how many requests run and wait, and how full its cache is, it says every 40 decode steps only",
    'kv_cache_bytes is not among its flags: args=["--max-total-tokens", ...] bounds the cache in tokens',
)

KIND = Kind(
    package="sglang",
    ways=(
        Way(script="sglang", arguments=("serve",), model_flag="--model-path"),
        Way(module="sglang.launch_server", model_flag="--model-path"),
    ),
    # its images have no entry point
    image=Way(arguments=("python3", "-m", "sglang.launch_server"), model_flag="--model-path"),
    install="pip install sglang in an environment of its own",
    boot_s=600.0,
    grace_s=15.0,
)
_SPLIT_GRAPH_FLAGS = (0, 5, 12)  # the two phases have flags of their own; one for both is deprecated there
_KV_CACHE_DTYPES = ("auto", "fp8_e5m2", "fp8_e4m3", "mxfp8", "bf16", "bfloat16", "nvfp4", "fp4_mx_block16")
_SPECULATIVE = {"ngram": "NGRAM", "draft": "STANDALONE", "eagle": "EAGLE3", "mtp": "NEXTN"}
_FACTS = (
    "attention_backend", "kv_cache_dtype", "chunked_prefill_size", "max_total_num_tokens", "page_size",
    "disable_radix_cache", "sampling_backend",
)  # fmt: skip


def _speculative(written: Written, value: Speculative) -> None:
    written.argv += ["--speculative-algorithm", _SPECULATIVE[value.method]]
    if value.model is not None:
        written.argv += ["--speculative-draft-model-path", value.model]
    if value.method != "ngram":  # the others refuse a number of tokens without one of steps
        written.argv += ["--speculative-num-steps", str(value.tokens), "--speculative-eagle-topk", "1"]
    # the first of them is no draft: the target's own token
    written.argv += ["--speculative-num-draft-tokens", str(value.tokens + 1)]


def _eager(version: tuple[int, ...] | None) -> Put:
    def put(written: Written, value: bool) -> None:
        if not value:
            return
        if version is not None and version < _SPLIT_GRAPH_FLAGS:
            written.argv.append("--disable-cuda-graph")
        else:
            written.argv += ["--disable-decode-cuda-graph", "--disable-prefill-cuda-graph"]

    return put


def table(version: tuple[int, ...] | None) -> Table:
    """Its settings; `version` None: unknown, the newest is assumed."""
    return {
        "dtype": (word(), flag("--dtype")),
        "max_model_len": (whole(), flag("--context-length")),
        "memory_fraction": (share(), flag("--mem-fraction-static")),
        "max_num_seqs": (whole(), flag("--max-running-requests")),
        "max_num_batched_tokens": (whole(), flag("--chunked-prefill-size")),
        "chunked_prefill": (yes_no(), _chunked),
        "prefix_caching": (yes_no(), switch(None, "--disable-radix-cache")),
        "kv_cache_dtype": (one_of(_KV_CACHE_DTYPES, {"fp8": "fp8_e4m3"}), flag("--kv-cache-dtype")),
        "block_size": (whole(), flag("--page-size")),
        "quantization": (word(), flag("--quantization")),
        "speculative": (speculative(*_SPECULATIVE), _speculative),
        "tensor_parallel": (whole(), flag("--tp-size")),
        "pipeline_parallel": (whole(), flag("--pp-size")),
        "data_parallel": (whole(), flag("--dp-size")),
        "expert_parallel": (whole(), flag("--ep-size")),
        "eager": (yes_no(), _eager(version)),
        "seed": (whole(low=0), flag("--random-seed")),
    }


def _chunked(written: Written, value: bool) -> None:
    if not value:
        written.argv += ["--chunked-prefill-size", "-1"]


SETTINGS: tuple[str, ...] = tuple(table(None))


def check(spec: Spec) -> None:
    """See `protocol.Engine`."""
    launching.check(spec, KIND)
    if spec.command:
        return
    models.check(spec)
    write(spec, table(None))
    given = dict(spec.settings)
    if given.get("chunked_prefill") is False and "max_num_batched_tokens" in given:
        raise UsageError(
            "sglang has one flag for both, the size of a chunk",
            seen=f"chunked_prefill=False and max_num_batched_tokens={given['max_num_batched_tokens']}",
            do="set one of them",
        )


def arguments(
    spec: Spec,
    host: str,
    port: int,
    run_dir: Path,
    found: Found | None,
) -> Own:
    """What is added to the program; the model is not among it."""
    written = write(spec, table(version_of(found.version) if found else None))
    argv = [*written.argv, "--host", host, "--port", str(port), "--enable-metrics"]
    # Without it a stream that is open holds SIGTERM up for ever.
    return Own(argv=argv, env=models.without_hub(spec, {"SGLANG_FORCE_SHUTDOWN": "1"}))


def launch(spec: Spec, port: int, run_dir: Path) -> Launch:
    """See `protocol.Engine`."""
    return launching.launch(spec, KIND, port, run_dir, arguments, model=models.told(spec))


def ready(client: httpx.Client) -> str | None:
    """See `protocol.Engine`. /health would generate a token, and takes a second."""
    status = client.get("/ready").status_code
    return None if status == 200 else f"GET /ready -> {status}"


def dialect(spec: Spec, client: httpx.Client) -> str:
    """See `protocol.Engine`."""
    return "sglang"


def version(client: httpx.Client) -> str | None:
    """See `protocol.Engine`."""
    said = client.get("/server_info").raise_for_status().json().get("version")
    return None if said is None else str(said)


def facts(client: httpx.Client) -> dict[str, str]:
    """See `protocol.Engine`."""
    said = client.get("/server_info").raise_for_status().json()
    return {name: str(said[name]) for name in _FACTS if said.get(name) is not None}


def reset_cache(client: httpx.Client) -> bool:
    """See `protocol.Engine`."""
    return client.post("/flush_cache").is_success
