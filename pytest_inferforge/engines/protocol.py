"""What an engine module offers, and the words in which it is asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import httpx

VOCABULARY: tuple[str, ...] = (
    "dtype",
    "max_model_len",
    "memory_fraction",
    "kv_cache_bytes",
    "max_num_seqs",
    "max_num_batched_tokens",
    "chunked_prefill",
    "prefix_caching",
    "kv_cache_dtype",
    "block_size",
    "quantization",
    "speculative",
    "tensor_parallel",
    "pipeline_parallel",
    "data_parallel",
    "expert_parallel",
    "eager",
    "seed",
)
"""The settings that mean the same for every engine which takes them."""


class Spec(Protocol):
    """What an engine reads of a `servers.spec.ServerSpec`; the fields are explained there."""

    @property
    def engine(self) -> str: ...
    @property
    def model(self) -> str | None: ...
    @property
    def revision(self) -> str | None: ...
    @property
    def settings(self) -> tuple[tuple[str, object], ...]: ...
    @property
    def args(self) -> tuple[str, ...]: ...
    @property
    def env(self) -> tuple[tuple[str, str | None], ...]: ...
    @property
    def python(self) -> str | None: ...
    @property
    def command(self) -> str | None: ...
    @property
    def image(self) -> str | None: ...
    @property
    def gpus(self) -> int | None: ...
    @property
    def profile(self) -> bool: ...
    @property
    def url(self) -> str | None: ...
    @property
    def api_key_env(self) -> str | None: ...
    @property
    def port(self) -> int | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetch:
    """What has to be here before a server's start is timed.

    `what`, in words; `argv` fetches it and prints lines `fact NAME VALUE`; `unless`: a command that succeeds
    when it is here already.
    """

    what: str
    argv: tuple[str, ...]
    unless: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """How to start one server, and what is known of it before it runs.

    `argv` is empty where nothing is to be started. `base_url` has no `/v1` and no slash at its end.
    `env` is added to the environment. `grace_s`: from SIGTERM to SIGKILL. `model`: the id for requests (None:
    the first that `/v1/models` lists). `facts` go into the fingerprint. `cleanup`: run when the server has
    ended, however it ended (a container outlives the program that started it). `fetch`: before it.
    """

    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...] = ()
    base_url: str
    boot_timeout_s: float
    grace_s: float = 5.0
    model: str | None = None
    facts: tuple[tuple[str, str], ...] = ()
    cleanup: tuple[str, ...] = ()
    fetch: Fetch | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Profiler:
    """An engine's own profiler: requests that switch it on and off. Traces appear below `folder`.

    `body`: what the first is sent, with `{folder}` in it where the engine is told only then.
    """

    start_path: str
    stop_path: str
    body: Mapping[str, object] | None = None


class Engine(Protocol):
    """The names in an engine's module. A `client` has the server's base URL and its key."""

    STARTS_PROCESS: bool
    """False: the server runs already, and can be neither stopped nor restarted."""
    SETTINGS: tuple[str, ...]
    """What it takes of `VOCABULARY`, and settings of its own."""
    PROFILER: Profiler | None
    """None: it has none that could be switched on over HTTP."""
    COMPILING: str | None
    """Regular expression of log lines that say that something is compiled; None: it never says."""
    LIMITS: tuple[str, ...]
    """What a user should know that it cannot do, a sentence each."""

    @staticmethod
    def check(spec: Spec) -> None:
        """Refuse what cannot work, before anything is started.

        Raises:
            UsageError: a setting it does not have, a missing file or key.
        """

    @staticmethod
    def launch(spec: Spec, port: int, run_dir: Path) -> Launch:
        """How to start it on that port (0 where it starts nothing); may write files into `run_dir`.

        Raises:
            EngineError: it is not installed.
        """

    @staticmethod
    def ready(client: httpx.Client) -> str | None:
        """None when it can be used, else what was seen.

        Raises:
            httpx.HTTPError: it does not answer.
            EngineError: waiting is of no use.
        """

    @staticmethod
    def dialect(spec: Spec, client: httpx.Client) -> str:
        """The name of its dialect in `pytest_inferforge.dialects`."""

    @staticmethod
    def version(client: httpx.Client) -> str | None:
        """The engine's version, None where it does not tell."""

    @staticmethod
    def facts(client: httpx.Client) -> dict[str, str]:
        """What the running server says of itself, for the fingerprint."""

    @staticmethod
    def reset_cache(client: httpx.Client) -> bool:
        """Forget all cached prefixes; False where the engine cannot."""
