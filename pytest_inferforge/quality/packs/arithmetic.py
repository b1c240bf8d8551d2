"""forge_arithmetic: sums and differences of one- and two-digit numbers, the most of some, counting."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_inferforge.quality.packs import draws
from pytest_inferforge.quality.packs.item import Item, make
from pytest_inferforge.quality.packs.lexicon import LISTED

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

NAME = "forge_arithmetic"

SAY_NUMBER = "> say the number :"


def near(rng: random.Random, number: int) -> list[str]:
    """Four numbers, one or ten apart, the right one at a drawn place among them; none is negative.

    They are what a miscount or a forgotten carry gives.
    """
    step = draws.one_of(rng, (1, 10)) if number >= 20 else 1
    before = draws.between(rng, 0, min(3, number // step))
    return [str(number + step * (k - before)) for k in range(4)]


def operands(rng: random.Random) -> tuple[int, int, int]:
    """Two numbers and how hard they are: 1 with one digit each, 2 with one of two digits, 3 with two."""
    difficulty = draws.between(rng, 1, 3)
    ranges = [(10, 99) if k < difficulty - 1 else (0, 9) for k in range(2)]
    one, other = (draws.between(rng, *bounds) for bounds in draws.shuffled(rng, ranges))
    return one, other, difficulty


def sum_subject(numbers: Sequence[int]) -> str:
    """The same for 3 + 4 and 4 + 3, and for every pack that asks for it."""
    return f"sum {sorted(numbers)}"


def most_subject(numbers: Sequence[int]) -> str:
    return f"most {sorted(numbers)}"


def _add(rng: random.Random) -> tuple[Item, ...]:
    one, other, difficulty = operands(rng)
    question = f"? what is {one} + {other} ?"
    return _one(rng, "add", sum_subject((one, other)), question, one + other, difficulty)


def _subtract(rng: random.Random) -> tuple[Item, ...]:
    one, other, difficulty = operands(rng)
    more, less = max(one, other), min(one, other)
    subject = f"difference {more} {less}"
    return _one(rng, "subtract", subject, f"? what is {more} - {less} ?", more - less, difficulty)


def _compare(rng: random.Random) -> tuple[Item, ...]:
    """Difficulty: how many numbers."""
    numbers = draws.some_of(rng, range(100), draws.between(rng, 2, 4))
    item = make(
        pack=NAME,
        kind="compare",
        subject=most_subject(numbers),
        prompt=f"? which number is the most : {' , '.join(map(str, numbers))} ?\n{SAY_NUMBER}",
        answer=str(max(numbers)),
        wrong=map(str, numbers),
        difficulty=len(numbers),
    )
    return (item,)


def _count(rng: random.Random) -> tuple[Item, ...]:
    """Difficulty: how long the line is."""
    length, wanted, *others = draws.between(rng, 3, 12), *draws.some_of(rng, LISTED, 4)
    count = draws.between(rng, 0, min(length, 9))
    line = [wanted] * count + [draws.one_of(rng, others) for _ in range(length - count)]
    text = " ".join(draws.shuffled(rng, line))
    question = f"- {text}\n? how many {wanted} are in the line ?"
    return _one(rng, "count", question, question, count, length)


def _one(
    rng: random.Random, kind: str, subject: str, question: str, answer: int, difficulty: int
) -> tuple[Item, ...]:
    item = make(
        pack=NAME,
        kind=kind,
        subject=subject,
        prompt=f"{question}\n{SAY_NUMBER}",
        answer=str(answer),
        wrong=near(rng, answer),
        difficulty=difficulty,
    )
    return (item,)


KINDS: dict[str, Callable[[random.Random], tuple[Item, ...]]] = {
    "add": _add,
    "subtract": _subtract,
    "compare": _compare,
    "count": _count,
}
