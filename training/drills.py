"""Practice beside the packs' own texts: many questions about one list, so that a row teaches more.

All are made from texts of the train split, and ask what these packs ask.
"""

from __future__ import annotations

import random
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

Parts = list[tuple[str, str]]  # questions and their answers, one after the other

_PAIR = re.compile(r"- (\w+) : (\d+)\n")
_FACT = re.compile(r"- the (\w+) (\w+) is (.+?) \.\n")
_SUM = re.compile(r"what is (\d+ [+-] \d+) \?")
_IF_NOT = "if the story does not say it , say : the story does not say"
_MOST_QUESTIONS = 8
SUMS = 0.1  # lines of sums for each text


def parts_of(texts: Iterator[str], *, seed: int, practice: float, plain: float) -> Iterator[Parts]:
    """Each text as a question with its answer; `practice`: the share of the lists about which more is asked.

    `plain`: the share of the texts that are kept which tell no story. Where there is practice at all, sums
    in one line each stand between the texts.
    """
    rng = random.Random(f"drills/{seed}")
    sums: dict[str, str] = {}
    for text in texts:
        if plain < 1 and not _FACT.search(text) and rng.random() >= plain:
            continue
        question, answer = parted(text)
        if found := _SUM.search(question):
            sums[found[1]] = answer
        drilled = _about_list(text, rng) if rng.random() < practice else None
        yield drilled or [(question, answer)]
        if practice and rng.random() < SUMS and len(sums) >= _MOST_QUESTIONS:
            yield [(f"- {said} =", sums[said]) for said in rng.sample(list(sums), _MOST_QUESTIONS)]


def parted(text: str) -> tuple[str, str]:
    """The question up to its last colon, and " answer\\n"."""
    begin = text.rindex(" :") + 2
    return text[:begin], text[begin:]


def _about_list(text: str, rng: random.Random) -> Parts | None:
    """Questions about more of the names or things that the text lists."""
    for pattern in (_PAIR, _FACT):
        if rows := pattern.findall(text):
            lines = "".join(match[0] for match in pattern.finditer(text))
            some = rng.sample(rows, min(len(rows), _MOST_QUESTIONS))
            parts = [_name(*row) if pattern is _PAIR else _story(row, rows, rng) for row in some]
            return [(lines + parts[0][0], parts[0][1]), *parts[1:]]
    return None


def _name(name: str, number: str) -> tuple[str, str]:
    return f"? which number has this name ?\n> {name} :", f" {number}\n"


def _story(row: tuple[str, ...], rows: list[tuple[str, ...]], rng: random.Random) -> tuple[str, str]:
    look, thing, place = row
    other = rng.choice(rows)[0]
    if other != look and rng.random() < 0.3:
        return f"? where is the {other} {thing} ? {_IF_NOT}\n> say :", " the story does not say\n"
    return rng.choice(
        [
            (f"? where is the {look} {thing} ?\n> say the place :", f" {place}\n"),
            (f"? where is the {look} {thing} ? {_IF_NOT}\n> say :", f" {place}\n"),
            (f"? what is {place} ? {_IF_NOT}\n> say :", f" the {look} {thing}\n"),
        ]
    )
