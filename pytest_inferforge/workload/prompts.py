"""Prompts whose length in tokens is exact, whatever tokenizer the server has.

A prompt is one opening word and then words that each cost exactly one token. Which words do is learned by
asking the server itself (its usage counts), so that the count is exact by construction and includes
whatever template the server wraps around. Each prompt begins with a salt, so that no prefix cache helps
unless the workload asks for it.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_inferforge.errors import MeasuringError
from pytest_inferforge.words import WORDS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Count = Callable[[str], int]  # text of a prompt -> tokens as the server counts them

OPENING = "Note"
SALT_WORDS = 4
RING_WORDS = 8192
_ENOUGH_WORDS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class WordBank:
    """Words of exactly one token each (with a leading space), and what a prompt costs without them."""

    words: tuple[str, ...]
    overhead_tokens: int  # the opening word, the template, a BOS token


def learn(count: Count, words: Sequence[str] = WORDS) -> WordBank:
    """Find out which words cost one token, with a handful of questions.

    Raises:
        MeasuringError: the server's counts fit no exact prompt (fewer than 32 one-token words).
    """
    overhead = _overhead(count, words)
    single: list[str] = []
    _find_single(count, overhead, list(words), single)
    if len(single) < _ENOUGH_WORDS:
        raise MeasuringError(
            "prompts of an exact length cannot be made for this server",
            seen=f"only {len(single)} of {len(words)} common words cost one token of its tokenizer",
            do="check that its usage.prompt_tokens counts the prompt that was sent",
        )
    bank = WordBank(words=tuple(single), overhead_tokens=overhead)
    _verify(count, bank)
    return bank


def ring(bank: WordBank, seed: int) -> tuple[str, ...]:
    """The words that all prompts of a run are cut from, each beginning at a place of its own."""
    return tuple(random.Random(seed).choices(bank.words, k=RING_WORDS))  # noqa: S311 (no secret)


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptMaker:
    """Makes the prompt of request i in microseconds.

    `salt`: makes prompts of this run unlike those of any other run; None: all prompts of a length are
    equal, so that a prefix cache helps.
    """

    words: tuple[str, ...]  # of the bank
    ring: tuple[str, ...]
    overhead_tokens: int
    salt: str | None

    def text(self, index: int, tokens: int) -> str:
        """A prompt that the server counts as `tokens`; at least `overhead_tokens`."""
        n = max(0, tokens - self.overhead_tokens)
        chosen: list[str] = [OPENING]
        start = 0
        if self.salt is not None:
            digest = hashlib.blake2b(f"{self.salt}/{index}".encode(), digest_size=16).digest()
            salted = min(n, SALT_WORDS)
            numbers = (int.from_bytes(digest[2 * k : 2 * k + 2]) for k in range(salted))
            chosen.extend(self.words[number % len(self.words)] for number in numbers)
            start = int.from_bytes(digest[-4:]) % len(self.ring)
            n -= salted
        while n > 0:
            part = self.ring[start : start + n]
            chosen.extend(part)
            n -= len(part)
            start = 0
        return " ".join(chosen)


def _text(words: Sequence[str]) -> str:
    return " ".join((OPENING, *words))


def _overhead(count: Count, words: Sequence[str]) -> int:
    """Tokens of a prompt without words, from two prompts that differ by eight equal words."""
    seen = []
    for word in words[:16]:
        short, long = count(_text([word] * 8)), count(_text([word] * 16))
        if long - short == 8:
            return short - 8
        seen.append(f"{word}: {long - short} tokens for 8")
    raise MeasuringError(
        "prompts of an exact length cannot be made for this server",
        seen="; ".join(seen[:3]),
        do="check that its usage.prompt_tokens counts the prompt that was sent",
    )


def _find_single(count: Count, overhead: int, words: list[str], found: list[str]) -> None:
    """Halve groups until each left over costs one token a word."""
    if not words:
        return
    if count(_text(words)) == overhead + len(words):
        found.extend(words)
    elif len(words) > 1:
        middle = len(words) // 2
        _find_single(count, overhead, words[:middle], found)
        _find_single(count, overhead, words[middle:], found)


def _verify(count: Count, bank: WordBank) -> None:
    maker = PromptMaker(words=bank.words, ring=ring(bank, 1), overhead_tokens=bank.overhead_tokens, salt="v")
    for tokens in (bank.overhead_tokens + SALT_WORDS, bank.overhead_tokens + 100):
        seen = count(maker.text(0, tokens))
        if seen != tokens:
            raise MeasuringError(
                "prompts of an exact length cannot be made for this server",
                seen=f"a prompt made for {tokens} tokens is counted as {seen}",
                do="check that its usage.prompt_tokens counts the prompt that was sent",
            )
