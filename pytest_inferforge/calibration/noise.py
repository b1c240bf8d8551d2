"""The noise of each gated metric, part by part, from sessions in which nothing was changed."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pytest_inferforge import metrics
from pytest_inferforge.gate import tails
from pytest_inferforge.gate.evidence import SessionValue, differences, history_of, session_value
from pytest_inferforge.gate.scale import scale_of
from pytest_inferforge.gate.simulating import Scatter
from pytest_inferforge.stats import trend
from pytest_inferforge.stats.components import components

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_inferforge.calibration.requests import OfRequests
    from pytest_inferforge.gate.evidence import StoredTest
    from pytest_inferforge.gate.scale import Scale
    from pytest_inferforge.options import JudgeOptions
    from pytest_inferforge.records import SessionResult
    from pytest_inferforge.stats.trend import Trend


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """One gated metric of one test; standard deviations are on its scale, as of `gate.scale`.

    `base`: its level there. `session_sd`: of what the boots of a session share. `one_boot_sd`: of a boot
    inside its session, what its requests contribute included; None: no session has two boots, and
    `session_sd` is of both together. `request_sd`: what the requests of one boot contribute; None: not known.
    `points`: of the sessions, oldest first. `trend`: how the value moves from the first session to the last;
    None: too few. `boot_s`, `load_s`: how long a boot and its load take, None where it was not measured.
    """

    nodeid: str
    metric: str
    scale: Scale
    base: float
    session_sd: float
    one_boot_sd: float | None
    request_sd: float | None
    sessions: int
    boots: int
    session_df: int
    boot_df: int
    requests: int  # issued on one boot
    points: tuple[float, ...]
    trend: Trend | None
    boot_s: float | None
    load_s: float | None

    @property
    def level(self) -> float:
        """In the metric's unit."""
        return self.scale.value(self.base)

    @property
    def boot_sd(self) -> float | None:
        """Of a boot itself, less what its requests contribute as far as that is known."""
        if self.one_boot_sd is None:
            return None
        return math.sqrt(max(0.0, self.one_boot_sd**2 - (self.request_sd or 0.0) ** 2))

    @property
    def first_to_last(self) -> float:
        """The change from the first session to the last: relative, of a share in points / 100."""
        return self.change(self.points[-1] - self.points[0], base=self.points[0])

    @property
    def drifts(self) -> bool:
        """The trend is more than chance."""
        return self.trend is not None and (self.trend.lower > 0.0 or self.trend.upper < 0.0)

    def change(self, shift: float, *, base: float | None = None) -> float:
        """A distance on the scale as a change of the value: relative, of a share in points / 100."""
        start = self.base if base is None else base
        if self.scale.share:
            return self.scale.value(start + shift) - self.scale.value(start)
        return math.expm1(self.scale.sign * shift)

    def session_mean_sd(self, boots: int, options: JudgeOptions) -> float:
        """Of one session of so many boots, at least what the gate assumes of sessions on several days."""
        inside = (self.one_boot_sd or 0.0) ** 2 / boots
        return max(math.sqrt(self.session_sd**2 + inside), self.floor(boots, options))

    def floor(self, boots: int, options: JudgeOptions) -> float:
        """The least standard deviation that the gate believes."""
        return 1.0 / math.sqrt(max(1, self.requests * boots)) if self.scale.share else options.sd_floor

    def as_scatter(self) -> Scatter:
        """For the simulation."""
        return Scatter(
            nodeid=self.nodeid,
            metric=self.metric,
            base=self.base,
            session_sd=self.session_sd,
            boot_sd=self.one_boot_sd or 0.0,
            requests=self.requests,
        )


def profile(
    sessions: Sequence[SessionResult], requests: Sequence[OfRequests], options: JudgeOptions
) -> tuple[Noise, ...]:
    """The noise of every gated metric that at least two sessions have, in the order of the newest's tests.

    `sessions`: of one suite on one machine, nothing changed between them; whether they are accepted does not
    matter. Of each test those count that were measured like the newest one.
    """
    stored = comparable(sessions)
    family = sum(len(found[0].test.gated) for found in stored.values())
    found = []
    for nodeid, like in stored.items():
        for metric_id in like[0].test.gated:
            noise = _noise(nodeid, metric_id, like, requests, options.alpha / max(1, family))
            found += [noise] if noise is not None else []
    return tuple(found)


def comparable(sessions: Sequence[SessionResult]) -> dict[str, tuple[StoredTest, ...]]:
    """Key of a test -> the test in each session like the newest one, newest first.

    Shares beyond a quantile stand beside the tail quantiles, as the gate adds them.
    """
    history = history_of([replace(s, accepted=True) for s in sessions])
    if not history.sessions:
        return {}
    _, history = tails.alike(history.sessions[0], history, frozenset())
    return {
        nodeid: tuple(s for s in found if not differences(found[0].fingerprint, s.fingerprint, frozenset()))
        for nodeid, found in history.by_test.items()
    }


def _noise(
    nodeid: str,
    metric_id: str,
    like: Sequence[StoredTest],
    requests: Sequence[OfRequests],
    alpha: float,
) -> Noise | None:
    metric = metrics.metric(metric_id)
    scale = scale_of(metric)
    seen = [session_value(s.session, s.test, metric_id, scale, boots=None) for s in reversed(like)]
    values = [v for v in seen if isinstance(v, SessionValue)]
    if len(values) < 2:
        return None
    parts = components([v.boots for v in values])
    key = nodeid, metric_id
    sds = [r.sds[key] for r in requests if key in r.sds]
    loads = [r.load_s[nodeid] for r in requests if nodeid in r.load_s]
    return Noise(
        nodeid=nodeid,
        metric=metric_id,
        scale=scale,
        base=parts.mean,
        session_sd=parts.group_sd or 0.0,
        one_boot_sd=parts.within_sd,
        request_sd=math.sqrt(statistics.fmean(sd**2 for sd in sds)) if sds else None,
        sessions=len(values),
        boots=sum(len(v.boots) for v in values),
        session_df=parts.group_df,
        boot_df=parts.within_df,
        requests=round(sum(v.requests for v in values) / sum(len(v.boots) for v in values)),
        points=tuple(v.point for v in values),
        trend=trend.relative_change(np.array([scale.value(v.point) for v in values]), alpha / 2.0),
        boot_s=_boot_s(like),
        load_s=statistics.fmean(loads) if loads else None,
    )


def _boot_s(like: Sequence[StoredTest]) -> float | None:
    """From the start of the server to its first token."""
    found = [
        value
        for s in like
        for boot in s.test.boots
        if (value := boot.metrics.get("boot_first_token_s", boot.ready_s)) is not None
    ]
    return statistics.fmean(found) if found else None
