"""Comparisons outside of pytest, as lines for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_inferforge.report import text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_inferforge.records import Comparison, ComparisonVerdict


def by_test(comparisons: Sequence[Comparison], flags: Mapping[str, str]) -> list[str]:
    """A table a test, and a sentence for what is not plainly green.

    `flags`: node id -> what every line about that test says beside its verdict.
    """
    tests: dict[str, list[Comparison]] = {}
    for c in comparisons:
        tests.setdefault(c.nodeid, []).append(c)
    lines: list[str] = []
    for nodeid, found in tests.items():
        flag = f"  [{flags[nodeid]}]" if nodeid in flags else ""
        head, *table = (line.text for line in text.comparison_lines(found))
        rows, sentences = table[: len(found)], table[len(found) :]
        lines += [nodeid, head, *(f"{row}{flag}" for row in rows), *sentences, ""]
    return lines


def tally(comparisons: Sequence[Comparison]) -> str:
    """`4 not_regressed, 1 regressed`; "none" without any."""
    counted: dict[ComparisonVerdict, int] = {}
    for c in comparisons:
        counted[c.verdict] = counted.get(c.verdict, 0) + 1
    return ", ".join(f"{n} {verdict}" for verdict, n in counted.items()) or "none"
