"""Everything that a calibration found, in one value, and as plain data for other programs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_inferforge.calibration.advice import Advice, Margin
    from pytest_inferforge.calibration.noise import Noise
    from pytest_inferforge.gate.simulating import Alarms
    from pytest_inferforge.options import JudgeOptions
    from pytest_inferforge.records import Comparison

SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """A session that did not measure what it should have. `number`: from 1; `stored`: a part of it was."""

    number: int
    why: str
    log: str
    stored: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One session against all the others, as the gate judges it from stored sessions alone."""

    session: str
    comparisons: tuple[Comparison, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """`boots`: measured in each session; `gate_boots`: a session of this suite has, as it is set up.

    `family`: comparisons of a session. `alarms`: bounds of their shares are one-sided at alpha each.
    `observed`: empty when there are too few sessions to judge one by the others.
    """

    sessions: tuple[str, ...]
    failed: tuple[Failed, ...]
    boots: int
    gate_boots: int
    pairs: int
    family: int
    seed: int
    options: JudgeOptions
    noises: tuple[Noise, ...]
    advice: tuple[Advice, ...]
    margins: tuple[Margin, ...]
    alarms: tuple[tuple[Alarms, float, float], ...]  # with the bounds of the share that is red
    observed: tuple[Judged, ...]
    store: str

    @property
    def drifting(self) -> tuple[Noise, ...]:
        return tuple(noise for noise in self.noises if noise.drifts)


def document(found: Calibration) -> dict[str, Any]:
    """Plain values. Standard deviations are on the scale that is named; changes are relative, those of shares
    in points / 100; null is not known.
    """
    return {
        "schema": SCHEMA,
        "sessions": list(found.sessions),
        "failed": [
            {"number": f.number, "why": f.why, "log": f.log, "stored": f.stored} for f in found.failed
        ],
        "store": found.store,
        "boots": found.boots,
        "gate": {
            "boots": found.gate_boots,
            "pairs": found.pairs,
            "family": found.family,
            "alpha": found.options.alpha,
            "power": found.options.power,
        },
        "seed": found.seed,
        "metrics": [_metric(n, a) for n, a in zip(found.noises, found.advice, strict=True)],
        "margins": [
            {"name": m.name, "now": m.now, "least": m.least, "suggested": m.suggested,
             "nodeid": m.nodeid, "metric": m.metric}
            for m in found.margins
        ],
        "false_alarms": [
            {"way": a.plan.way, "stored_sessions": a.plan.stored, "boots": a.plan.boots,
             "simulated_sessions": a.sessions, "red": a.red, "lower": lower, "upper": upper,
             "asked_for_more_boots": a.asked}
            for a, lower, upper in found.alarms
        ],
        "observed": [
            {"session": judged.session, "comparisons": [_compared(c) for c in judged.comparisons]}
            for judged in found.observed
        ],
    }  # fmt: skip


def _metric(noise: Noise, advice: Advice) -> dict[str, Any]:
    trend = noise.trend
    return {
        "nodeid": noise.nodeid,
        "metric": noise.metric,
        "level": noise.level,
        "scale": "asin_sqrt" if noise.scale.share else "log",
        "session_sd": noise.session_sd,
        "boot_sd": noise.boot_sd,
        "request_sd": noise.request_sd,
        "session_df": noise.session_df,
        "boot_df": noise.boot_df,
        "sessions": noise.sessions,
        "boots": noise.boots,
        "requests_per_boot": noise.requests,
        "values": [noise.scale.value(point) for point in noise.points],
        "first_to_last": noise.first_to_last,
        "trend": None
        if trend is None
        else {"change": trend.change, "lower": trend.lower, "upper": trend.upper, "drifts": noise.drifts},
        "boot_s": noise.boot_s,
        "load_s": noise.load_s,
        "detectable": {str(n): change for n, change in advice.detectable.items()},
        "detectable_in_turns": advice.in_turns,
        "suggested_boots": advice.boots,
        "suggested_requests": advice.requests,
    }


def _compared(c: Comparison) -> dict[str, Any]:
    return {
        "nodeid": c.nodeid, "metric": c.metric, "verdict": str(c.verdict), "ratio": c.ratio, "p": c.p,
        "p_adjusted": c.p_adjusted,
    }  # fmt: skip
