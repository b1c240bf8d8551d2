"""From sessions in which nothing was changed to everything that a calibration says."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pytest_inferforge import gate
from pytest_inferforge.calibration import advice
from pytest_inferforge.calibration.noise import comparable, profile
from pytest_inferforge.calibration.summing import Calibration, Judged
from pytest_inferforge.gate import simulating
from pytest_inferforge.stats.intervals import binomial_lower, binomial_upper

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_inferforge.calibration.noise import Noise
    from pytest_inferforge.calibration.requests import OfRequests
    from pytest_inferforge.calibration.summing import Failed
    from pytest_inferforge.gate.simulating import Alarms
    from pytest_inferforge.options import JudgeOptions
    from pytest_inferforge.records import SessionResult


@dataclass(frozen=True, slots=True, kw_only=True)
class GateAsSetUp:
    """How this suite's gate is set up: boots a session, pairs of boots in turns (None: as the boots take).

    `bootable`: its servers can be booted again from here.
    """

    boots: int
    pairs: int | None
    bootable: bool
    options: JudgeOptions


def conclude(
    sessions: Sequence[SessionResult],
    requests: Sequence[OfRequests],
    failed: Sequence[Failed],
    *,
    gate_as: GateAsSetUp,
    boots: int,
    simulated: int,
    seed: int,
    store: str,
    on_session: Callable[[int, int], None] = lambda *_: None,
) -> Calibration:
    """Everything that `sessions` of so many boots say of the gate.

    `requests`: of each boot whose requests are there. `simulated`: sessions for the false alarms, 0 for none.
    `on_session`: told of each one that was simulated, and of how many there will be.
    """
    options = gate_as.options
    noises = profile(sessions, requests, options)
    family = max(1, sum(len(found[0].test.gated) for found in comparable(sessions).values()))
    slow = max((n.boot_s or 0.0 for n in noises), default=0.0)
    pairs = gate_as.pairs or (
        options.pairs_of_slow_boots if slow >= options.slow_boot_s else options.pairs_of_boots
    )
    alarms = _alarms(noises, gate_as, pairs, slow, simulated, seed, on_session) if simulated else []
    return Calibration(
        sessions=tuple(s.id for s in sessions),
        failed=tuple(failed),
        boots=boots,
        gate_boots=gate_as.boots,
        pairs=pairs,
        family=family,
        seed=seed,
        options=options,
        noises=noises,
        advice=tuple(
            advice.advise(n, family=family, boots=gate_as.boots, pairs=pairs, options=options) for n in noises
        ),
        margins=advice.margins(noises, family=family, boots=gate_as.boots, options=options),
        alarms=tuple(
            (a, binomial_lower(a.red, a.sessions, options.alpha),
             binomial_upper(a.red, a.sessions, options.alpha))
            for a in alarms
        ),
        observed=observed(sessions, gate_as.boots, options),
        store=store,
    )  # fmt: skip


def observed(sessions: Sequence[SessionResult], boots: int, options: JudgeOptions) -> tuple[Judged, ...]:
    """Each session, cut to so many boots, judged against all the others; empty: the others are too few."""
    if len(sessions) <= options.min_sessions:
        return ()
    whole = [
        replace(s, accepted=True, complete=True, planned_boots=min(boots, s.planned_boots)) for s in sessions
    ]
    return tuple(
        Judged(
            session=s.id,
            comparisons=gate.judge_session(s, whole, name="the others", options=options, more=None),
        )
        for s in whole
    )


def _alarms(
    noises: Sequence[Noise],
    gate_as: GateAsSetUp,
    pairs: int,
    slow: float,
    sessions: int,
    seed: int,
    on_session: Callable[[int, int], None],
) -> list[Alarms]:
    """With a reference that can be booted, and without; where no boots can be had, or nobody knows how they
    differ, from stored sessions alone.
    """
    options = gate_as.options
    apart = gate_as.bootable and all(n.one_boot_sd is not None for n in noises)
    scatter = [n.as_scatter() for n in noises]
    ways = (simulating.TURNS, simulating.CONFIRMING) if apart else (simulating.STORED,)
    found = []
    for done, way in enumerate(ways if scatter else ()):

        def tell(number: int, before: int = done * sessions) -> None:
            on_session(before + number, len(ways) * sessions)

        plan = simulating.Plan(
            stored=options.wanted_sessions,
            boots=gate_as.boots,
            way=way,
            pairs=pairs,
            confirming=1 if slow >= options.costly_boot_s else options.confirming_boots,
        )
        rng = np.random.default_rng(seed)
        found.append(
            simulating.alarms(scatter, plan, sessions=sessions, options=options, rng=rng, on_session=tell)
        )
    return found
