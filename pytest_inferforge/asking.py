"""One short question to a server, beside the load: its request, and what the whole answer says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_inferforge.dialects import Dialect, Wire

if TYPE_CHECKING:
    from collections.abc import Mapping

# Source: Anthropic API reference, prompt caching.
_CACHED = ("cache_read_input_tokens", "cache_creation_input_tokens")  # Anthropic counts them apart


def paths(dialect: Dialect) -> tuple[tuple[bool, str], ...]:
    """(chat?, path) of the APIs that the dialect offers."""
    plain = () if dialect.completions_path is None else ((False, dialect.completions_path),)
    return (*plain, (True, dialect.chat_path))


def body(dialect: Dialect, model: str, text: str, *, chat: bool, max_tokens: int) -> dict[str, Any]:
    """The JSON of a request that is not streamed."""
    fields = dialect.body_chat if chat else dialect.body_completions
    asked: dict[str, Any] = {"messages": [{"role": "user", "content": text}]} if chat else {"prompt": text}
    limit = dialect.max_tokens_chat if chat else dialect.max_tokens_completions
    return {"model": model, limit: max_tokens, "temperature": 0.0, **dict(fields), **asked}


def prompt_tokens(dialect: Dialect, answer: Mapping[str, Any]) -> int | None:
    """How many tokens of prompt the server counted, cached ones among them; None: it does not say."""
    anthropic = dialect.wire is Wire.ANTHROPIC
    try:
        usage = answer["usage"]
        counted = int(usage["input_tokens" if anthropic else "prompt_tokens"])
    except (KeyError, TypeError, ValueError):
        return None
    return counted + (sum(int(usage.get(name) or 0) for name in _CACHED) if anthropic else 0)
