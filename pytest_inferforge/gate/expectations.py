"""What somebody expects of a variant, held against its comparisons with the reference."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_inferforge.metrics import metric
from pytest_inferforge.records import ComparisonVerdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_inferforge.records import Comparison

EXPECTATIONS = ("faster", "not slower", "same")


def held_against(expect: str, comparisons: Sequence[Comparison], on: Sequence[str]) -> tuple[str, str]:
    """(why the expectation is missed, why it is not shown); both empty: it is met.

    `on`: the metrics that it is about; empty: all that are compared. "not slower": none is shown to be worse
    by its margin, and each is shown not to be. "faster": at least one is shown to be better by its margin,
    and none worse; another metric that is worse casts a doubt. "same": each is shown to differ by less than
    its margin, either way.
    """
    if not comparisons:
        return "", "nothing of it is compared"
    others = [c for c in comparisons if on and c.metric not in on]
    missed, doubt = _held(expect, [c for c in comparisons if not on or c.metric in on])
    paid = [c for c in others if c.verdict is ComparisonVerdict.REGRESSED]
    if paid and not missed and not doubt:
        doubt = _said(f"{expect} in {', '.join(on)}, but slower", paid)
    return missed, doubt


def _held(expect: str, comparisons: Sequence[Comparison]) -> tuple[str, str]:
    worse = [c for c in comparisons if c.verdict is ComparisonVerdict.REGRESSED]
    better = [c for c in comparisons if c.verdict is ComparisonVerdict.IMPROVED]
    unknown = [c for c in comparisons if not c.verdict.judged]
    undecided = [c for c in comparisons if c.verdict is ComparisonVerdict.INCONCLUSIVE]
    if worse:
        return _said(f"expected {expect}, and it is slower", worse), ""
    if unknown:
        return "", _said("could not be compared", unknown)
    if expect == "faster":
        if better:
            return "", ""
        if all(_shown_not_better(c) for c in comparisons):
            return _said("expected faster, and it is not", comparisons), ""
        return "", _said("not shown to be faster", comparisons)
    if expect == "same":
        if better:
            return _said("expected the same, and it is faster", better), ""
        open_ = [c for c in comparisons if not (_shown_not_better(c) and _shown_not_worse(c))]
        return "", _said("not shown to be the same", open_) if open_ else ""
    return "", _said("not shown to be as fast", undecided) if undecided else ""


def _shown_not_worse(c: Comparison) -> bool:
    return c.verdict in (ComparisonVerdict.NOT_REGRESSED, ComparisonVerdict.IMPROVED)


def _shown_not_better(c: Comparison) -> bool:
    """The better end of its interval is inside the margin."""
    if c.lower is None or c.upper is None:
        return False
    lower_is_better = metric(c.metric).quantity.direction != "higher"
    best = c.lower if lower_is_better else 1.0 / c.upper
    return best > 1.0 / (1.0 + (c.margin or 0.0))


def _said(head: str, comparisons: Sequence[Comparison]) -> str:
    return f"{head}: {', '.join(dict.fromkeys(c.metric for c in comparisons))}"
