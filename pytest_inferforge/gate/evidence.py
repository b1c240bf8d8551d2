"""What a comparison rests on: which stored sessions, and one number a session."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pytest_inferforge import metrics
from pytest_inferforge.records import RunVerdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pytest_inferforge.gate.scale import Scale
    from pytest_inferforge.records import BootResult, Fingerprint, SessionResult, TestResult

BEYOND = {
    "ttft_s": "ttft_beyond_ratio", "tpot_s": "tpot_beyond_ratio", "icl_s": "icl_beyond_ratio",
    "e2e_s": "e2e_beyond_ratio",
}  # fmt: skip
"""Quantity -> share of its values beyond a quantile of the reference's."""
_TAIL_FROM = 0.95  # quantiles from here on are tails
_DAY_S = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTest:
    """One test in one stored session, with all that stands about it."""

    session: SessionResult
    test: TestResult
    fingerprint: Fingerprint


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """The accepted sessions of a baseline, newest first, by test."""

    sessions: tuple[SessionResult, ...]
    by_test: Mapping[str, tuple[StoredTest, ...]]

    @property
    def newest_complete(self) -> SessionResult | None:
        """The newest session in which every selected test was measured; it knows the family."""
        return next((s for s in self.sessions if s.complete), None)

    @property
    def family_size(self) -> int:
        """Gated comparisons of the newest complete session, of quality too; 0 without one."""
        newest = self.newest_complete
        return sum(len(gated_with_tails(t)) + len(t.quality) for t in newest.tests) if newest else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionValue:
    """One metric of one test in one session: the unit of evidence."""

    point: float  # on the metric's scale: the mean over its boots
    boots: tuple[float, ...]  # the points of these boots
    requests: int  # behind all of them
    started_at: str


def gated_with_tails(test: TestResult) -> tuple[str, ...]:
    """The metrics of a test under the gate: what it names, and what stands beside its tail quantiles."""
    beside = [
        BEYOND[quantity]
        for quantity, _ in tail_metrics(test.gated)
        if any(boot.tails.get(quantity) for boot in test.boots)
    ]
    return tuple(dict.fromkeys((*test.gated, *beside)))


def tail_metrics(gated: Iterable[str]) -> list[tuple[str, float]]:
    """(quantity, quantile) of the tail quantiles among these metrics."""
    found = [metrics.metric(name) for name in gated]
    return [
        (m.quantity.id, m.quantile)
        for m in found
        if m.quantile is not None and m.quantile >= _TAIL_FROM and m.quantity.id in BEYOND
    ]


def history_of(reference: Sequence[SessionResult], *, without: str | None = None) -> History:
    """Index stored sessions; those not accepted, and the session `without`, are left out."""
    kept = [s for s in reference if s.accepted and s.id != without]
    kept.sort(key=lambda s: (_when(s.started_at), s.id), reverse=True)
    by_test: dict[str, list[StoredTest]] = {}
    for session in kept:
        for test in session.tests:
            fingerprint = session.fingerprint.merged(test.fingerprint)
            stored = StoredTest(session=session, test=test, fingerprint=fingerprint)
            by_test.setdefault(test.nodeid, []).append(stored)
    return History(sessions=tuple(kept), by_test={k: tuple(v) for k, v in by_test.items()})


def differences(here: Fingerprint, stored: Fingerprint, under_test: frozenset[str]) -> tuple[str, ...]:
    """Hard and identity keys that forbid a comparison, with both values; empty: comparable.

    An identity key named in `under_test` may differ. A key that only one side has differs.
    """
    tested = {k: v for k, v in here.identity.items() if k not in under_test}
    was = {k: v for k, v in stored.identity.items() if k not in under_test}
    return (*_changes(stored.hard, here.hard), *_changes(was, tested))


