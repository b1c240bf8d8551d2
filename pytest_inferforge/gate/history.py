"""A metric of a test over all sessions of a baseline: drift against the pinned ones, and its steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_inferforge import metrics
from pytest_inferforge.gate.evidence import SessionValue, differences, session_value
from pytest_inferforge.gate.scale import scale_of
from pytest_inferforge.gate.weighing import sd_floor
from pytest_inferforge.records import Change, Moment, Series
from pytest_inferforge.stats import history

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_inferforge.gate.scale import Scale
    from pytest_inferforge.options import JudgeOptions
    from pytest_inferforge.records import Fingerprint, SessionResult


def series_of(
    sessions: Sequence[SessionResult],
    pinned: Sequence[SessionResult],
    options: JudgeOptions,
    *,
    steps: bool = True,
    under_test: frozenset[str] = frozenset(),
) -> tuple[Series, ...]:
    """Every gated metric of every test over these sessions, accepted or not, oldest first.

    The reference of the drift is the pinned sessions; without any, the first accepted ones, as many as a
    baseline wants. A session is one value, whatever its boots. `steps`: look for changes of level too.
    """
    ordered = sorted(sessions, key=lambda s: (s.started_at, s.id))
    latest: dict[tuple[str, str], None] = {}
    for session in reversed(ordered):
        for test in session.tests:
            latest.update(dict.fromkeys((test.nodeid, name) for name in test.gated))
    held = {s.id for s in pinned}
    found = [_series(nodeid, name, ordered, held, options, under_test, steps) for nodeid, name in latest]
    return tuple(sorted(found, key=lambda s: s.nodeid))


def _series(
    nodeid: str,
    metric_id: str,
    ordered: Sequence[SessionResult],
    pinned: set[str],
    options: JudgeOptions,
    under_test: frozenset[str],
    steps: bool,
) -> Series:
    scale = scale_of(metrics.metric(metric_id))
    known: list[tuple[SessionResult, SessionValue]] = []
    newest: Fingerprint | None = None
    left_out = 0
    for session in reversed(ordered):
        test = next((t for t in session.tests if t.nodeid == nodeid), None)
        if test is None:
            continue
        here = session.fingerprint.merged(test.fingerprint)
        newest = newest or here
        value = session_value(session, test, metric_id, scale, boots=None)
        if differences(newest, here, under_test):
            left_out += 1
        elif isinstance(value, SessionValue):
            known.append((session, value))
    known.reverse()
    named = [v for s, v in known if s.id in pinned]
    first = [v for s, v in known if s.accepted][: options.wanted_sessions]
    reference = named or first
    moments, alarm, began = _drift(known, reference, scale, options)
    said = "pinned sessions" if named else "the first accepted sessions"
    return Series(
        nodeid=nodeid,
        metric=metric_id,
        moments=moments,
        reference=f"{said}, {len(reference)}",
        alarm=alarm,
        began=began,
        changes=_changes(known, scale, options) if steps else (),
        left_out=left_out,
    )


def _drift(
    known: Sequence[tuple[SessionResult, SessionValue]],
    reference: Sequence[SessionValue],
    scale: Scale,
    options: JudgeOptions,
) -> tuple[tuple[Moment, ...], SessionResult | None, SessionResult | None]:
    """The CUSUM of the sessions behind the reference's last one."""
    blank = tuple(Moment(session=s, value=scale.value(v.point)) for s, v in known)
    if len(reference) < options.min_sessions:
        return blank, None, None
    last = max(v.started_at for v in reference)
    after = [k for k, (_, v) in enumerate(known) if v.started_at > last]
    floor = sd_floor(reference, scale, options)
    z = history.z_scores([v.point for v in reference], [known[k][1].point for k in after], sd_floor=floor)
    found = history.cusum(z, slack=options.cusum_slack, height=options.cusum_height)
    moments = list(blank)
    for place, k in enumerate(after):
        session, value = known[k]
        moments[k] = Moment(
            session=session, value=scale.value(value.point), z=z[place], cusum=found.path[place]
        )
    alarm = None if found.alarm is None else known[after[found.alarm]][0]
    began = None if found.began is None else known[after[found.began]][0]
    return tuple(moments), alarm, began


def _changes(
    known: Sequence[tuple[SessionResult, SessionValue]], scale: Scale, options: JudgeOptions
) -> tuple[Change, ...]:
    found = history.steps(
        [v.point for _, v in known],
        alpha=options.step_alpha,
        least=options.min_sessions,
        permutations=options.step_permutations,
        seed=0,
    )
    return tuple(
        Change(
            first=known[step.at][0],
            worse=step.shift > 0.0,
            described=scale.describe(known[step.at - 1][1].point, step.shift),
            p=step.p,
        )
        for step in found
    )
