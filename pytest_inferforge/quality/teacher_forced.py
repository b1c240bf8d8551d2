"""Given texts scored by servers that tell the log probabilities of the next token alone: one request a token.

The text is read as the server itself reads a prompt; then for each token of the continuation the server is
given what stands before it, and asked how probable that very token is.

Source: llama.cpp tools/server at 0c1e57098: with `post_sampling_probs` false the log probabilities are those
of the whole vocabulary, before any sampler; `logprobs` may be any number, more than there are are all.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_inferforge.quality.likelihoods import Remembered, Score, Unscored, moved_border

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_inferforge.quality.client import Client

PROBE = "The sky is blue and the grass is green."
LADDER = (128, 4096, 1 << 20)  # how many of the most probable tokens are asked for, one after the other
MOST_TOKENS = 1024  # of a text that is scored: each is a request
_TEXTS, _PREFIXES = 256, 2048  # kept in mind
_NOTHING = -1e30  # llama.cpp writes -3.4e38 where a float has no room for the probability
_SUM_SLACK = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Next:
    """The most probable next tokens, id -> log probability, the best first; `whole`: these are all."""

    logprobs: Mapping[int, float]
    whole: bool


def read(body: Mapping[str, Any], asked: int) -> Next | str:
    """The next token's log probabilities in a reply, or what is wrong with it."""
    try:
        tops = body["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
        logprobs = {int(top["id"]): float(top["logprob"]) for top in tops}
    except (KeyError, IndexError, TypeError, ValueError):
        return "no logprobs.content with ids of tokens"
    if not logprobs:
        return "top_logprobs is empty"
    if any(math.isnan(value) or value > 0 for value in logprobs.values()):
        return "top_logprobs are no log probabilities"
    if math.fsum(map(math.exp, logprobs.values())) > 1 + _SUM_SLACK:
        return "the probabilities of the next token are more than 1 in all"
    ordered = dict(sorted(logprobs.items(), key=lambda pair: -pair[1]))
    return Next(logprobs=ordered, whole=len(logprobs) < asked)


def ids_in(body: Mapping[str, Any]) -> tuple[int, ...] | None:
    """The token ids of a tokenizer's reply; None: there are none in it."""
    try:
        return tuple(int(token["id"] if isinstance(token, dict) else token) for token in body["tokens"])
    except (KeyError, TypeError, ValueError):
        return None


def shared(one: Sequence[int], other: Sequence[int]) -> int:
    """How many ids both begin with."""
    for place, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return place
    return min(len(one), len(other))


class Route:
    """See `likelihoods.Route`."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._texts: Remembered[tuple[int, ...] | Unscored] = Remembered(asyncio.create_task, _TEXTS)
        self._nexts: Remembered[Next | Unscored] = Remembered(asyncio.create_task, _PREFIXES)

    async def score(self, context: str, continuation: str) -> Score | Unscored:
        context, continuation = moved_border(context, continuation)
        before = await self._texts.get(context, lambda: self._ids(context))
        ids = await self._ids(context + continuation)
        if isinstance(before, Unscored) or isinstance(ids, Unscored):
            return before if isinstance(before, Unscored) else ids  # type: ignore[return-value]
        first = max(1, shared(before, ids))
        if first >= len(ids):
            return Unscored(reason="not_scored", detail=f"{continuation!r} has no token after the context")
        if len(ids) - first > MOST_TOKENS:
            return Unscored(
                reason="too_long",
                detail=f"{len(ids) - first} tokens, of which each is a request: at most {MOST_TOKENS}",
            )
        total, greedy = 0.0, True
        for place in range(first, len(ids)):
            one = await self._one(ids[:place], ids[place])
            if isinstance(one, Unscored):
                return one
            total += one.logprob
            greedy = greedy and one.greedy
        return Score(logprob=total, greedy=greedy, tokens=len(ids) - first)

    async def probe(self) -> str | None:
        dialect = self._client.dialect
        if dialect.tokenize_path is None:
            return "no route to its tokenizer is known"
        if not dialect.token_ids:
            return "it takes no token ids for a prompt"
        ids = await self._ids(PROBE)
        if isinstance(ids, Unscored):
            return f"POST {dialect.tokenize_path} -> {ids.reason}: {ids.detail}"
        path = f"POST {dialect.completions_path} with logprobs"
        told = await self._next(ids, LADDER[0], counted=False)
        if isinstance(told, Unscored):
            return f"{path} -> {told.reason}: {told.detail}"
        if told.whole and math.fsum(map(math.exp, told.logprobs.values())) < 1 - _SUM_SLACK:
            return f"{path} -> {len(told.logprobs)} of {LADDER[0]} tokens"
        return None

    async def _one(self, before: tuple[int, ...], token: int) -> Score | Unscored:
        """The log probability of one token after those ids."""
        key = hashlib.blake2b(array("q", before).tobytes(), digest_size=16).digest()
        for asked in LADDER:
            told = await self._nexts.get((key, asked), lambda k=asked: self._next(before, k))  # type: ignore[misc]
            if isinstance(told, Unscored):
                return told
            logprob = told.logprobs.get(token)
            if logprob is not None and logprob > _NOTHING:
                return Score(logprob=logprob, greedy=token == next(iter(told.logprobs)), tokens=1)
            if logprob is not None:
                return Unscored(
                    reason="not_told", detail=f"the probability of token {token} is too small to be told"
                )
            if told.whole:
                break
        return Unscored(reason="not_told", detail=f"token {token} is not among those that the server tells")

    async def _ids(self, text: str) -> tuple[int, ...] | Unscored:
        """As the server reads a prompt: with the special tokens it adds."""
        dialect = self._client.dialect
        body = {
            "model": self._client.target.model,
            **{name: True for name, value in dialect.tokenize_body if isinstance(value, bool)},
            dialect.tokenize_field: text,
        }
        reply = await self._client.post(str(dialect.tokenize_path), body, counted=False)
        if reply.body is None:
            return Unscored(reason=reply.reason or "", detail=reply.detail)
        ids = ids_in(reply.body)
        return Unscored(reason="bad_json", detail="no ids of tokens in the reply") if ids is None else ids

    async def _next(self, ids: tuple[int, ...], asked: int, *, counted: bool = True) -> Next | Unscored:
        dialect = self._client.dialect
        body = {
            **dict(dialect.body_completions),
            "model": self._client.target.model,
            "prompt": list(ids),
            dialect.max_tokens_completions: 1,
            "temperature": 0,
            "logprobs": asked,
            "post_sampling_probs": False,
            "cache_prompt": True,  # the next request differs by one token
        }
        reply = await self._client.post(str(dialect.completions_path), body, counted=counted)
        if reply.body is None:
            return Unscored(reason=reply.reason or "", detail=reply.detail)
        told = read(reply.body, asked)
        return Unscored(reason="bad_json", detail=told) if isinstance(told, str) else told
