"""Draws from a seed: fair, and the same everywhere."""

from collections import Counter
from itertools import permutations

from pytest_inferforge.quality.packs import draws


def test_every_order_is_as_likely():
    rng = draws.stream("orders")
    counts = Counter(tuple(draws.shuffled(rng, "abc")) for _ in range(20_000))
    assert set(counts) == set(permutations("abc"))
    assert all(abs(count - 20_000 / 6) < 5 * (20_000 * 1 / 6 * 5 / 6) ** 0.5 for count in counts.values())


def test_both_ends_are_drawn_and_nothing_beyond():
    rng = draws.stream("ends")
    assert {draws.between(rng, 3, 5) for _ in range(200)} == {3, 4, 5}
    assert draws.between(rng, 7, 7) == 7


def test_nothing_is_drawn_twice():
    rng = draws.stream("twice")
    assert all(len(set(draws.some_of(rng, range(10), 6))) == 6 for _ in range(200))
    assert draws.some_of(rng, "", 0) == []


def test_names_make_the_stream_and_its_numbers_are_known():
    assert draws.stream("a", 1).random() != draws.stream("a", 2).random()
    assert [draws.between(draws.stream("known", k), 0, 999) for k in range(3)] == [216, 433, 477]
