"""Sessions that never were, through the whole gate: how often it would be red though nothing changed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np

from pytest_inferforge import metrics
from pytest_inferforge.gate.abba import CURRENT, REFERENCE, Slot
from pytest_inferforge.gate.pipeline import Confirming, Measured, Turns, judge_session
from pytest_inferforge.gate.scale import scale_of
from pytest_inferforge.records import (
    BootResult,
    ComparisonVerdict,
    Fingerprint,
    RequestCounts,
    SessionResult,
    TestResult,
)
from pytest_inferforge.stats.arms import in_turns

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from pytest_inferforge.gate.scale import Scale
    from pytest_inferforge.options import JudgeOptions

    Floats = NDArray[np.float64]

TURNS, CONFIRMING, STORED = "turns", "confirming", "stored"
_FIRST_DAY = datetime(2026, 1, 5, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scatter:
    """How one gated metric of one test scatters when nothing changes, on the metric's scale.

    `base`: its level there. `boot_sd`: of one boot inside its session, what its requests contribute included.
    `requests`: issued on one boot.
    """

    nodeid: str
    metric: str
    base: float
    session_sd: float
    boot_sd: float
    requests: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The gate that is simulated: `stored` sessions of `boots` boots, a session a day, and one more.

    `way`: what decides a suspicion: TURNS, `pairs` boots of reference and server; CONFIRMING, so many boots
    of the server; STORED, nothing more.
    """

    stored: int
    boots: int
    way: str
    pairs: int
    confirming: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarms:
    """Of so many simulated sessions, how many were red, and how many asked for more boots."""

    plan: Plan
    sessions: int
    red: int
    asked: int


def alarms(
    scatter: Sequence[Scatter],
    plan: Plan,
    *,
    sessions: int,
    options: JudgeOptions,
    rng: np.random.Generator,
    shift: float = 0.0,
    on_session: Callable[[int], None] = lambda _: None,
) -> Alarms:
    """Judge so many sessions, each against stored ones of its own.

    `shift`: by how much the current server is worse, on the scale; 0 makes every red one a false alarm.
    Session and boot parts are normal, and those of different metrics independent of each other: metrics that
    move together would be red together, and so in fewer sessions.

    Source: y = base + session + boot, as in docs/how-it-judges.md.
    """
    simulated = _Simulated(scatter, rng)
    red = asked = 0
    for number in range(sessions):
        stored = [simulated.session(day, plan.boots, simulated.day()) for day in range(plan.stored)]
        today = simulated.day()
        current = simulated.session(plan.stored, plan.boots, today, shift)
        more = _More(simulated, plan, today, shift)
        found = judge_session(current, stored, name="simulated", options=options, more=more.as_gate_input())
        red += any(c.verdict is ComparisonVerdict.REGRESSED for c in found)
        asked += more.asked
        on_session(number + 1)
    return Alarms(plan=plan, sessions=sessions, red=red, asked=asked)


class _Simulated:
    """Draws sessions and boots."""

    def __init__(self, scatter: Sequence[Scatter], rng: np.random.Generator) -> None:
        self._rng = rng
        self._scales = [scale_of(metrics.metric(s.metric)) for s in scatter]
        self._base = np.array([s.base for s in scatter])
        self._session_sd = np.array([s.session_sd for s in scatter])
        self._boot_sd = np.array([s.boot_sd for s in scatter])
        self._names = [s.metric for s in scatter]
        self._requests = {s.nodeid: s.requests for s in scatter}
        self._places: dict[str, list[int]] = {}
        for place, s in enumerate(scatter):
            self._places.setdefault(s.nodeid, []).append(place)

    @property
    def nodeids(self) -> tuple[str, ...]:
        return tuple(self._places)

    def day(self) -> Floats:
        """float64 (metrics,): the points of one session before its boots."""
        return self._base + self._session_sd * self._rng.normal(size=len(self._base))

    def boots(self, day: Floats, numbers: Sequence[int], shift: float) -> dict[str, tuple[BootResult, ...]]:
        """Boots of these numbers in a session: key of a test -> what was measured of it."""
        scatter = self._boot_sd * self._rng.normal(size=(len(numbers), len(day)))
        points = day + scatter + shift
        return {
            nodeid: tuple(
                BootResult(
                    boot=number,
                    ready_s=None,
                    requests=_counts(self._requests[nodeid]),
                    metrics={self._names[k]: _value(self._scales[k], float(row[k])) for k in places},
                )
                for number, row in zip(numbers, points, strict=True)
            )
            for nodeid, places in self._places.items()
        }

    def session(self, number: int, boots: int, day: Floats, shift: float = 0.0) -> SessionResult:
        """Of so many boots, `number` days after the first one."""
        measured = self.boots(day, range(1, boots + 1), shift)
        return SessionResult(
            schema=1,
            id=f"day{number}",
            started_at=(_FIRST_DAY + timedelta(days=number)).isoformat(),
            version="0",
            seed=0,
            fingerprint=Fingerprint(),
            planned_boots=boots,
            complete=True,
            accepted=True,
            tests=tuple(
                TestResult(
                    nodeid=nodeid,
                    fingerprint=Fingerprint(),
                    gated=tuple(self._names[k] for k in places),
                    boots=measured[nodeid],
                )
                for nodeid, places in self._places.items()
            ),
        )


class _More:
    """What the gate may ask for in one session, and whether it did."""

    def __init__(self, simulated: _Simulated, plan: Plan, day: Floats, shift: float) -> None:
        self.asked = False
        self._simulated, self._plan, self._day, self._shift = simulated, plan, day, shift

    def as_gate_input(self) -> Turns | Confirming | None:
        can = self._simulated.nodeids
        if self._plan.way == TURNS:
            return Turns(name="against:simulated", can=can, measure=self._turns)
        return Confirming(can=can, measure=self._confirm) if self._plan.way == CONFIRMING else None

    def _turns(self, keys: tuple[str, ...]) -> Measured:
        self.asked = True
        slots = []
        for arm in in_turns((REFERENCE, CURRENT), self._plan.pairs):
            found = self._simulated.boots(self._day, (1,), self._shift if arm == CURRENT else 0.0)
            slots.append(Slot(arm=arm, boots={key: found[key][0] for key in keys}))
        return Measured(slots=tuple(slots))

    def _confirm(self, keys: tuple[str, ...]) -> Measured:
        self.asked = True
        first = self._plan.boots + 1
        found = self._simulated.boots(self._day, range(first, first + self._plan.confirming), self._shift)
        return Measured(boots={key: found[key] for key in keys})


def _counts(requests: int) -> RequestCounts:
    return RequestCounts(issued=requests, completed=requests, failed=0, cancelled=0)


def _value(scale: Scale, point: float) -> float:
    """In the metric's unit; a share that the noise drives below 0 or above 1 stays there."""
    if scale.share:
        point = scale.sign * min(max(scale.sign * point, 0.0), math.pi)
    return scale.value(point)
