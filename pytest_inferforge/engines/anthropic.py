"""A server that somebody else started and that speaks Anthropic's Messages API.

Source: Anthropic API reference, Messages; vLLM, SGLang, llama.cpp, LMDeploy and Ollama offer it too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_inferforge.engines import url
from pytest_inferforge.errors import EngineError, UsageError

if TYPE_CHECKING:
    import httpx

    from pytest_inferforge.engines.protocol import Profiler, Spec

STARTS_PROCESS = False
SETTINGS: tuple[str, ...] = ()
PROFILER: Profiler | None = None
COMPILING: str | None = None
LIMITS: tuple[str, ...] = (
    'it has no completions API: workloads need api="chat"',
    "the length of an answer can be bounded, not made exact",
)

facts = url.facts
launch = url.launch
reset_cache = url.reset_cache

_NOT_UP = (502, 503, 504)


def check(spec: Spec) -> None:
    """See `protocol.Engine`."""
    url.check(spec)
    if not spec.model:
        raise UsageError(
            "the Messages API needs a model", seen="none was named", do="write --infer-model=MODEL"
        )


def ready(client: httpx.Client) -> str | None:
    """See `protocol.Engine`. Whether the route is there is asked without a message, which costs nothing.

    Servers refuse that in their own ways, llama.cpp with 500; only answers of a gateway mean that it is down.
    """
    answer = client.post("/v1/messages", json={})
    if answer.status_code in (401, 403):
        raise EngineError(
            "the server wants an API key, or another one",
            seen=f"POST /v1/messages -> {answer.status_code}",
            do="name the environment variable that holds the key (api_key_env), and check its value",
        )
    if answer.status_code == 404:
        raise EngineError(
            "the server does not speak the Messages API",
            seen="POST /v1/messages -> 404",
            do="check the URL, or leave --infer-backend out for one that speaks the OpenAI protocol",
        )
    return f"POST /v1/messages -> {answer.status_code}" if answer.status_code in _NOT_UP else None


def dialect(spec: Spec, client: httpx.Client) -> str:
    """See `protocol.Engine`."""
    return "anthropic"


def version(client: httpx.Client) -> str | None:
    """See `protocol.Engine`."""
    return None
