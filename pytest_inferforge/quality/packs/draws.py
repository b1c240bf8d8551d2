"""Seeded draws that come out the same on every Python.

Only `Random.random()` and seeding by a string are promised to stay; `sample`, `shuffle` and `randrange` may
change their use of it between versions. Source: "Notes on Reproducibility" of the `random` module.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")


def stream(*names: object) -> random.Random:
    """The generator that belongs to these names; equal names give equal draws."""
    return random.Random("/".join(str(name) for name in names))  # noqa: S311 (no secret)


def between(rng: random.Random, low: int, high: int) -> int:
    """One of low, low + 1, ..., high."""
    return low + int(rng.random() * (high - low + 1))


def one_of(rng: random.Random, options: Sequence[T]) -> T:
    return options[between(rng, 0, len(options) - 1)]


def some_of(rng: random.Random, options: Sequence[T], n: int) -> list[T]:
    """`n` of the options, each place at most once, in random order."""
    left = list(options)
    for k in range(n):
        other = between(rng, k, len(left) - 1)
        left[k], left[other] = left[other], left[k]
    return left[:n]


def shuffled(rng: random.Random, options: Sequence[T]) -> list[T]:
    return some_of(rng, options, len(options))
