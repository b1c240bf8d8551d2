"""Which stored sessions a person means, which may go, in what two of them differ. Touches no file."""

from __future__ import annotations

import difflib
import math
import re
import statistics
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pytest_inferforge.errors import UsageError
from pytest_inferforge.records import RunVerdict

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from pytest_inferforge.records import SessionResult, TestResult

_AGE = re.compile(r"(\d+(?:\.\d+)?)\s*(h|d|w)")
_AGE_S = {"h": 3600.0, "d": 86_400.0, "w": 604_800.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A key of the fingerprint that differs; `before` and `after` are None where one side lacks it."""

    kind: str  # hard, identity, soft
    key: str
    before: str | None
    after: str | None
    tests: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A metric of a test in both sessions, in its unit. `ratio`: second over first; None: there is none."""

    nodeid: str
    metric: str
    gated: bool
    first: float
    second: float

    @property
    def ratio(self) -> float | None:
        if self.first == 0.0 or not math.isfinite(self.first):
            return None
        return self.second / self.first


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """In what a second session differs from a first one."""

    changes: tuple[Change, ...]
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    pairs: tuple[Pair, ...]


def find(sessions: Sequence[SessionResult], word: str, name: str) -> SessionResult:
    """The session of that id, or the only one whose id begins so.

    Raises:
        UsageError: there is none, or more than one.
    """
    found = [s for s in sessions if s.id == word] or [s for s in sessions if s.id.startswith(word)]
    if len(found) == 1:
        return found[0]
    ids = [s.id for s in found]
    if found:
        do = "write more of its id"
        raise UsageError(f"more than one session of baseline {name} begins so", seen=", ".join(ids), do=do)
    near = difflib.get_close_matches(word, [s.id for s in sessions], n=2, cutoff=0.6)
    do = f"did you mean {' or '.join(near)}?" if near else f"see them all: inferforge baseline show {name}"
    raise UsageError(f"baseline {name} has no such session", seen=word or "nothing", do=do)


def newest_accepted(sessions: Sequence[SessionResult], count: int) -> tuple[SessionResult, ...]:
    """The newest accepted ones, oldest first. `sessions`: oldest first."""
    return tuple([s for s in sessions if s.accepted][-count:]) if count > 0 else ()


def removable(
    sessions: Sequence[SessionResult],
    *,
    pinned: Collection[str],
    keep: int,
    older_than_s: float | None,
    now: datetime,
) -> tuple[SessionResult, ...]:
    """What stands before the newest `keep` accepted sessions, and is older than that, where an age is given.

    Never a pinned session, nor the newest complete accepted one: it knows which tests there should be.
    `sessions`: oldest first.
    """
    kept = newest_accepted(sessions, keep)
    if len(kept) < keep:
        return ()
    before = sessions[: sessions.index(kept[0])]
    complete = [s.id for s in sessions if s.complete and s.accepted][-1:]
    return tuple(
        s
        for s in before
        if s.id not in pinned
        and s.id not in complete
        and (older_than_s is None or (now - _when(s.started_at)).total_seconds() > older_than_s)
    )


def age_s(text: str) -> float:
    """
    >>> age_s("90d"), age_s("12 h")
    (7776000.0, 43200.0)

    Raises:
        UsageError: no age.
    """
    found = _AGE.fullmatch(text.strip())
    if found is None:
        raise UsageError("this is no age", seen=text, do='write hours, days or weeks: "12h", "90d", "8w"')
    return float(found[1]) * _AGE_S[found[2]]


def value_of(session: SessionResult, test: TestResult, metric_id: str) -> float | None:
    """The mean over the planned valid boots that have the metric; None: none has it."""
    values = [
        boot.metrics[metric_id]
        for boot in test.boots
        if boot.boot <= session.planned_boots
        and boot.verdict is RunVerdict.VALID
        and metric_id in boot.metrics
    ]
    return statistics.fmean(values) if values else None


def difference(first: SessionResult, second: SessionResult) -> Difference:
    """What a person needs to see before two sessions are taken for alike."""
    one, two = ({t.nodeid: t for t in s.tests} for s in (first, second))
    both = [nodeid for nodeid in one if nodeid in two]
    changes: dict[tuple[str, str, str | None, str | None], list[str]] = {}
    pairs: list[Pair] = []
    for nodeid in both:
        was = first.fingerprint.merged(one[nodeid].fingerprint)
        now = second.fingerprint.merged(two[nodeid].fingerprint)
        for kind in ("hard", "identity", "soft"):
            for key, before, after in _changes(getattr(was, kind), getattr(now, kind)):
                changes.setdefault((kind, key, before, after), []).append(nodeid)
        pairs += _pairs(nodeid, first, one[nodeid], second, two[nodeid])
    return Difference(
        changes=tuple(
            Change(kind=kind, key=key, before=before, after=after, tests=tuple(tests))
            for (kind, key, before, after), tests in changes.items()
        ),
        only_first=tuple(nodeid for nodeid in one if nodeid not in two),
        only_second=tuple(nodeid for nodeid in two if nodeid not in one),
        pairs=tuple(pairs),
    )


def _pairs(
    nodeid: str, first: SessionResult, one: TestResult, second: SessionResult, two: TestResult
) -> list[Pair]:
    known = dict.fromkeys(m for test in (one, two) for boot in test.boots for m in boot.metrics)
    found = []
    for metric_id in (*two.gated, *(m for m in sorted(known) if m not in two.gated)):
        a, b = value_of(first, one, metric_id), value_of(second, two, metric_id)
        if a is not None and b is not None:
            gated = metric_id in two.gated
            found.append(Pair(nodeid=nodeid, metric=metric_id, gated=gated, first=a, second=b))
    return found


def _changes(before: Mapping[str, str], after: Mapping[str, str]) -> list[tuple[str, str | None, str | None]]:
    keys = (k for k in sorted({*before, *after}) if before.get(k) != after.get(k))
    return [(k, before.get(k), after.get(k)) for k in keys]


def _when(started_at: str) -> datetime:
    moment = datetime.fromisoformat(started_at)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
