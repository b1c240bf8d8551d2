"""Whether a reply is right, decided by rules that are data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_inferforge.quality.packs.item import Check, Item, Outcome, Rule

if TYPE_CHECKING:
    from collections.abc import Callable

_MARKS_AFTER = ".,;:!?"


def passes(item: Item, reply: str) -> Outcome:
    """Judge the first line of the reply; case, spacing and marks after words do not matter."""
    found = said(reply)
    silent = item.check.rule is Rule.SILENT
    complaint = "said nothing" if not found else _RULES[item.check.rule](item.check, found)
    return Outcome(
        correct=complaint is None,
        hallucinated=silent and bool(found) and complaint is not None,
        reason=complaint or "right",
    )


def said(reply: str) -> str:
    """The first line that is not blank, as words separated by single spaces.

    >>> said(" The garden.\\nMore of it")
    'the garden'
    """
    line = reply.strip().partition("\n")[0].lower()
    return " ".join(word for part in line.split() if (word := part.rstrip(_MARKS_AFTER)))


def _accepted(check: Check, found: str) -> str | None:
    return None if found in check.accepted else f"{check.accepted[0]!r} was right, {found!r} was said"


def _silent(check: Check, found: str) -> str | None:
    return None if found in check.accepted else f"the story does not say it, {found!r} was said"


def _all_of(check: Check, found: str) -> str | None:
    words = found.split()
    if check.forbidden in words:
        return f"used {check.forbidden!r}"
    if check.first is not None and words[0] != check.first:
        return f"began with {words[0]!r} and not with {check.first!r}"
    if check.last is not None and words[-1] != check.last:
        return f"ended with {words[-1]!r} and not with {check.last!r}"
    if sorted(words) != sorted(check.words):
        return f"the words were to be {' '.join(check.words)!r}, {found!r} was said"
    return None


def _some_of(check: Check, found: str) -> str | None:
    words = found.split()
    if len(words) != check.count:
        return f"wrote {len(words)} and not {check.count}"
    if len(set(words)) != len(words):
        return f"wrote a word twice: {found!r}"
    foreign = [word for word in words if word not in check.words]
    return f"{foreign[0]!r} was not in the list" if foreign else None


_RULES: dict[Rule, Callable[[Check, str], str | None]] = {
    Rule.ACCEPTED: _accepted,
    Rule.SILENT: _silent,
    Rule.ALL_OF: _all_of,
    Rule.SOME_OF: _some_of,
}
