"""Given texts scored by completions with `echo` and `logprobs`: one request each.

Source: OpenAI API reference, legacy completions; vLLM 0.32.0, vllm/entrypoints/openai/completion; SGLang
0.5.23, sglang/srt/entrypoints/openai, which gives -1 for every `text_offset`.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_inferforge.quality.likelihoods import Remembered, Score, Unscored, moved_border

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_inferforge.quality.client import Client, Reply

PROBE = "The sky is blue and the grass is green."
_CONTEXTS = 64  # lengths of contexts that are kept in mind


@dataclass(frozen=True, slots=True, kw_only=True)
class Echoed:
    """The prompt's tokens as the server spells them, without what it generated.

    `logprobs`: None where there is none, as of the first token; `greedy`: it was the most probable one.
    """

    tokens: tuple[str, ...]
    logprobs: tuple[float | None, ...]
    greedy: tuple[bool, ...]


def read(body: Mapping[str, Any]) -> Echoed | str:
    """The prompt's part of a reply, or what is wrong with it."""
    try:
        told = body["choices"][0]["logprobs"]
        tokens, logprobs = told["token_logprobs"] and told["tokens"], told["token_logprobs"]
    except (KeyError, IndexError, TypeError):
        return "no token_logprobs in the reply: echo or logprobs is ignored"
    if not isinstance(tokens, list) or not isinstance(logprobs, list) or len(tokens) != len(logprobs):
        return "tokens and token_logprobs are not lists of one length"
    usage = body.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    generated = usage.get("completion_tokens", 1)
    prompt = len(tokens) - generated
    if prompt < 1:
        return f"{len(tokens)} log probabilities, of which {generated} are of what was written: no echo"
    if usage.get("prompt_tokens", prompt) != prompt:
        return f"{prompt} log probabilities of a prompt of {usage['prompt_tokens']} tokens"
    tops = told.get("top_logprobs") or [None] * len(tokens)
    return Echoed(
        tokens=tuple(str(token) for token in tokens[:prompt]),
        logprobs=tuple(None if value is None else float(value) for value in logprobs[:prompt]),
        greedy=tuple(_is_best(value, top) for value, top in zip(logprobs, tops, strict=False))[:prompt],
    )


def _is_best(logprob: float | None, top: Mapping[str, float] | None) -> bool:
    return logprob is not None and bool(top) and logprob >= max(top.values())  # type: ignore[union-attr]


def first_of(tokens: Sequence[str], continuation: str) -> int | None:
    """The place of the first token of the continuation; None: the tokens do not spell it.

    It is looked for from the end, so that neither a token that has no text of its own (the begin of a text)
    nor one that lost its space in front matters. A token with no text right before it belongs to it: it
    holds the first bytes of a character.
    """
    spelled, place = "", len(tokens)
    while len(spelled) < len(continuation) and place > 0:
        place -= 1
        spelled = tokens[place] + spelled
    if not spelled.endswith(continuation):
        return None
    while place > 0 and tokens[place - 1] == "":
        place -= 1
    return place


def summed(echoed: Echoed, first: int) -> Score | Unscored:
    """The score of all tokens from `first` on."""
    places = [place for place in range(first, len(echoed.tokens)) if echoed.logprobs[place] is not None]
    if not places or len(places) < len(echoed.tokens) - max(1, first):
        return Unscored(
            reason="not_scored",
            detail=f"{len(places)} of {len(echoed.tokens) - first} tokens have log probabilities",
        )
    values = [value for place in places if (value := echoed.logprobs[place]) is not None]
    total = math.fsum(values)
    if not math.isfinite(total):
        return Unscored(reason="not_finite", detail=f"the log probability is {total}")
    return Score(logprob=total, greedy=all(echoed.greedy[place] for place in places), tokens=len(places))


class Route:
    """See `likelihoods.Route`."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._lengths: Remembered[int | Unscored] = Remembered(asyncio.create_task, _CONTEXTS)

    async def score(self, context: str, continuation: str) -> Score | Unscored:
        context, continuation = moved_border(context, continuation)
        echoed = await self._echo(context + continuation)
        if isinstance(echoed, Unscored):
            return echoed
        first = 0 if not context else first_of(echoed.tokens, continuation)
        if first is None:  # characters that are split over tokens have no spelling
            length = await self._lengths.get(context, lambda: self._length(context))
            if isinstance(length, Unscored):
                return length
            first = length
        return summed(echoed, first)

    async def probe(self) -> str | None:
        path = self._client.dialect.completions_path
        reply = await self._ask(PROBE, counted=False)
        if reply.body is None:
            return f"POST {path} with echo -> {reply.reason}: {reply.detail}"
        echoed = read(reply.body)
        if isinstance(echoed, str):
            return f"POST {path} with echo -> {echoed}"
        if first_of(echoed.tokens, PROBE) is None:
            return f"POST {path} with echo -> its tokens spell {''.join(echoed.tokens)[:80]!r}"
        scored = [value for value in echoed.logprobs if value is not None]
        if not any(math.isfinite(value) and value < 0 for value in scored):
            return f"POST {path} with echo -> no log probability is a negative number"
        return None

    async def _echo(self, text: str) -> Echoed | Unscored:
        reply = await self._ask(text)
        if reply.body is None:
            return Unscored(reason=reply.reason or "", detail=reply.detail)
        echoed = read(reply.body)
        return Unscored(reason="bad_json", detail=echoed) if isinstance(echoed, str) else echoed

    async def _length(self, context: str) -> int | Unscored:
        echoed = await self._echo(context)
        return echoed if isinstance(echoed, Unscored) else len(echoed.tokens)

    async def _ask(self, text: str, *, counted: bool = True) -> Reply:
        dialect = self._client.dialect
        body = {
            **dict(dialect.body_completions),
            "model": self._client.target.model,
            "prompt": text,
            dialect.max_tokens_completions: 1,
            "temperature": 0,
            "logprobs": 1,
            "echo": True,
        }
        return await self._client.post(str(dialect.completions_path), body, counted=counted)
