"""forge_instructions: do exactly what is asked with a list of words; a program can check it.

There is no multiple-choice form: what is tested is writing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_inferforge.quality.packs import draws
from pytest_inferforge.quality.packs.item import Check, Item, Rule, make
from pytest_inferforge.quality.packs.lexicon import LISTED
from pytest_inferforge.words import WORDS

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

NAME = "forge_instructions"


def _exactly(rng: random.Random) -> tuple[Item, ...]:
    words = _words(rng)
    count = draws.between(rng, 1, len(words) - 1)
    check = Check(rule=Rule.SOME_OF, words=words, count=count)
    return _about_list("exactly", words, f"write only {count} of these .", " ".join(words[:count]), check)


def _repeat(rng: random.Random) -> tuple[Item, ...]:
    """Difficulty: how often."""
    word, count = draws.one_of(rng, WORDS), draws.between(rng, 2, 9)
    question = f"- {word}\n? write this word again and again , {count} in all ."
    return (_item("repeat", question, " ".join([word] * count), count, None),)


def _without(rng: random.Random) -> tuple[Item, ...]:
    words = _words(rng)
    word = draws.one_of(rng, words)
    left = tuple(other for other in words if other != word)
    check = Check(rule=Rule.ALL_OF, words=left, forbidden=word)
    return _about_list("without", words, f"write these without {word} .", " ".join(left), check)


def _begin(rng: random.Random) -> tuple[Item, ...]:
    words = _words(rng)
    word = draws.one_of(rng, words[1:])
    answer = " ".join([word, *(other for other in words if other != word)])
    check = Check(rule=Rule.ALL_OF, words=words, first=word)
    return _about_list("begin", words, f"write these and begin with {word} .", answer, check)


def _end(rng: random.Random) -> tuple[Item, ...]:
    words = _words(rng)
    word = draws.one_of(rng, words[:-1])
    answer = " ".join([*(other for other in words if other != word), word])
    check = Check(rule=Rule.ALL_OF, words=words, last=word)
    return _about_list("end", words, f"write these and end with {word} .", answer, check)


def _reverse(rng: random.Random) -> tuple[Item, ...]:
    words = _words(rng)
    return _about_list("reverse", words, "write these from last to first .", " ".join(words[::-1]), None)


def _digits(rng: random.Random) -> tuple[Item, ...]:
    words = _words(rng)
    numbers = [str(draws.between(rng, 1, 99)) for _ in range(draws.between(rng, 1, 4))]
    mixed = [*words, *numbers]
    order = sorted(draws.some_of(rng, range(len(mixed)), len(numbers)))
    left = list(words)
    line = tuple(numbers[order.index(k)] if k in order else left.pop(0) for k in range(len(mixed)))
    return _about_list("digits", line, "write each number and no word .", " ".join(numbers), None)


def _words(rng: random.Random) -> tuple[str, ...]:
    return tuple(draws.some_of(rng, LISTED, draws.between(rng, 3, 8)))


def _about_list(
    kind: str, words: tuple[str, ...], asked: str, answer: str, check: Check | None
) -> tuple[Item, ...]:
    """Difficulty: how long the list is."""
    return (_item(kind, f"- {' '.join(words)}\n? {asked}", answer, len(words), check),)


def _item(kind: str, question: str, answer: str, difficulty: int, check: Check | None) -> Item:
    return make(
        pack=NAME,
        kind=kind,
        subject=question,
        prompt=f"{question}\n> write :",
        answer=answer,
        difficulty=difficulty,
        check=check,
    )


KINDS: dict[str, Callable[[random.Random], tuple[Item, ...]]] = {
    "exactly": _exactly,
    "repeat": _repeat,
    "without": _without,
    "begin": _begin,
    "end": _end,
    "reverse": _reverse,
    "digits": _digits,
}
