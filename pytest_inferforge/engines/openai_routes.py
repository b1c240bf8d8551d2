"""What servers that speak the OpenAI protocol tell of themselves, for engines without routes of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_inferforge.errors import EngineError

if TYPE_CHECKING:
    import httpx


def ready(client: httpx.Client) -> str | None:
    """None when it can be used, else what was seen.

    /health may be missing or open to all, so that /v1/models has the last word.

    Raises:
        httpx.HTTPError: it does not answer.
        EngineError: it wants a key, or another one.
    """
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


def version(client: httpx.Client) -> str | None:
    """What /version says; vLLM and SGLang tell it there."""
    answer = client.get("/version")
    if not answer.is_success or "json" not in answer.headers.get("content-type", ""):
        return None
    found = answer.json()
    return str(found["version"]) if isinstance(found, dict) and "version" in found else None


def first_model(client: httpx.Client) -> dict[str, str]:
    """Texts that /v1/models says of the first model; empty where there is no such list."""
    answer = client.get("/v1/models")
    said = answer.json() if answer.is_success else None
    listed = said.get("data") if isinstance(said, dict) else None
    first = listed[0] if isinstance(listed, list) and listed else None
    if not isinstance(first, dict):
        return {}
    return {key: value for key, value in first.items() if isinstance(value, str)}


def facts(client: httpx.Client) -> dict[str, str]:
    """By whom the model is owned, for the fingerprint; hardware cannot be seen from here."""
    owner = first_model(client).get("owned_by")
    return {"owned_by": owner} if owner else {}
