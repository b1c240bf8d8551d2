"""All packs, their splits, and the text that teaches their grammar."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pytest_inferforge.errors import UsageError
from pytest_inferforge.quality.packs import arithmetic, consistency, draws, grounded, instructions, recall
from pytest_inferforge.quality.packs.item import Item, in_test_split

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator, Sequence

Split = Literal["test", "train"]

# pack -> kind -> what draws the items of one cluster
PACKS: dict[str, dict[str, Callable[[random.Random], tuple[Item, ...]]]] = {
    module.NAME: module.KINDS for module in (arithmetic, recall, instructions, grounded, consistency)
}

_SPLITS: tuple[Split, ...] = ("test", "train")
_PATIENCE = 5_000  # draws in a row that bring nothing new before a kind counts as used up


def items(pack: str, *, seed: int, n: int, split: Split) -> tuple[Item, ...]:
    """`n` different items, the kinds of the pack by turns.

    Equal arguments give equal items on every machine; the first of a larger draw are those of a smaller one.
    No cluster is ever in both splits, whatever the seeds. Where a cluster has several items they stand
    together, and the last one may be cut.

    Raises:
        UsageError: no such pack or split, or the pack has no `n` different items.
    """
    kinds = kinds_of(pack)
    if split not in _SPLITS:
        raise UsageError("unknown split", seen=str(split), do=f"known: {', '.join(_SPLITS)}")
    if n < 0:
        raise UsageError("a number of items cannot be negative", seen=str(n), do="ask for 0 or more")
    streams = [_different(pack, kind, seed, split) for kind in kinds]
    found: list[Item] = []
    turn = 0
    while len(found) < n:
        cluster = next(streams[turn % len(streams)], None)
        if cluster is None:
            raise UsageError(
                f"{pack} has no {n} different items of its {split} split",
                seen=f"{len(found)} found, then no more of the kind {list(kinds)[turn % len(streams)]!r}",
                do=f"ask for at most {len(found)}",
            )
        found += cluster
        turn += 1
    return tuple(found[:n])


def training_text(*, seed: int, items: int) -> Iterator[str]:
    """`items` questions of the train split with their answers, packs and kinds mixed.

    Each ends with a newline. A small pack repeats itself when much is asked for. No text has more than 512 of
    forge-tiny's tokens, but for the lookups among 64 pairs and more.
    """
    rng = draws.stream("training", seed)
    for _ in range(items):
        draw = draws.one_of(rng, list(draws.one_of(rng, list(PACKS.values())).values()))
        cluster = draw(rng)
        while in_test_split(cluster[0]):
            cluster = draw(rng)
        item = draws.one_of(rng, cluster)
        yield f"{item.prompt} {item.answer}\n"


def chance(items: Sequence[Item]) -> float:
    """The share (0 to 1) of the multiple-choice form that a coin gets right.

    Raises:
        UsageError: there are no items, or they have no choices.
    """
    if not items or not all(item.choices for item in items):
        raise UsageError(
            "the level of chance needs choices",
            seen=f"{len(items)} items, {sum(not item.choices for item in items)} of them without choices",
            do="ask this of a pack that has the multiple-choice form",
        )
    return sum(1 / len(item.choices) for item in items) / len(items)


def kinds_of(pack: str) -> dict[str, Callable[[random.Random], tuple[Item, ...]]]:
    """What draws each kind.

    Raises:
        UsageError: no such pack.
    """
    if pack not in PACKS:
        raise UsageError("unknown pack", seen=pack, do=f"known: {', '.join(PACKS)}")
    return PACKS[pack]


def _different(pack: str, kind: str, seed: int, split: Split) -> Iterator[tuple[Item, ...]]:
    """Clusters of one kind, each once, until nothing new comes."""
    rng = draws.stream(pack, kind, split, seed)
    seen: set[str] = set()
    idle = 0
    while idle < _PATIENCE:
        cluster = PACKS[pack][kind](rng)
        name = cluster[0].cluster
        if in_test_split(cluster[0]) != (split == "test") or name in seen:
            idle += 1
            continue
        seen.add(name)
        idle = 0
        yield cluster
