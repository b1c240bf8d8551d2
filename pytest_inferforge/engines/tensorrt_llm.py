"""TensorRT-LLM's `trtllm-serve`, from its own environment.

Source: tensorrt_llm/commands/serve.py and llmapi/llm_args.py (TorchLlmArgs) of the 1.2 line and later; read,
never run.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pytest_inferforge.engines import launching, models, openai_routes
from pytest_inferforge.engines.installation import Found, Way, version_of
from pytest_inferforge.engines.launching import Kind, Own
from pytest_inferforge.engines.settings import (
    Speculative,
    Table,
    Written,
    flag,
    key,
    share,
    speculative,
    switch,
    whole,
    word,
    write,
    yes_no,
)

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

    from pytest_inferforge.engines.protocol import Launch, Profiler, Spec

STARTS_PROCESS = True
PROFILER: Profiler | None = None
COMPILING: str | None = r"CUDA graph|Compiling|autotun"
LIMITS: tuple[str, ...] = (
    "quantization is a property of its checkpoint, and its cache is bounded by a share of free memory only",
    "a field that it does not know is refused with 400",
)

KIND = Kind(
    package="tensorrt_llm",
    ways=(Way(script="trtllm-serve"), Way(module="tensorrt_llm.commands.serve")),
    image=Way(arguments=("trtllm-serve",)),
    install="install TensorRT-LLM in an environment of its own",
    boot_s=1200.0,
    grace_s=30.0,  # its own tests give it 30 s
)
_NAMED_CONFIG = (1, 2)  # before: --extra_llm_api_options, for the same file


def _speculative(written: Written, value: Speculative) -> None:
    decoding: dict[str, object] = {"max_draft_len": value.tokens}
    if value.method == "ngram":
        decoding |= {"decoding_type": "NGram", "max_matching_ngram_size": 4}
    elif value.method == "mtp":
        decoding = {"decoding_type": "MTP", "num_nextn_predict_layers": value.tokens}
    else:
        kind = "Eagle3" if value.method == "eagle" else "Draft_Target"
        decoding |= {"decoding_type": kind, "speculative_model": value.model}
    written.config["speculative_config"] = decoding


def _eager(written: Written, value: bool) -> None:
    if value:
        written.config["cuda_graph_config"] = None


TABLE: Table = {
    "dtype": (word(), key("dtype")),
    "max_model_len": (whole(), flag("--max_seq_len")),
    "memory_fraction": (share(), key("kv_cache_config.free_gpu_memory_fraction")),
    "max_num_seqs": (whole(), flag("--max_batch_size")),
    "max_num_batched_tokens": (whole(), flag("--max_num_tokens")),
    "chunked_prefill": (yes_no(), switch("--enable_chunked_prefill")),
    "prefix_caching": (yes_no(), key("kv_cache_config.enable_block_reuse")),
    "kv_cache_dtype": (word(), key("kv_cache_config.dtype")),
    "block_size": (whole(), key("kv_cache_config.tokens_per_block")),
    "speculative": (speculative("ngram", "draft", "eagle", "mtp"), _speculative),
    "tensor_parallel": (whole(), flag("--tp_size")),
    "pipeline_parallel": (whole(), flag("--pp_size")),
    "expert_parallel": (whole(), flag("--ep_size")),
    "eager": (yes_no(), _eager),
}
SETTINGS: tuple[str, ...] = tuple(TABLE)


def check(spec: Spec) -> None:
    """See `protocol.Engine`."""
    launching.check(spec, KIND)
    if not spec.command:
        models.check(spec)
        write(spec, TABLE)


def arguments(spec: Spec, host: str, port: int, run_dir: Path, found: Found | None) -> Own:
    """What is added to the program; the model is not among it. Most of it stands in a file."""
    written = write(spec, TABLE)
    config = {"return_perf_metrics": True, **written.config}
    path = run_dir.resolve() / f"tensorrt-llm-{port}.yaml"
    path.write_text(json.dumps(config, indent=1), encoding="utf-8")  # JSON is YAML
    version = version_of(found.version) if found else None
    name = "--extra_llm_api_options" if version is not None and version < _NAMED_CONFIG else "--config"
    argv = [*written.argv, "--host", host, "--port", str(port), "--backend", "pytorch", name, str(path)]
    return Own(argv=argv, env=models.without_hub(spec, {}))


def launch(spec: Spec, port: int, run_dir: Path) -> Launch:
    """See `protocol.Engine`."""
    return launching.launch(spec, KIND, port, run_dir, arguments, model=models.told(spec))


def ready(client: httpx.Client) -> str | None:
    """See `protocol.Engine`. It listens when the model is there."""
    status = client.get("/health").status_code
    return None if status == 200 else f"GET /health -> {status}"


def dialect(spec: Spec, client: httpx.Client) -> str:
    """See `protocol.Engine`."""
    return "tensorrt-llm"


version = openai_routes.version


def facts(client: httpx.Client) -> dict[str, str]:
    """See `protocol.Engine`. Newer ones say their settings at /server_info, older ones nothing."""
    answer = client.get("/server_info")
    if not answer.is_success:
        return {}
    said = answer.json()
    return {name: str(value) for name, value in said.items() if isinstance(value, str | int | float)}


def reset_cache(client: httpx.Client) -> bool:
    """See `protocol.Engine`."""
    return False
