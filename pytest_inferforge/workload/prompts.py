"""Prompts whose length in tokens is exact, whatever tokenizer the server has.

A prompt is one opening word and then words that each cost exactly one token. Which words do is learned by
asking the server itself (its usage counts), so that the count is exact by construction and includes
whatever template the server wraps around. Each prompt begins with a salt, so that no prefix cache helps
unless the workload asks for it.
"""

from __future__ import annotations

import hashlib
import itertools
import random
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_inferforge.errors import MeasuringError
from pytest_inferforge.words import WORDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

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
    ids: tuple[int, ...] = ()  # of the words and, last, of the opening; empty: not known


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


def with_ids(bank: WordBank, tokenize: Callable[[str], list[int]]) -> WordBank:
    """The same bank with the ids that the server's tokenizer gives its words.

    Raises:
        MeasuringError: the tokenizer splits words that the server counted as one token.
    """
    found = tokenize(_text(bank.words))
    n = len(bank.words)
    if len(found) < n:
        raise MeasuringError(
            "prompts cannot be given as token ids for this server",
            seen=f"its tokenizer makes {len(found)} tokens of {n} words",
            do="drop token_ids",
        )
    ids = tuple(found[-n:])
    return WordBank(words=bank.words, overhead_tokens=bank.overhead_tokens, ids=(*ids, ids[0]))


def ring(bank: WordBank, seed: int) -> tuple[int, ...]:
    """Places in the bank: the words that all prompts of a run are cut from, each at a place of its own."""
    return tuple(random.Random(seed).choices(range(len(bank.words)), k=RING_WORDS))  # noqa: S311 (no secret)


class PromptMaker:
    """Makes the prompt of request i in microseconds: slices of one long ring of words.

    `salt`: makes prompts of this run unlike those of any other run; None: all prompts of a length are
    equal, so that a prefix cache helps. `ids`: of the bank's words and, last, of the opening; empty where
    prompts are texts.
    """

    def __init__(
        self,
        *,
        words: Sequence[str],
        ring: Sequence[int],
        overhead_tokens: int,
        salt: str | None,
        ids: Sequence[int] = (),
    ) -> None:
        self._words = words
        self._overhead_tokens = overhead_tokens
        self._salt = salt
        self._ids = array("q", ids)
        self._ring_ids = array("q", (ids[k] for k in ring)) if ids else array("q")
        self._size = len(ring)
        pieces = [f" {words[k]}" for k in ring]
        self._ring = "".join(pieces)
        self._at = array("q", [0, *itertools.accumulate(map(len, pieces))])

    def text(self, index: int, tokens: int, blocks: Sequence[int] = (), block_tokens: int = 0) -> str:
        """A prompt that the server counts as `tokens`; at least `overhead_tokens`.

        It begins with `blocks` of `block_tokens` each, as far as they go: equal for equal blocks of a run.
        """
        parts = [OPENING]
        for number, start, n, salted in self._pieces(
            index, tokens - self._overhead_tokens, blocks, block_tokens
        ):
            parts += [f" {self._words[k]}" for k in self._salted(number, salted)]
            parts += self._slices(start, n)
        return "".join(parts)

    def more(self, index: int, turn: int, tokens: int) -> str:
        """What a user says in a later turn of a conversation: as many words."""
        start = self._digest(f"{index}/{turn}") % self._size
        return "".join(self._slices(start, max(1, tokens))).lstrip()

    def token_ids(
        self, index: int, tokens: int, blocks: Sequence[int] = (), block_tokens: int = 0
    ) -> list[int]:
        """The same prompt as ids of the server's tokenizer; exactly `tokens` of them."""
        found = [self._ids[-1]]
        for number, start, n, salted in self._pieces(index, tokens - 1, blocks, block_tokens):
            found += [self._ids[k] for k in self._salted(number, salted)]
            while n > 0:
                part = self._ring_ids[start : start + n]
                found += part
                n -= len(part)
                start = 0
        return found

    def _pieces(
        self, index: int, n: int, blocks: Sequence[int], block_tokens: int
    ) -> Iterator[tuple[int, int, int, int]]:
        """(what its first words are drawn from, place in the ring, words of the ring, words before them)."""
        for block in blocks:
            size = min(block_tokens, n)
            if size > 0:
                salted = min(size, SALT_WORDS)
                number = self._digest(f"block {block}")
                yield number, number % self._size, size - salted, salted
                n -= size
        if n <= 0:
            return
        if self._salt is None:
            yield 0, 0, n, 0
            return
        salted = min(n, SALT_WORDS)
        number = self._digest(str(index))
        yield number, number % self._size, n - salted, salted

    def _digest(self, text: str) -> int:
        return int.from_bytes(hashlib.blake2b(f"{self._salt}/{text}".encode(), digest_size=16).digest())

    def _salted(self, number: int, n: int) -> list[int]:
        """n places in the bank, from the upper bits of a number of 128."""
        return [(number >> (112 - 16 * k) & 0xFFFF) % len(self._words) for k in range(n)]

    def _slices(self, start: int, n: int) -> list[str]:
        parts = []
        while n > 0:
            stop = min(start + n, self._size)
            parts.append(self._ring[self._at[start] : self._at[stop]])
            n -= stop - start
            start = 0
        return parts


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
    overhead = bank.overhead_tokens
    maker = PromptMaker(words=bank.words, ring=ring(bank, 1), overhead_tokens=overhead, salt="v")
    for tokens in (bank.overhead_tokens + SALT_WORDS, bank.overhead_tokens + 100):
        seen = count(maker.text(0, tokens))
        if seen != tokens:
            raise MeasuringError(
                "prompts of an exact length cannot be made for this server",
                seen=f"a prompt made for {tokens} tokens is counted as {seen}",
                do="check that its usage.prompt_tokens counts the prompt that was sent",
            )
