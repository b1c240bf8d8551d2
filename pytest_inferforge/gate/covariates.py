"""What moved together with a change: counters of the engine, clocks of the GPU, its neighbours."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from pytest_inferforge.gate.evidence import differences, history_of, session_value
from pytest_inferforge.gate.scale import Scale
from pytest_inferforge.metrics import METRICS, metric
from pytest_inferforge.units import format_value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_inferforge.gate.evidence import SessionValue
    from pytest_inferforge.records import SessionResult

_FAR = 3.0  # standard deviations of the stored sessions
_LEAST = 0.05  # relative, and on the scale of shares: less explains nothing


def moved_with(
    current: SessionResult, reference: Sequence[SessionResult], nodeid: str, under_test: frozenset[str]
) -> tuple[str, ...]:
    """Telemetry of one test that lies far from the stored sessions': "prefix_hit_ratio 81 % -> 43 %".

    It says what went along with a change, not what caused it.
    """
    history = history_of(reference, without=current.id)
    test = next((t for t in current.tests if t.nodeid == nodeid), None)
    if test is None:
        return ()
    here = current.fingerprint.merged(test.fingerprint)
    like = [s for s in history.by_test.get(nodeid, ()) if not differences(here, s.fingerprint, under_test)]
    found = []
    for name in sorted({name for boot in test.boots for name in boot.metrics}):
        if "." in name or name not in METRICS or not METRICS[name].telemetry:
            continue
        scale = Scale(share=METRICS[name].unit == "ratio", sign=1.0)
        now = session_value(current, test, name, scale, boots=None)
        values = [session_value(s.session, s.test, name, scale, boots=None) for s in like]
        said = _far(name, scale, now, [v for v in values if not isinstance(v, str)])
        found += [said] if said else []
    return tuple(found)


def _far(name: str, scale: Scale, now: SessionValue | str, stored: Sequence[SessionValue]) -> str | None:
    if isinstance(now, str) or len(stored) < 2:
        return None
    points = [v.point for v in stored]
    mean, sd = statistics.fmean(points), statistics.stdev(points)
    if abs(now.point - mean) <= max(_FAR * sd, _LEAST):
        return None
    unit = metric(name).quantity.unit
    before, after = (format_value(scale.value(p), unit) for p in (mean, now.point))
    return f"{name} {before} -> {after}"
