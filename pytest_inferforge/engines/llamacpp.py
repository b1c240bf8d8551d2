"""The embedded llama.cpp: the xllamacpp wheel, run by `llamacpp_runner.py` in a process of its own.

Facts were read in llama.cpp's tools/server at 0c1e57098 and watched on xllamacpp 2026.10.11549.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_inferforge.engines import forge_tiny
from pytest_inferforge.engines.files import remembered_sha256
from pytest_inferforge.engines.launching import check_key
from pytest_inferforge.engines.protocol import Launch, Profiler
from pytest_inferforge.engines.settings import (
    Put,
    Speculative,
    Table,
    Written,
    one_of,
    only,
    refuse_unknown,
    speculative,
    value_of,
    whole,
    write,
    yes_no,
)
from pytest_inferforge.errors import EngineError, UsageError
from pytest_inferforge.forge_tiny.shape import NAME

if TYPE_CHECKING:
    import httpx

    from pytest_inferforge.engines.protocol import Spec

STARTS_PROCESS = True
PROFILER: Profiler | None = None
COMPILING: str | None = None
LIMITS: tuple[str, ...] = (
    "the wheel computes on the CPU, for any CPU: a llama-server built for this machine is faster",
    "it does not echo the prompt's logprobs, nor does it know min_tokens",
)

KV_CACHE_DTYPES = ("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl")
_NGRAM = 4  # tokens that have to be found again
_SPECULATIVE = {
    "ngram": "COMMON_SPECULATIVE_TYPE_NGRAM_SIMPLE",
    "draft": "COMMON_SPECULATIVE_TYPE_DRAFT_SIMPLE",
    "eagle": "COMMON_SPECULATIVE_TYPE_DRAFT_EAGLE3",
    "mtp": "COMMON_SPECULATIVE_TYPE_DRAFT_MTP",
}
_RUNNER = Path(__file__).with_name("llamacpp_runner.py")
_INSTALL = "pip install 'pytest-inferforge[llamacpp]'"
# Each connection occupies a thread of the server, also while it is idle (kept 5 s). With the default, ten
# idle connections held up the next request for 4.8 s; with 512, four hundred did not. A sleeping thread costs
# 30 kB.
_HTTP_THREADS = 512
_SLOTS = 4
_TOKENS_PER_SLOT = 4096
_BOOT_S = 60.0  # what llama.cpp's own tests allow a small model
_SLOW_DISK_BYTE_PER_S = 100e6


def _put(*names: str) -> Put:
    """Attributes of `xllamacpp.CommonParams`, by their dotted names."""

    def put(written: Written, value: object) -> None:
        written.config |= dict.fromkeys(names, value)

    return put


def _speculative(written: Written, value: Speculative) -> None:
    written.config["speculative.types"] = [_SPECULATIVE[value.method]]
    if value.method == "ngram":
        written.config |= {
            "speculative.ngram_simple.size_n": _NGRAM,
            "speculative.ngram_simple.size_m": value.tokens,
        }
        return
    if value.model is not None:
        written.config["speculative.draft.mparams.path"] = str(Path(value.model).expanduser().resolve())
    written.config["speculative.draft.n_max"] = value.tokens


def _kv_type(value: object) -> object:
    return f"GGML_TYPE_{one_of(KV_CACHE_DTYPES)(value)}".upper()


TABLE: Table = {
    "max_model_len": (whole(), _put()),  # these two make the pool together
    "max_num_seqs": (whole(), _put()),
    "max_num_batched_tokens": (whole(), _put("n_batch", "n_ubatch")),
    "chunked_prefill": (yes_no(), only(True, "llama.cpp always splits a prompt: set max_num_batched_tokens")),
    "prefix_caching": (yes_no(), _put("cache_prompt")),
    "kv_cache_dtype": (_kv_type, _put("cache_type_k", "cache_type_v")),
    "speculative": (speculative(*_SPECULATIVE), _speculative),
    "seed": (whole(low=0, high=2**32 - 2), _put("sampling.seed")),
    "threads": (whole(), _put("cpuparams.n_threads", "cpuparams_batch.n_threads")),
}
SETTINGS: tuple[str, ...] = tuple(TABLE)


def check(spec: Spec) -> None:
    """See `protocol.Engine`."""
    refuse_unknown(spec, SETTINGS)
    for name in ("python", "command", "image"):
        if (given := getattr(spec, name)) is not None:
            raise UsageError(
                "the embedded llama.cpp is part of this environment",
                seen=f"{name}={given}",
                do="use --infer-backend=llama-server for a llama-server of your own",
            )
    if _is_forge_tiny(spec):
        value_of(spec, "max_model_len", whole(high=forge_tiny.CONTEXT_TOKENS), None)
    elif not Path(str(spec.model)).expanduser().is_file():
        raise UsageError(
            "the embedded llama.cpp runs models that are GGUF files here",
            seen=f"{spec.model}: no such file",
            do=f"give the path of a .gguf file, or {NAME}",
        )
    check_key(spec)
    _parameters(spec, Path(), 0, Path())


def launch(spec: Spec, port: int, run_dir: Path) -> Launch:
    """See `protocol.Engine`. The parameters are left in `run_dir/llama.cpp-PORT.json`."""
    for package in ("xllamacpp", "gguf"):
        if importlib.util.find_spec(package) is None:
            raise EngineError(
                "the embedded llama.cpp is not installed", seen=f"no package {package} here", do=_INSTALL
            )
    kind = forge_tiny.type_of(spec.model)
    model = forge_tiny.path(kind) if kind else Path(str(spec.model)).expanduser().resolve()
    slots_folder = run_dir.resolve() / "slots"
    slots_folder.mkdir(parents=True, exist_ok=True)
    parameters = _parameters(spec, model, port, slots_folder)
    config = run_dir.resolve() / f"llama.cpp-{port}.json"
    config.write_text(
        json.dumps({"parameters": parameters, "api_key_env": spec.api_key_env}, indent=1), encoding="utf-8"
    )
    return Launch(
        # -P: a json.py beside the user's tests must not take the place of Python's.
        argv=(sys.executable, "-P", str(_RUNNER), str(config)),
        base_url=f"http://127.0.0.1:{port}",
        boot_timeout_s=_BOOT_S + model.stat().st_size / _SLOW_DISK_BYTE_PER_S,
        model=str(parameters["model_alias"]),
        facts=(
            ("model_sha256", remembered_sha256(model)),
            ("threads", str(parameters["cpuparams.n_threads"])),
        ),
    )


def ready(client: httpx.Client) -> str | None:
    """See `protocol.Engine`. It answers 503 while it loads."""
    status = client.get("/health").status_code
    return None if status == 200 else f"GET /health -> {status}"


def dialect(spec: Spec, client: httpx.Client) -> str:
    """See `protocol.Engine`."""
    return "llama.cpp"


def version(client: httpx.Client) -> str | None:
    """See `protocol.Engine`. The wheel's version: its build of llama.cpp calls itself b0-unknown."""
    build = client.get("/props").raise_for_status().json().get("build_info", "unknown build")
    return f"xllamacpp {metadata.version('xllamacpp')} ({build})"


