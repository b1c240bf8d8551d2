"""llama.cpp's own `llama-server`: a binary on PATH, or its image.

Source: llama.cpp at 0c1e57098, common/arg.cpp and tools/server.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pytest_inferforge.engines import launching, llamacpp, models
from pytest_inferforge.engines.files import remembered_sha256
from pytest_inferforge.engines.installation import Found, Way
from pytest_inferforge.engines.launching import Kind, Own
from pytest_inferforge.engines.settings import (
    Speculative,
    Table,
    Written,
    flag,
    one_of,
    only,
    speculative,
    switch,
    value_of,
    whole,
    word,
    write,
    yes_no,
)
from pytest_inferforge.errors import UsageError

if TYPE_CHECKING:
    import httpx

    from pytest_inferforge.engines.protocol import Launch, Profiler, Spec

STARTS_PROCESS = True
PROFILER: Profiler | None = None
COMPILING: str | None = None
LIMITS: tuple[str, ...] = ("it does not echo the prompt's logprobs, nor does it know min_tokens",)

KIND = Kind(
    package=None,
    ways=(Way(script="llama-server", model_flag="--model"),),
    image=Way(model_flag="--model"),
    install="build llama.cpp's tools/server, or install a package of it",
    boot_s=600.0,
    key_variable="LLAMA_API_KEY",
)
_SLOTS = 4
_SPECULATIVE = {"ngram": "ngram-simple", "draft": "draft-simple", "eagle": "draft-eagle3", "mtp": "draft-mtp"}


def _speculative(written: Written, value: Speculative) -> None:
    written.argv += ["--spec-type", _SPECULATIVE[value.method]]
    if value.model is not None:
        written.argv += ["--model-draft", value.model]
    if value.method != "ngram":
        written.argv += ["--spec-draft-n-max", str(value.tokens)]


def _pool(written: Written, value: int) -> None:
    """Set apart, because the pool is of all slots together."""


def _both(written: Written, value: str) -> None:
    written.argv += ["--cache-type-k", value, "--cache-type-v", value]


def _batched(written: Written, value: int) -> None:
    written.argv += ["--batch-size", str(value), "--ubatch-size", str(value)]


TABLE: Table = {
    "max_model_len": (whole(), _pool),
    "max_num_seqs": (whole(), flag("--parallel")),
    "max_num_batched_tokens": (whole(), _batched),
    "chunked_prefill": (yes_no(), only(True, "llama.cpp always splits a prompt: set max_num_batched_tokens")),
    "prefix_caching": (yes_no(), switch("--cache-prompt", "--no-cache-prompt")),
    "kv_cache_dtype": (one_of(llamacpp.KV_CACHE_DTYPES), _both),
    "speculative": (speculative(*_SPECULATIVE), _speculative),
    "seed": (whole(low=0, high=2**32 - 2), flag("--seed")),
    "threads": (whole(), flag("--threads")),
    "gpu_layers": (word(), flag("--n-gpu-layers")),
}
SETTINGS: tuple[str, ...] = tuple(TABLE)

ready = llamacpp.ready
dialect = llamacpp.dialect
facts = llamacpp.facts
reset_cache = llamacpp.reset_cache


def check(spec: Spec) -> None:
    """See `protocol.Engine`."""
    launching.check(spec, KIND)
    if spec.command:
        return
    if not spec.model or not Path(spec.model).expanduser().is_file():
        raise UsageError(
            "llama-server runs models that are GGUF files here",
            seen=f"{spec.model}: no such file",
            do="write --infer-model=FILE.gguf",
        )
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
    given = dict(spec.settings)
    slots = value_of(spec, "max_num_seqs", whole(), _SLOTS)
    argv = [*written.argv, "--host", host, "--port", str(port), "--metrics", "--no-webui", "--offline"]
    if "max_num_seqs" not in given:
        argv += ["--parallel", str(slots)]
    if "max_model_len" in given:  # else what the model was made for, of which each slot gets its share
        argv += ["--ctx-size", str(slots * value_of(spec, "max_model_len", whole(), 0))]
    if "prefix_caching" not in given:
        argv.append("--no-cache-prompt")
    folder = run_dir.resolve() / "slots"
    folder.mkdir(parents=True, exist_ok=True)
    argv += ["--cache-ram", "0", "--slot-save-path", f"{folder}/"]  # without the path no slot can be erased
    argv += ["--threads-http", str(llamacpp.http_threads(slots))]
    return Own(argv=argv, env={})


def launch(spec: Spec, port: int, run_dir: Path) -> Launch:
    """See `protocol.Engine`."""
    made = launching.launch(spec, KIND, port, run_dir, arguments, model=models.told(spec))
    if spec.command or not spec.model:
        return made
    return launching.with_facts(made, model_sha256=remembered_sha256(Path(spec.model).expanduser()))


def version(client: httpx.Client) -> str | None:
    """See `protocol.Engine`."""
    said = client.get("/props").raise_for_status().json().get("build_info")
    return None if said is None else str(said)
