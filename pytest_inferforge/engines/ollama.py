"""Ollama, by its binary. A model is named in each request, and loaded by the first.

Source: ollama v0.33.0-rc2, envconfig/config.go, server/routes.go; read, never run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_inferforge.engines import launching
from pytest_inferforge.engines.installation import Found, Way
from pytest_inferforge.engines.launching import Kind, Own
from pytest_inferforge.engines.settings import Table, one_of, variable, whole, write, yes_no
from pytest_inferforge.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

    from pytest_inferforge.engines.protocol import Launch, Profiler, Spec

STARTS_PROCESS = True
PROFILER: Profiler | None = None
COMPILING: str | None = None
LIMITS: tuple[str, ...] = (
    "the length of an answer can be bounded, not made exact",
    "a prompt longer than its context is cut without a word: set max_model_len",
    "it publishes no metrics",
)

KIND = Kind(
    package=None,
    ways=(Way(script="ollama", arguments=("serve",)),),
    image=Way(arguments=("serve",)),
    install="install ollama",
    boot_s=360.0,  # its own limit for loading a model is 5 min
    revision_flag=None,
    store=("~/.ollama/models", "/models", "OLLAMA_MODELS"),
)
TABLE: Table = {
    "max_model_len": (whole(), variable("OLLAMA_CONTEXT_LENGTH")),
    "max_num_seqs": (whole(), variable("OLLAMA_NUM_PARALLEL")),
    "kv_cache_dtype": (one_of(("f16", "q8_0", "q4_0")), variable("OLLAMA_KV_CACHE_TYPE")),
    "flash_attention": (yes_no(), variable("OLLAMA_FLASH_ATTENTION")),
}
SETTINGS: tuple[str, ...] = tuple(TABLE)


def check(spec: Spec) -> None:
    """See `protocol.Engine`."""
    launching.check(spec, KIND)
    if not spec.model:
        raise UsageError(
            "ollama needs a model",
            seen="none was named",
            do="write --infer-model=NAME, as `ollama list` says it",
        )
    if not spec.command:
        write(spec, TABLE)


def arguments(
    spec: Spec,
    host: str,
    port: int,
    run_dir: Path,
    found: Found | None,
) -> Own:
    """What is added to the program: nothing; all is said by its environment."""
    always = {"OLLAMA_HOST": f"{host}:{port}", "OLLAMA_KEEP_ALIVE": "-1"}  # else it unloads the model
    return Own(argv=(), env={**always, **write(spec, TABLE).env})


def launch(spec: Spec, port: int, run_dir: Path) -> Launch:
    """See `protocol.Engine`."""
    return launching.launch(spec, KIND, port, run_dir, arguments, model=None, served=spec.model)


def ready(client: httpx.Client) -> str | None:
    """See `protocol.Engine`. It answers before it has loaded anything: the first token waits for that."""
    status = client.get("/api/version").status_code
    return None if status == 200 else f"GET /api/version -> {status}"


def dialect(spec: Spec, client: httpx.Client) -> str:
    """See `protocol.Engine`."""
    return "ollama"


def version(client: httpx.Client) -> str | None:
    """See `protocol.Engine`."""
    return str(client.get("/api/version").raise_for_status().json()["version"])


def facts(client: httpx.Client) -> dict[str, str]:
    """See `protocol.Engine`. What is loaded, where it says so."""
    loaded = client.get("/api/ps").raise_for_status().json().get("models") or [{}]
    details = loaded[0].get("details") or {}
    known = {"model_ftype": details.get("quantization_level"), "digest": loaded[0].get("digest")}
    return {name: str(value) for name, value in known.items() if value}


def reset_cache(client: httpx.Client) -> bool:
    """See `protocol.Engine`."""
    return False