def facts(client: httpx.Client) -> dict[str, str]:
    """See `protocol.Engine`. `n_ctx` is in tokens per slot."""
    props = client.get("/props").raise_for_status().json()
    said = {
        "build_info": props.get("build_info"),
        "model_ftype": props.get("model_ftype"),
        "slots": props.get("total_slots"),
        "n_ctx": props.get("default_generation_settings", {}).get("n_ctx"),
    }
    return {name: str(value) for name, value in said.items() if value is not None}


def reset_cache(client: httpx.Client) -> bool:
    """See `protocol.Engine`. A slot that works is emptied when it has finished."""
    slots = client.get("/props").raise_for_status().json()["total_slots"]
    return all(client.post(f"/slots/{slot}?action=erase").is_success for slot in range(slots))


def _is_forge_tiny(spec: Spec) -> bool:
    return forge_tiny.type_of(spec.model) is not None


def _parameters(spec: Spec, model: Path, port: int, slots_folder: Path) -> dict[str, object]:
    """Attributes of `xllamacpp.CommonParams` by dotted name; the spec's raw arguments come last."""
    written = write(spec, TABLE)
    slots = value_of(spec, "max_num_seqs", whole(), _SLOTS)
    per_slot = value_of(spec, "max_model_len", whole(), _TOKENS_PER_SLOT)
    threads = max(1, _cores() - 1)
    parameters: dict[str, object] = {
        "model.path": str(model),
        "model_alias": NAME if _is_forge_tiny(spec) else model.stem,
        "hostnames": ["127.0.0.1"],
        "port": port,
        "n_parallel": slots,
        "n_ctx": per_slot * slots,  # the pool of all slots, of which each gets its share
        "cpuparams.n_threads": threads,
        "cpuparams_batch.n_threads": threads,
        "n_threads_http": http_threads(slots),
        "cache_prompt": False,
        "cache_ram_mib": 0,  # a second cache, in host memory, that no request can switch off
        "slot_save_path": f"{slots_folder}/",  # without it the server refuses to erase a slot
        "fit_params": False,  # shrinks the context silently when memory is short
        "endpoint_metrics": True,
        "ui": False,
    }
    return parameters | written.config | dict(_raw(argument) for argument in spec.args)


def _raw(argument: str) -> tuple[str, object]:
    """`ATTRIBUTE=VALUE` of CommonParams; a value that is not JSON is text."""
    name, equals, text = argument.partition("=")
    if not equals or not all(part.isidentifier() for part in name.split(".")):
        raise UsageError(
            "the embedded llama.cpp has no command line",
            seen=argument,
            do="give attributes of xllamacpp.CommonParams, like n_keep=8 or cpuparams.poll=0",
        )
    try:
        return name, json.loads(text)
    except ValueError:
        return name, text


def http_threads(slots: int) -> int:
    """How many threads its HTTP server gets."""
    return max(_HTTP_THREADS, 64 + 2 * slots)


def _cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)  # Linux
    return len(affinity(0)) if affinity else os.cpu_count() or 1
