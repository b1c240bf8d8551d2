"""A server that somebody else started: any URL that speaks the OpenAI protocol."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pytest_inferforge.dialects import DIALECTS
from pytest_inferforge.engines.protocol import Launch
from pytest_inferforge.engines.settings import one_of, refuse_unknown
from pytest_inferforge.errors import EngineError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

    from pytest_inferforge.engines.protocol import Spec

STARTS_PROCESS = False
SETTINGS: tuple[str, ...] = ("dialect",)
METRICS_PATH: str | None = "/metrics"

_ANSWER_S = 15.0
# Source: `owned_by` in /v1/models of llama.cpp (tools/server) and vLLM (ModelCard).
_OWNERS = {"llamacpp": "llama.cpp", "vllm": "vllm"}


def check(spec: Spec) -> None:
    """See `protocol.Engine`."""
    refuse_unknown(spec, SETTINGS)
    one_of(spec, "dialect", DIALECTS, "openai")
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
    if spec.api_key_env is not None and not os.environ.get(spec.api_key_env):
        raise UsageError(
            "the API key is not set", seen=f"{spec.api_key_env} is empty", do="set that variable"
        )


def launch(spec: Spec, port: int, run_dir: Path) -> Launch:  # noqa: ARG001 - nothing is started
    """See `protocol.Engine`."""
    base = str(spec.url).rstrip("/").removesuffix("/v1")
    return Launch(argv=(), base_url=base, boot_timeout_s=_ANSWER_S, model=spec.model)


def ready(client: httpx.Client) -> str | None:
    """See `protocol.Engine`. /health may be missing or open to all, so that /v1/models has the last word."""
    for path in ("/health", "/v1/models"):
        status = client.get(path).status_code
        if status >= 500:
            return f"GET {path} -> {status}"
    if status in (401, 403):
        raise EngineError(
            "the server wants an API key, or another one",
            seen=f"GET {path} -> {status}",
            do="name the environment variable that holds the key (api_key_env), and check its value",
        )
    return None


def dialect(spec: Spec, client: httpx.Client) -> str:
    """See `protocol.Engine`. The setting `dialect`, else by whom the listed model is owned, else openai."""
    asked = one_of(spec, "dialect", DIALECTS, "")
    return asked or _OWNERS.get(_first_model(client).get("owned_by", ""), "openai")


def version(client: httpx.Client) -> str | None:
    """See `protocol.Engine`. vLLM and SGLang tell it at /version."""
    answer = client.get("/version")
    if not answer.is_success or "json" not in answer.headers.get("content-type", ""):
        return None
    found = answer.json()
    return str(found["version"]) if isinstance(found, dict) and "version" in found else None


def facts(client: httpx.Client) -> dict[str, str]:
    """See `protocol.Engine`. Hardware cannot be seen from here."""
    owner = _first_model(client).get("owned_by")
    return {"owned_by": owner} if owner else {}


def reset_cache(client: httpx.Client) -> bool:  # noqa: ARG001 - it is not ours to empty
    """See `protocol.Engine`."""
    return False


def _first_model(client: httpx.Client) -> dict[str, str]:
    answer = client.get("/v1/models")
    if not answer.is_success:
        return {}
    listed = answer.json().get("data") or [{}]
    return {key: value for key, value in listed[0].items() if isinstance(value, str)}
