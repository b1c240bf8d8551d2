"""LMDeploy's `api_server`, from its own environment.

Source: lmdeploy 0.18.0, lmdeploy/cli/serve.py of its wheel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_inferforge.engines import launching, models, openai_routes
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
COMPILING: str | None = r"CUDA graph|capture|tuning|Compiling"
LIMITS: tuple[str, ...] = (
    "prompts cannot be sent as token ids: a list of numbers is taken for as many prompts",
    "its version is not told by the server",
)

KIND = Kind(
    package="lmdeploy",
    ways=(Way(script="lmdeploy", arguments=("serve", "api_server")),),
    image=Way(arguments=("lmdeploy", "serve", "api_server")),
    install="pip install lmdeploy in an environment of its own",
    boot_s=1200.0,
)
_KV_CACHE_DTYPES = ("none", "int4", "int8", "fp8", "fp8_e5m2", "turbo_quant")
_SPECULATIVE = {"eagle": "eagle3", "mtp": "deepseek_mtp"}


def _speculative(written: Written, value: Speculative) -> None:
    written.argv += ["--speculative-algorithm", _SPECULATIVE[value.method]]
    if value.model is not None:
        written.argv += ["--speculative-draft-model", value.model]
    written.argv += ["--speculative-num-draft-tokens", str(value.tokens)]


TABLE: Table = {
    "dtype": (word(), flag("--dtype")),
    "max_model_len": (whole(), flag("--session-len")),
    "memory_fraction": (share(), flag("--cache-max-entry-count")),
    "max_num_seqs": (whole(), flag("--max-batch-size")),
    "max_num_batched_tokens": (whole(), flag("--max-prefill-token-num")),
    "prefix_caching": (yes_no(), switch("--enable-prefix-caching")),
    "kv_cache_dtype": (one_of(_KV_CACHE_DTYPES, {"auto": "none"}), flag("--quant-policy")),
    "block_size": (whole(), flag("--cache-block-seq-len")),
    "quantization": (word(), flag("--model-format")),
    "speculative": (speculative(*_SPECULATIVE), _speculative),
    "tensor_parallel": (whole(), flag("--tp")),
    "data_parallel": (whole(), flag("--dp")),
    "expert_parallel": (whole(), flag("--ep")),
    "eager": (yes_no(), switch("--eager-mode")),
    "runtime": (one_of(("turbomind", "pytorch")), flag("--backend")),
}
SETTINGS: tuple[str, ...] = tuple(TABLE)

facts = openai_routes.facts


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
    argv = [*written.argv, "--server-name", host, "--server-port", str(port)]
    return Own(argv=argv, env=models.without_hub(spec, written.env))


def launch(spec: Spec, port: int, run_dir: Path) -> Launch:
    """See `protocol.Engine`."""
    return launching.launch(spec, KIND, port, run_dir, arguments, model=models.told(spec))


def ready(client: httpx.Client) -> str | None:
    """See `protocol.Engine`. It answers 503 while it is neither healthy nor asleep."""
    status = client.get("/health").status_code
    return None if status == 200 else f"GET /health -> {status}"


def dialect(spec: Spec, client: httpx.Client) -> str:
    """See `protocol.Engine`."""
    return "lmdeploy"


def version(client: httpx.Client) -> str | None:
    """See `protocol.Engine`."""
    return None


def reset_cache(client: httpx.Client) -> bool:
    """See `protocol.Engine`."""
    return False
