"""`transformers serve`, from an environment of its own.

Source: transformers 5.19.0, src/transformers/cli/serve.py, and its server on a CPU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_inferforge.engines import launching, models
from pytest_inferforge.engines.installation import Found, Way
from pytest_inferforge.engines.launching import Kind, Own
from pytest_inferforge.engines.settings import (
    Table,
    flag,
    one_of,
    share,
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

    from pytest_inferforge.engines.protocol import Launch, Profiler, Spec

STARTS_PROCESS = True
PROFILER: Profiler | None = None
COMPILING: str | None = r"torch\.compile|Compiling"
LIMITS: tuple[str, ...] = (
    "without continuous_batching=true it serves one request after the other",
    "it publishes no metrics, and counts no tokens of a prompt beforehand",
)

KIND = Kind(
    package="transformers",
    ways=(Way(script="transformers", needs="transformers", arguments=("serve",)),),
    image=Way(arguments=("transformers", "serve")),
    install="pip install 'transformers[serving]' in an environment of its own",
    boot_s=300.0,
    revision_flag=None,
)
TABLE: Table = {
    "dtype": (word(), flag("--dtype")),
    "quantization": (one_of(("bnb-4bit", "bnb-8bit")), flag("--quantization")),
    "seed": (whole(low=0), flag("--default-seed")),
    "memory_fraction": (share(), flag("--cb-max-memory-percent")),
    "max_num_batched_tokens": (whole(), flag("--cb-max-batch-tokens")),
    "block_size": (whole(), flag("--cb-block-size")),
    "continuous_batching": (yes_no(), switch("--continuous-batching")),
    "compile": (yes_no(), switch("--compile")),
    "device": (word(), flag("--device")),
    "attn_implementation": (word(), flag("--attn-implementation")),
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
    return Own(
        argv=[*written.argv, "--host", host, "--port", str(port)], env=models.without_hub(spec, written.env)
    )


def launch(spec: Spec, port: int, run_dir: Path) -> Launch:
    """See `protocol.Engine`."""
    return launching.launch(
        spec, KIND, port, run_dir, arguments, model=models.told(spec), served=models.told(spec)
    )


def ready(client: httpx.Client) -> str | None:
    """See `protocol.Engine`. With a model on its command line it listens when that is loaded."""
    answer = client.get("/health")
    if answer.status_code == 503:
        raise EngineError(
            "transformers serve gave up",
            seen=f"GET /health -> 503 {answer.text[:200]}",
            do="read its log below",
        )
    return None if answer.is_success else f"GET /health -> {answer.status_code}"


def dialect(spec: Spec, client: httpx.Client) -> str:
    """See `protocol.Engine`."""
    return "transformers"


def version(client: httpx.Client) -> str | None:
    """See `protocol.Engine`."""
    return None


def facts(client: httpx.Client) -> dict[str, str]:
    """See `protocol.Engine`."""
    return {}


def reset_cache(client: httpx.Client) -> bool:
    """See `protocol.Engine`."""
    return True
