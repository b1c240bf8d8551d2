"""A line of a report, and tables of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tabulate import tabulate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line and how to colour it; `markup` holds the words of pytest's terminal writer."""

    text: str
    markup: Mapping[str, bool] = field(default_factory=dict)


def table(header: Sequence[str], rows: Sequence[tuple[Sequence[str], Mapping[str, bool]]]) -> list[Line]:
    """Rows of cells, each row with its colours."""
    printed = tabulate(
        [list(row) for row, _ in rows], headers=list(header), tablefmt="plain", disable_numparse=True
    )
    head, *body = printed.splitlines()
    lines = [Line(text=f"    {head.rstrip()}", markup={"light": True})]
    return lines + [
        Line(text=f"    {text.rstrip()}", markup=markup) for text, (_, markup) in zip(body, rows, strict=True)
    ]


def markup_of(*, red: bool, green: bool) -> Mapping[str, bool]:
    """Yellow is for what is neither."""
    if red:
        return {"red": True}
    return {"green": True} if green else {"yellow": True}
