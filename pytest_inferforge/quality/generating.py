"""Replies that the server writes: the request's body, and what was written up to the first stop sequence."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_inferforge.dialects import Dialect, Wire
from pytest_inferforge.quality.client import CUT_SHORT, finish_reason

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Source: OpenAI API reference: up to 4 stop sequences. The rest is cut off here.
_STOPS_SENT = 4
# Sampling that a task may ask for under these names, which OpenAI-like servers share.
_SAMPLING = ("top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty")
# lm-eval's own default, `DEFAULT_MAX_GEN_TOKS` of 0.4.13 (defaults.py).
_MAX_GEN_TOKS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a task wants of a reply. `sampling`: empty where nothing is drawn."""

    until: tuple[str, ...]
    max_tokens: int
    temperature: float
    sampling: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """`text` up to the first stop sequence; `truncated`: at the most tokens allowed, before any."""

    text: str
    truncated: bool


def wanted(settings: Mapping[str, Any], *, max_gen_toks: int | None) -> Wanted:
    """Read a task's `generation_kwargs`; `max_gen_toks`: in place of the task's own."""
    until = settings.get("until") or ()
    names = ("max_gen_toks", "max_new_tokens", "max_tokens")
    asked = next((settings[name] for name in names if settings.get(name) is not None), _MAX_GEN_TOKS)
    temperature = float(settings.get("temperature") or 0.0) if settings.get("do_sample", True) else 0.0
    drawn = {name: settings[name] for name in _SAMPLING if settings.get(name) is not None}
    return Wanted(
        until=(until,) if isinstance(until, str) else tuple(stop for stop in until if stop),
        max_tokens=int(asked) if max_gen_toks is None else max_gen_toks,
        temperature=temperature,
        sampling=drawn if temperature > 0 else {},
    )


def body(
    dialect: Dialect, model: str, prompt: str | Sequence[Mapping[str, Any]], want: Wanted, *, seed: int
) -> dict[str, Any]:
    """The JSON of a request; a prompt that is a list holds the messages of a chat."""
    chat = not isinstance(prompt, str)
    anthropic = dialect.wire is Wire.ANTHROPIC
    asked: dict[str, Any] = {
        **dict(dialect.body_chat if chat else dialect.body_completions),
        "model": model,
        dialect.max_tokens_chat if chat else dialect.max_tokens_completions: want.max_tokens,
        "temperature": want.temperature,
    }
    if isinstance(prompt, str):
        asked["prompt"] = prompt
    elif anthropic:
        said = [message for message in prompt if message["role"] != "system"]
        asked["messages"] = said
        if len(said) < len(prompt):
            asked["system"] = "\n".join(m["content"] for m in prompt if m["role"] == "system")
    else:
        asked["messages"] = list(prompt)
    # Anthropic refuses those that are white space.
    stops = [stop for stop in want.until if not anthropic or stop.strip()][:_STOPS_SENT]
    if stops:
        asked["stop_sequences" if anthropic else "stop"] = stops
    if dialect.length_json is not None:
        field, (most, *_) = dialect.length_json
        asked[field] = json.dumps({most: want.max_tokens, "do_sample": want.temperature > 0})
    if want.temperature > 0:
        asked |= want.sampling
        if not anthropic:
            asked["seed"] = seed
    return asked


def written(answer: Mapping[str, Any], until: Sequence[str]) -> Written | None:
    """What a reply says; None: it is no reply. What a model only thought (reasoning) is not said."""
    text = _text(answer)
    if text is None:
        return None
    found = [place for stop in until if (place := text.find(stop)) >= 0]
    return Written(
        text=text[: min(found)] if found else text,
        truncated=not found and finish_reason(answer) in CUT_SHORT,
    )


def _text(answer: Mapping[str, Any]) -> str | None:
    try:
        if "choices" not in answer:  # Anthropic
            return _parts(answer["content"])
        choice = answer["choices"][0]
        if "message" not in choice:
            return None if choice["text"] is None else str(choice["text"])
        content = choice["message"].get("content")
    except (KeyError, IndexError, TypeError, AttributeError):
        return None
    return _parts(content) if isinstance(content, list) else str(content or "")


def _parts(content: Sequence[Mapping[str, Any]]) -> str:
    return "".join(str(part.get("text", "")) for part in content if part.get("type") == "text")
