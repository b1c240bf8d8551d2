"""One question with its right answer, and what it takes to check a reply."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from pytest_inferforge.quality.packs import draws

if TYPE_CHECKING:
    from collections.abc import Iterable

_CHOICES = 4  # offered where there are as many different ones


class Rule(StrEnum):
    ACCEPTED = "accepted"  # the reply is one of `accepted`
    SILENT = "silent"  # the same; the text does not say it, so that any other reply is made up
    ALL_OF = "all_of"  # `words` and no others, in any order, with `first` or `last` where they belong
    SOME_OF = "some_of"  # `count` different ones of `words`


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What a right reply is; the fields that a rule does not name are empty."""

    rule: Rule
    accepted: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    count: int | None = None
    first: str | None = None
    last: str | None = None
    forbidden: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A question of a pack.

    `choices` are offered in the multiple-choice form, the right one at `label`; () and None where that form
    does not fit. Items of one `cluster` are about the same thing and do not err independently. `repeat`
    counts how often the same prompt was asked before.
    """

    id: str
    pack: str
    kind: str
    prompt: str
    answer: str
    choices: tuple[str, ...]
    label: int | None
    cluster: str
    difficulty: int
    check: Check
    repeat: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """`hallucinated`: answered although the text does not say; such a reply is never correct."""

    correct: bool
    hallucinated: bool
    reason: str


def make(
    *,
    pack: str,
    kind: str,
    subject: str,
    prompt: str,
    answer: str,
    difficulty: int,
    wrong: Iterable[str] = (),
    check: Check | None = None,
    repeat: int = 0,
) -> Item:
    """An item about `subject`, which alone decides its cluster and the order of its choices.

    `wrong` are distractors, the most plausible first; those that repeat or equal the answer are passed over.
    Without `check` the reply must be the answer itself.
    """
    distractors = [text for text in dict.fromkeys(wrong) if text != answer][: _CHOICES - 1]
    choices = draws.shuffled(draws.stream("choices", subject), [answer, *distractors]) if distractors else []
    return Item(
        id=_digest(pack, kind, prompt, answer, *choices, str(repeat)),
        pack=pack,
        kind=kind,
        prompt=prompt,
        answer=answer,
        choices=tuple(choices),
        label=choices.index(answer) if choices else None,
        cluster=_digest(subject),
        difficulty=difficulty,
        check=check or Check(rule=Rule.ACCEPTED, accepted=(answer,)),
        repeat=repeat,
    )


def in_test_split(item: Item) -> bool:
    """One cluster in five is for tests, whatever the seed; never both sides of one cluster."""
    return int(item.cluster, 16) % 5 == 0


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
