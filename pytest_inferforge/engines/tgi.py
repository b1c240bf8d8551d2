"""Text Generation Inference, by its launcher. It is in maintenance.

Source: text-generation-inference v3.3.7, launcher/src/main.rs and docs/source/reference/launcher.md; read,
never run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_inferforge.engines import launching, models
from pytest_inferforge.engines.installation import Found, Way
from pytest_inferforge.engines.launching import Kind, Own
from pytest_inferforge.engines.settings import (
    Speculative,
    Table,
    Written,
    flag,
    one_of,
    share,
    speculative,
    variable,
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
COMPILING: str | None = r"Cuda Graphs|Warming up|autotun"
LIMITS: tuple[str, ...] = (
    "the length of an answer can be bounded, not made exact",
    "it refuses more than 128 requests at once with 429, unless max_concurrent_requests says otherwise",
    "it publishes no time to first token",
)

KIND = Kind(
    package=None,
    ways=(Way(script="text-generation-launcher", model_flag="--model-id"),),
    image=Way(model_flag="--model-id"),
    install="install text-generation-inference",
    boot_s=600.0,
    grace_s=95.0,  # it gives its router 90 s
    key_variable="API_KEY",
    store=("~/.cache/huggingface", "/data", None),  # HF_HOME of its image
)


def _speculative(written: Written, value: Speculative) -> None:
    written.argv += ["--speculate", str(value.tokens)]


def _eager(written: Written, value: bool) -> None:
    if value:
        written.argv += ["--cuda-graphs", "0"]


TABLE: Table = {
    "dtype": (one_of(("float16", "bfloat16")), flag("--dtype")),
    "max_model_len": (whole(), flag("--max-total-tokens")),
    "memory_fraction": (share(), flag("--cuda-memory-fraction")),
    "max_num_seqs": (whole(), flag("--max-batch-size")),
    "max_num_batched_tokens": (whole(), flag("--max-batch-prefill-tokens")),
    "chunked_prefill": (yes_no(), variable("PREFILL_CHUNKING")),
    "prefix_caching": (yes_no(), variable("PREFIX_CACHING")),
    "kv_cache_dtype": (one_of(("fp8_e4m3fn", "fp8_e5m2"), {"fp8": "fp8_e4m3fn"}), flag("--kv-cache-dtype")),
    "quantization": (word(), flag("--quantize")),
    "speculative": (speculative("ngram"), _speculative),
    "tensor_parallel": (whole(), flag("--num-shard")),
    "eager": (yes_no(), _eager),
    "max_concurrent_requests": (whole(), flag("--max-concurrent-requests")),
}
SETTINGS: tuple[str, ...] = tuple(TABLE)


def check(spec: Spec) -> None:
    """See `protocol.Engine`."""
    launching.check(spec, KIND)
    if not spec.command:
        models.check(spec)
        write(spec, TABLE)


def arguments(
    spec: Spec,
    host: str,
    port: int,
    run_dir: Path,
    found: Found | None,
) -> Own:
    """What is added to the program; the model is not among it."""
    written = write(spec, TABLE)
    argv = [*written.argv, "--hostname", host, "--port", str(port), "--usage-stats", "off"]
    return Own(argv=argv, env=models.without_hub(spec, written.env))


def launch(spec: Spec, port: int, run_dir: Path) -> Launch:
    """See `protocol.Engine`."""
    return launching.launch(spec, KIND, port, run_dir, arguments, model=models.told(spec))


def ready(client: httpx.Client) -> str | None:
    """See `protocol.Engine`."""
    status = client.get("/health").status_code
    return None if status == 200 else f"GET /health -> {status}"


def dialect(spec: Spec, client: httpx.Client) -> str:
    """See `protocol.Engine`."""
    return "tgi"


def version(client: httpx.Client) -> str | None:
    """See `protocol.Engine`."""
    said = client.get("/info").raise_for_status().json()
    if (number := said.get("version")) is None:
        return None
    return f"{number} ({said['sha'][:8]})" if said.get("sha") else str(number)


def facts(client: httpx.Client) -> dict[str, str]:
    """See `protocol.Engine`."""
    said = client.get("/info").raise_for_status().json()
    kept = {name: value for name, value in said.items() if name.startswith("max_") or name == "model_sha"}
    return {name: str(value) for name, value in kept.items() if value is not None}


def reset_cache(client: httpx.Client) -> bool:
    """See `protocol.Engine`."""
    return False