def session_value(
    session: SessionResult, test: TestResult, metric_id: str, scale: Scale, *, boots: int | None
) -> SessionValue | str:
    """The metric over the first `boots` planned valid boots (None: all), or why there is no value."""
    planned = [b for b in test.boots if b.boot <= session.planned_boots]
    valid = sorted((b for b in planned if b.verdict is RunVerdict.VALID), key=lambda b: b.boot)
    if not valid:
        reasons = sorted({reason for b in planned for reason in b.reasons})
        return "not measured: no valid boot" + (f" ({'; '.join(reasons)})" if reasons else "")
    used = [b for b in valid if metric_id in b.metrics][:boots]
    if not used:
        return f"not measured: no boot has {metric_id}"
    points = [scale.point(b.metrics[metric_id]) for b in used]
    if None in points:
        return _no_place(metric_id, used[points.index(None)])
    known = tuple(p for p in points if p is not None)
    return SessionValue(
        point=statistics.fmean(known),
        boots=known,
        requests=sum(b.requests.issued for b in used),
        started_at=session.started_at,
    )


def stored_values(
    stored: Sequence[StoredTest], metric_id: str, scale: Scale, *, boots: int, window: int
) -> tuple[SessionValue, ...]:
    """The newest `window` sessions that have a value, newest first, each cut to its first `boots` boots."""
    found: list[SessionValue] = []
    for s in stored:
        value = session_value(s.session, s.test, metric_id, scale, boots=boots)
        if isinstance(value, SessionValue):
            found.append(value)
            if len(found) == window:
                break
    return tuple(found)


def span_days(values: Sequence[SessionValue]) -> float:
    """Days from the first session to the last one."""
    when = [_when(v.started_at) for v in values]
    return (max(when) - min(when)) / _DAY_S if when else 0.0


def boot_sd(values: Sequence[SessionValue]) -> float | None:
    """Standard deviation of one boot inside its session; None: no session has two."""
    repeated = [v.boots for v in values if len(v.boots) > 1]
    df = sum(len(boots) - 1 for boots in repeated)
    if not df:
        return None
    return math.sqrt(sum(statistics.variance(boots) * (len(boots) - 1) for boots in repeated) / df)


def changed_since(current: SessionResult, reference: Sequence[SessionResult]) -> tuple[str, ...]:
    """What is recorded and differs from the newest accepted session: "engine_version: 0.1 -> 0.2"."""
    history = history_of(reference, without=current.id)
    if not history.sessions:
        return ()
    newest = history.sessions[0]
    changed = dict.fromkeys(_changes(newest.fingerprint.soft, current.fingerprint.soft))
    for test, stored in _in_both(current, newest):
        changed |= dict.fromkeys(_changes(stored.fingerprint.soft, test.fingerprint.soft))
    return tuple(changed)


def tests_not_exercised(current: SessionResult, reference: Sequence[SessionResult]) -> tuple[TestResult, ...]:
    """Tests of the newest complete stored session that this session does not have."""
    newest = history_of(reference, without=current.id).newest_complete
    here = {t.nodeid for t in current.tests}
    return tuple(t for t in newest.tests if t.nodeid not in here) if newest else ()


def _in_both(current: SessionResult, stored: SessionResult) -> Iterator[tuple[TestResult, TestResult]]:
    by_test = {t.nodeid: t for t in stored.tests}
    return ((t, by_test[t.nodeid]) for t in current.tests if t.nodeid in by_test)


def _changes(before: Mapping[str, str], now: Mapping[str, str]) -> tuple[str, ...]:
    keys = (k for k in sorted({*before, *now}) if before.get(k) != now.get(k))
    return tuple(f"{k}: {before.get(k, '(absent)')} -> {now.get(k, '(absent)')}" for k in keys)


def _no_place(metric_id: str, boot: BootResult) -> str:
    value = boot.metrics[metric_id]
    seen = "reached by failed requests" if value == math.inf else f"{value:g}"
    return f"{metric_id} of boot {boot.boot} is {seen}: no ratio can be taken"


def _when(started_at: str) -> float:
    """Seconds since the epoch; a time without a zone is UTC."""
    moment = datetime.fromisoformat(started_at)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
