"""The command line and the markers, in words for `pytest -h` and `pytest --markers`. Imports nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

POLICIES = ("default", "strict", "observe")
PROFILES = ("never", "on-failure", "always")

MARKERS = (
    (
        "infer_server(backend=..., model=..., server=NAME, command=..., args=[...], env={}, SETTING=...,"
        " pin=False): what a test needs of its server;"
        " settings are engine-neutral: max_model_len, max_num_seqs, dtype, ..."
    ),
    (
        "infer_workload(arrivals=..., requests=... | duration=..., prompt_tokens=..., output_tokens=...,"
        ' api="completions"|"chat", classes={}, shared_prefix=..., prompts=FILE, images=..., turns=...,'
        " think_time=..., token_ids=False, prefix_cache=False, warmup=None, timeout=..., seed=...,"
        ' temperature=0, extra_body={}, transport="wire"|"httpx", stop="planned"|"early", pin=False): the'
        ' load that `infer_run` drives, for example arrivals="poisson 8 req/s", requests=1000,'
        ' prompt_tokens="lognormal median=256 sigma=0.5 max=2048"'
    ),
    (
        "infer_variants(NAME={...}, NAME={...}, expect='faster'|'not slower'|'same', on=METRIC,"
        " pairs=4): the declared"
        " workload on several servers, booted in turns; the first is the reference, each is told like"
        " infer_server's, and `infer_run[NAME]` is the run on it"
    ),
    (
        "infer_quality(tasks=[...], limit=..., num_fewshot=..., not_worse_than='2 pt', at_least='80 %'|{},"
        " metric=..., filter=..., data={}, under_load=N, chat=False, concurrency=8, timeout=..., retries=3,"
        " max_tokens=..., seed=..., pin=False): what `infer_quality` evaluates with lm-eval: tasks by name,"
        " task files, and packs that need no download (forge_arithmetic, forge_recall, forge_instructions,"
        " forge_grounded, forge_consistency, and their multiple-choice forms, forge_arithmetic_choice, ...)"
    ),
    (
        'infer_slo(TEXT, ..., METRIC_STATISTIC=LIMIT, confidence="boot"|"deploy"): limits that fail the'
        " test, for example"
        ' "ttft p99 < 300 ms",'
        ' ">= 900 tok/s", "error rate <= 1 %", ttft_p99="300 ms", of one class of requests'
        ' "chat: ttft p99 < 300 ms"; they add up over class and module'
    ),
)


def add_options(parser: pytest.Parser) -> None:
    """Declare every option of ours, in one group."""
    group = parser.getgroup("inferforge", "performance tests of LLM inference servers (inferforge)")
    add_boot_options(group.addoption)
    _add_session_options(group.addoption)


def add_boot_options(add: Callable[..., object]) -> None:
    """Declare those that say which server is started, and how."""
    add(
        "--infer-backend",
        metavar="NAME",
        help="the engine to boot: llama.cpp, vllm, sglang, ...; with --infer-url: the one that runs there",
    )
    add("--infer-server", metavar="NAME", help="a server that the project's file names: [servers.NAME]")
    add("--infer-model", metavar="MODEL", help="the model to serve: a name or a file (llama.cpp: FILE.gguf)")
    add(
        "--infer-command", metavar="COMMAND",
        help='start the server with this command, verbatim: "vllm serve M --port {port}"',
    )  # fmt: skip
    add("--infer-python", metavar="PYTHON", help="the interpreter of the environment with the engine")
    add("--infer-image", metavar="IMAGE", help="run the engine in a container of this image")
    add(
        "--infer-set", metavar="SETTING=VALUE", action="append", default=[],
        help="a setting of the server, over its markers: max_num_seqs=4, max_model_len=8192, ...",
    )  # fmt: skip
    add(
        "--infer-arg", metavar="ARGUMENT", action="append", default=[],
        help="handed to the engine as it is, after all others: --infer-arg=--swap-space=4; may be repeated",
    )  # fmt: skip
    add(
        "--infer-env", metavar="NAME[=VALUE]", action="append", default=[],
        help="an environment variable of the server; of a secret give the name alone; may be repeated",
    )  # fmt: skip
    add(
        "--infer-api-key-env", metavar="VAR",
        help="name of the variable with the server's API key (with --infer-url: INFERFORGE_API_KEY)",
    )  # fmt: skip
    add("--infer-port", metavar="PORT", type=int, help="boot the server on this port instead of a free one")
    add("--infer-boot-timeout", metavar="TIME", help='how long a server may take to be ready, e.g. "10 min"')


def _add_session_options(add: Callable[..., object]) -> None:
    add("--infer-url", metavar="URL", help="measure the OpenAI-style server that already runs here")
    add(
        "--infer-restart-command", metavar="COMMAND",
        help="restarts the server behind --infer-url, for --infer-boots; returns when it begins to start",
    )  # fmt: skip
    add(
        "--infer-attach", metavar="NAME", nargs="?", const="default",
        help="use the server that `inferforge up NAME` brought up; nothing is saved or compared",
    )  # fmt: skip
    add(
        "--infer-profile", choices=PROFILES, default="never",
        help="record a short repeat with the engine's own profiler: of what failed, or of everything",
    )  # fmt: skip
    add(
        "--infer-workload", metavar="NAME=VALUE", action="append", default=[],
        help="an argument of every workload, over its markers: requests=100, seed=7, ...",
    )  # fmt: skip
    add(
        "--infer-quality", metavar="NAME=VALUE", action="append", default=[],
        help="an argument of every infer_quality, over its markers: limit=50, concurrency=16, ...",
    )  # fmt: skip
    add(
        "--infer-workers", metavar="N",
        help="processes that drive the load: auto (default), a number, ray:N or ray:N@HOST:PORT",
    )  # fmt: skip
    add(
        "--infer-tokenizer", metavar="FILE",
        help="a tokenizer.json, for a server that counts no tokens and has no route to its tokenizer",
    )  # fmt: skip
    add("--infer-tls-ca", metavar="FILE", help="certificates of the authority behind an https URL")
    add("--infer-tls-insecure", action="store_true", help="do not check the certificate of an https URL")
    add(
        "--infer-boots",
        metavar="N",
        type=int,
        help="measure every declared run on N fresh boots (default: 1)",
    )
    add(
        "--infer-extend", metavar="FACTOR",
        help="measure on while an SLO is inconclusive, up to so many times the planned requests: 3x"
        " (default: 1x, off)",
    )  # fmt: skip
    add("--infer-save", metavar="NAME", help="add this session to the baseline NAME")
    add(
        "--infer-session-id", metavar="ID",
        help="with --infer-save: this run is a shard of session ID; see `inferforge judge`",
    )  # fmt: skip
    add("--infer-compare", metavar="NAME", help="gate this session against the baseline NAME")
    add(
        "--infer-missing", choices=("error", "record"), default="error",
        help="what --infer-compare does while its baseline has too few sessions: fail (error), or add this"
        " session to it and warn (record)",
    )  # fmt: skip
    add(
        "--infer-against", metavar="NAME",
        help="gate against another server, [servers.NAME] of the project's file, booted here in turns with"
        " this one; with --infer-compare: only for what looks worse",
    )  # fmt: skip
    add(
        "--infer-pairs", metavar="N", type=int,
        help="pairs of boots in turns (default: 4, or 3 when a boot takes more than a minute)",
    )  # fmt: skip
    add(
        "--infer-budget", metavar="TIME",
        help="for boots beyond the planned ones, when something looks worse (default: 30 min)",
    )  # fmt: skip
    add(
        "--infer-under-test", metavar="KEY,...", action="append", default=[],
        help="identity keys that may differ from the baseline's: quantization, model, dtype, engine, ...",
    )  # fmt: skip
    add(
        "--infer-null-control", action="store_true",
        help="with --infer-against: boot the reference as a third arm too; if it differs from itself, nothing"
        " is believed (default when the session is saved)",
    )  # fmt: skip
    add(
        "--infer-plan", action="store_true",
        help="say how many boots and minutes this would take and what it could see, and run nothing",
    )  # fmt: skip
    add("--infer-policy", choices=POLICIES, help="what doubt does: see the documentation (default: default)")
    add("--infer-quick", action="store_true", help="a few requests each, nothing judged: does the suite run?")
    add("--infer-json", metavar="PATH", help="write what was measured and judged to this file")
    add(
        "--infer-store", metavar="DIR|URL",
        help="where baselines and runs are kept (default: .inferforge); s3://, gs:// or az://BUCKET/PREFIX:"
        " baselines there, runs here",
    )  # fmt: skip
    add(
        "--infer-key", metavar="NAME=VALUE", action="append", default=[],
        help="a hard key of the fingerprint that cannot be seen from here, e.g. gpu=H100 behind --infer-url",
    )  # fmt: skip
