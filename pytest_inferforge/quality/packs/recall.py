"""forge_recall: write a line again; find one name among many. The difficulty is how much must be kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_inferforge.quality.packs import draws
from pytest_inferforge.quality.packs.item import Item, make
from pytest_inferforge.quality.packs.lexicon import LISTED
from pytest_inferforge.words import WORDS

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

NAME = "forge_recall"

PAIRS = (4, 8, 16, 32, 64, 128, 200)


def _copy(rng: random.Random) -> tuple[Item, ...]:
    """Difficulty: how many words."""
    words = draws.some_of(rng, LISTED, draws.between(rng, 2, 12) + 1)
    foreign, line = words[0], words[1:]
    text = " ".join(line)
    place = draws.between(rng, 0, len(line) - 1)
    swapped = [*line[:place], *line[place:][1:], line[place]] if place < len(line) - 1 else line[::-1]
    replaced = [*line[:place], foreign, *line[place + 1 :]]
    shorter = line[:place] + line[place + 1 :]
    item = make(
        pack=NAME,
        kind="copy",
        subject=f"copy {text}",
        prompt=f"- {text}\n? write this line again .\n> say the line :",
        answer=text,
        wrong=(" ".join(other) for other in (swapped, replaced, shorter)),
        difficulty=len(line),
    )
    return (item,)


def _lookup(rng: random.Random) -> tuple[Item, ...]:
    """Difficulty: how many pairs. Distractors are the numbers nearest to the right one in the text."""
    pairs = draws.one_of(rng, PAIRS)
    names = draws.some_of(rng, WORDS, pairs)
    numbers = [draws.between(rng, 10, 99) for _ in names]
    place = draws.between(rng, 0, pairs - 1)
    lines = "\n".join(f"- {name} : {number}" for name, number in zip(names, numbers, strict=True))
    others = sorted(range(pairs), key=lambda k: (abs(k - place), k))
    question = f"{lines}\n? which number has this name ?\n> {names[place]} :"
    item = make(
        pack=NAME,
        kind="lookup",
        subject=question,
        prompt=question,
        answer=str(numbers[place]),
        wrong=[*(str(numbers[k]) for k in others), *_unlike(numbers[place])],
        difficulty=pairs,
    )
    return (item,)


def _unlike(number: int) -> list[str]:
    """For the rare text whose numbers are nearly all the same."""
    return [str(10 + (number - 10 + step) % 90) for step in (1, 10, 11)]


KINDS: dict[str, Callable[[random.Random], tuple[Item, ...]]] = {"copy": _copy, "lookup": _lookup}
