"""forge_grounded: answers from a short text, which for one item in three does not say it.

The difficulty is the number of facts. The text of an item that cannot be answered has the thing in another
look, or says nothing of the place: an answer to it is made up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_inferforge.quality.packs import draws
from pytest_inferforge.quality.packs.item import Check, Item, Rule, make
from pytest_inferforge.quality.packs.lexicon import LOOKS, PLACES, THINGS

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

NAME = "forge_grounded"

NOT_SAID = "the story does not say"


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """Things (such as "red book"; each kind of thing once) and where each is; `elsewhere` is in no fact."""

    things: tuple[str, ...]
    places: tuple[str, ...]
    absent: str
    elsewhere: str

    def text(self) -> str:
        return "\n".join(
            f"- the {thing} is {place} ." for thing, place in zip(self.things, self.places, strict=True)
        )


def tell(rng: random.Random, facts: int) -> Story:
    things = draws.some_of(rng, THINGS, facts)
    looks = [draws.one_of(rng, LOOKS) for _ in things]
    place = draws.between(rng, 0, facts - 1)
    other_look = draws.one_of(rng, [look for look in LOOKS if look != looks[place]])
    *places, elsewhere = draws.some_of(rng, PLACES, facts + 1)
    return Story(
        things=tuple(f"{look} {thing}" for look, thing in zip(looks, things, strict=True)),
        places=tuple(places),
        absent=f"{other_look} {things[place]}",
        elsewhere=elsewhere,
    )


def place_check(thing: str, place: str) -> Check:
    """Right are: in the garden, the garden, garden, and the whole fact."""
    short = tuple(place.split(" ", 1)[1:] + place.split()[-1:])
    return Check(rule=Rule.ACCEPTED, accepted=(place, *short, f"the {thing} is {place}"))


def _where(rng: random.Random) -> tuple[Item, ...]:
    story, k = _drawn(rng)
    wrong = [NOT_SAID, *(story.places[:k] + story.places[k + 1 :])]
    check = place_check(story.things[k], story.places[k])
    return _ask("where", story, f"? where is the {story.things[k]} ?", story.places[k], wrong, check)


def _what(rng: random.Random) -> tuple[Item, ...]:
    story, k = _drawn(rng)
    names = [f"the {thing}" for thing in story.things]
    accepted = (names[k], story.things[k], f"{names[k]} is {story.places[k]}")
    check = Check(rule=Rule.ACCEPTED, accepted=accepted)
    wrong = [NOT_SAID, *names[:k], *names[k + 1 :]]
    return _ask("what", story, f"? what is {story.places[k]} ?", names[k], wrong, check)


def _silent(rng: random.Random) -> tuple[Item, ...]:
    story, _ = _drawn(rng)
    if draws.between(rng, 0, 1):
        question, wrong = f"? where is the {story.absent} ?", story.places
    else:
        question, wrong = f"? what is {story.elsewhere} ?", tuple(f"the {thing}" for thing in story.things)
    check = Check(rule=Rule.SILENT, accepted=(NOT_SAID,))
    return _ask("silent", story, question, NOT_SAID, list(wrong), check)


def _drawn(rng: random.Random) -> tuple[Story, int]:
    facts = draws.between(rng, 3, 8)
    return tell(rng, facts), draws.between(rng, 0, facts - 1)


def _ask(
    kind: str, story: Story, question: str, answer: str, wrong: list[str], check: Check
) -> tuple[Item, ...]:
    told = f"{story.text()}\n{question}"
    item = make(
        pack=NAME,
        kind=kind,
        subject=told,
        prompt=f"{told} if the story does not say it , say : {NOT_SAID}\n> say :",
        answer=answer,
        wrong=wrong,
        difficulty=len(story.things),
        check=check,
    )
    return (item,)


KINDS: dict[str, Callable[[random.Random], tuple[Item, ...]]] = {
    "where": _where,
    "what": _what,
    "silent": _silent,
}
