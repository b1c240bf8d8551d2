"""The history of a baseline as lines for a terminal."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pytest_inferforge.metrics import metric
from pytest_inferforge.units import format_value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_inferforge.records import Series, SessionResult

_BARS = "▁▂▃▄▅▆▇█"
_WIDEST = 60


def sparkline(values: Sequence[float]) -> str:
    """One bar a value, from the least to the largest; the last `_WIDEST` of them.

    >>> sparkline([1.0, 1.0, 2.0, 3.0])
    '▁▁▄█'
    >>> sparkline([2.0, 2.0])
    '▁▁'
    """
    shown = list(values)[-_WIDEST:]
    low, high = min(shown), max(shown)
    if not math.isfinite(low) or high <= low:
        return _BARS[0] * len(shown)
    return "".join(_BARS[min(7, int((v - low) / (high - low) * 8))] for v in shown)


def lines(series: Sequence[Series], height: float) -> list[str]:
    """A test after the other: a sparkline a metric, its alarm (at `height`) and its steps."""
    found: list[str] = []
    last = ""
    for s in series:
        if s.nodeid != last:
            found += ["", s.nodeid] if last else [s.nodeid]
            last = s.nodeid
        found += [f"  {line}" for line in _series(s, height)]
    return found


def _series(s: Series, height: float) -> list[str]:
    unit = metric(s.metric).quantity.unit
    values = [m.value for m in s.moments]
    if not values:
        return [f"{s.metric}: no value"]
    ends = f"{format_value(values[0], unit)} -> {format_value(values[-1], unit)}"
    said = [f"{s.metric:<18} {sparkline(values)}  {ends}, {len(values)} sessions"]
    known = [m for m in s.moments if m.cusum is not None]
    if s.alarm is not None:
        began = "" if s.began is None else f", rising since {_named(s.began)}"
        said.append(f"  DRIFT for the worse: alarm at {_named(s.alarm)}{began} (against {s.reference})")
    elif known:
        said.append(
            f"  no drift: the sum stands at {known[-1].cusum:.1f} of {height:g} (against {s.reference})"
        )
    for change in s.changes:
        what = "first bad session" if change.worse else "since"
        said.append(f"  step: {change.described}, p {change.p:.2g}; {what} {_named(change.first)}")
    if s.left_out:
        said.append(f"  {s.left_out} sessions under other conditions are left out")
    return said


def _named(session: SessionResult) -> str:
    """A session with its day and commit."""
    commit = session.source.get("commit", "")[:10]
    known = f" {commit}" if commit else ""
    red = "" if session.accepted else ", not accepted"
    return f"{session.id} ({session.started_at[:10]}{known}{red})"
