"""A server that somebody else started: any URL that speaks the OpenAI protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pytest_inferforge.dialects import DIALECTS
from pytest_inferforge.engines import openai_routes
from pytest_inferforge.engines.launching import check_key
from pytest_inferforge.engines.protocol import Launch, Profiler
from pytest_inferforge.engines.settings import one_of, refuse_unknown, value_of
from pytest_inferforge.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

    from pytest_inferforge.engines.protocol import Spec

STARTS_PROCESS = False
SETTINGS: tuple[str, ...] = ("dialect",)
PROFILER: Profiler | None = None
COMPILING: str | None = None
LIMITS: tuple[str, ...] = (
    "it can be neither booted nor set up from here",
    "its hardware cannot be seen: name that with --infer-key",
)

_ANSWER_S = 15.0

ready = openai_routes.ready
version = openai_routes.version
facts = openai_routes.facts
# Source: `owned_by` in /v1/models of llama.cpp (tools/server) and vLLM (ModelCard).
_OPENAI = ".openai.com"
_OWNERS = {"llamacpp": "llama.cpp", "vllm": "vllm"}


def check(spec: Spec) -> None:
    """See `protocol.Engine`."""
    refuse_unknown(spec, SETTINGS)
    value_of(spec, "dialect", one_of(DIALECTS), "generic")
    if spec.args:
        raise UsageError("a URL takes no server arguments", seen=" ".join(spec.args), do="leave them out")
    parts = urlsplit(spec.url or "")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError("no usable URL", seen=repr(spec.url), do="give one like http://10.0.0.7:8000")
    if parts.username or parts.password or parts.query:
        raise UsageError(
            "a URL with a password or a query is not taken, because URLs are printed and stored",
            seen=f"the URL of {parts.hostname}",
            do="put the key into an environment variable and name that variable",
        )
    check_key(spec)


def launch(spec: Spec, port: int, run_dir: Path) -> Launch:
    """See `protocol.Engine`."""
    base = str(spec.url).rstrip("/").removesuffix("/v1")
    return Launch(argv=(), base_url=base, boot_timeout_s=_ANSWER_S, model=spec.model)


def dialect(spec: Spec, client: httpx.Client) -> str:
    """See `protocol.Engine`. The setting `dialect`, else the host, else by whom the listed model is owned."""
    asked = value_of(spec, "dialect", one_of(DIALECTS), "")
    host = urlsplit(spec.url or "").hostname or ""
    if asked or host.endswith(_OPENAI):
        return asked or "openai"
    return _OWNERS.get(openai_routes.first_model(client).get("owned_by", ""), "generic")


def reset_cache(client: httpx.Client) -> bool:
    """See `protocol.Engine`."""
    return False
