"""Every gated metric of a session against a baseline: what is weighed, and Holm over the family."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_inferforge import metrics
from pytest_inferforge.gate import tails
from pytest_inferforge.gate.evidence import differences, history_of, stored_values
from pytest_inferforge.gate.scale import margin_of, scale_of
from pytest_inferforge.gate.verdicts import Weighed, decide, detectable_ratio, unless_regressed
from pytest_inferforge.gate.weighing import sd_floor, weigh
from pytest_inferforge.records import Comparison, ComparisonVerdict
from pytest_inferforge.stats.multiplicity import holm

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from pytest_inferforge.gate.evidence import History
    from pytest_inferforge.gate.scale import Scale
    from pytest_inferforge.options import JudgeOptions
    from pytest_inferforge.records import SessionResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Screened:
    """The comparisons of a session, weighed; a `Comparison` among them is decided without weighing.

    `family`: of how many comparisons this is a part. `alpha_share`: of alpha that this family may spend.
    """

    weighed: tuple[Weighed | Comparison, ...]
    family: int
    alpha_share: float = 1.0

    def adjusted(self) -> tuple[float, ...]:
        """p of each, after Holm over the family; 1 for what was not weighed."""
        p = [w.difference.p_worse for w in self.weighed if isinstance(w, Weighed)]
        after = iter(holm(p, self.family))
        return tuple(
            min(1.0, next(after) / self.alpha_share) if isinstance(w, Weighed) else 1.0 for w in self.weighed
        )

    def decided(self, options: JudgeOptions) -> tuple[Comparison, ...]:
        """The verdicts that this evidence gives."""
        return tuple(
            decide(w, p, self.family, options) if isinstance(w, Weighed) else w
            for w, p in zip(self.weighed, self.adjusted(), strict=True)
        )


def compare_session(
    current: SessionResult,
    reference: Sequence[SessionResult],
    *,
    name: str,
    options: JudgeOptions,
    under_test: frozenset[str] = frozenset(),
) -> tuple[Comparison, ...]:
    """Every gated metric of every test of this session against the accepted sessions of baseline `name`.

    A session is one observation, whatever its number of boots: the mean over its planned valid boots, the
    stored ones cut to as many boots as there are now. The family of Holm's rule is at least as large as the
    newest complete stored session's, so that a part of a suite is judged like the whole.
    `under_test`: identity keys that may differ.

    Source: docs/how-it-judges.md; Student 1908, Holm 1979.
    """
    return screen(current, reference, name=name, options=options, under_test=under_test).decided(options)


def screen(
    current: SessionResult,
    reference: Sequence[SessionResult],
    *,
    name: str,
    options: JudgeOptions,
    under_test: frozenset[str] = frozenset(),
) -> Screened:
    """The first look, as `compare_session`, before anything is decided."""
    history = history_of(reference, without=current.id)
    current, history = tails.alike(current, history, under_test)
    drafts = [
        (test, Comparison(
            nodeid=test.nodeid,
            metric=metric_id,
            verdict=ComparisonVerdict.INCOMPARABLE,
            reference=f"baseline:{name}",
            margin=margin_of(metrics.metric(metric_id), options),
        ))
        for test in current.tests
        for metric_id in test.gated
    ]  # fmt: skip
    weighed = tuple(weigh(draft, current, test, history, options, under_test) for test, draft in drafts)
    graded = sum(len(test.quality) for test in current.tests)
    return Screened(weighed=weighed, family=max(history.family_size, len(weighed) + graded))


def suspicious(weighed: Weighed | Comparison, options: JudgeOptions) -> bool:
    """Worse as it looks, by a good part of the margin, and not shown to be inside it: worth more boots."""
    if not isinstance(weighed, Weighed):
        return False
    d, margin = weighed.difference, weighed.draft.margin or 0.0
    enough = options.screen_margin_share * weighed.scale.worse_shift(weighed.base, margin)
    if d.p_worse > options.screen_alpha or d.diff < enough:
        return False
    return unless_regressed(weighed) is ComparisonVerdict.INCONCLUSIVE


def detectable(
    reference: Sequence[SessionResult], nodeids: Collection[str], *, boots: int, options: JudgeOptions
) -> dict[tuple[str, str], float | None]:
    """What these tests would see with so many boots, before any is run: (nodeid, metric id) -> ratio > 1.

    The smallest worsening that would be red with the power asked for, after Holm over the family. None:
    the baseline is too small. Of each test only the sessions comparable with its newest one count; a test
    that the baseline does not hold is absent.
    """
    history = history_of(reference)
    spreads = _spreads(history, nodeids, boots=boots, options=options)
    family = max(history.family_size, len(spreads))
    return {
        key: None if s is None else detectable_ratio(s.scale, s.base, s.sd, s.n, s.margin, family, options)
        for key, s in spreads.items()
    }


def detectable_in_turns(
    reference: Sequence[SessionResult], nodeids: Collection[str], *, pairs: int, options: JudgeOptions
) -> dict[tuple[str, str], float | None]:
    """The same of so many pairs of boots in turns, for one comparison that looks worse.

    Boots of one session are taken to differ as much as sessions do, which is too much where sessions differ.
    """
    spreads = _spreads(history_of(reference), nodeids, boots=1, options=options)
    return {
        key: None
        if s is None
        else detectable_ratio(s.scale, s.base, s.sd, pairs, s.margin, 1, options, m=pairs, spent_df=3)
        for key, s in spreads.items()
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Spread:
    """How the stored sessions of one test lie in one metric."""

    scale: Scale
    base: float
    sd: float
    n: int
    margin: float


def _spreads(
    history: History, nodeids: Collection[str], *, boots: int, options: JudgeOptions
) -> dict[tuple[str, str], _Spread | None]:
    """(nodeid, metric id) of what the baseline holds -> its spread; None: too few sessions."""
    found: dict[tuple[str, str], _Spread | None] = {}
    for nodeid in nodeids:
        stored = history.by_test.get(nodeid, ())
        for metric_id in stored[0].test.gated if stored else ():
            metric = metrics.metric(metric_id)
            scale = scale_of(metric)
            like = [s for s in stored if not differences(stored[0].fingerprint, s.fingerprint, frozenset())]
            values = stored_values(like, metric_id, scale, boots=boots, window=options.window_sessions)
            found[nodeid, metric_id] = None
            if len(values) >= options.min_sessions:
                found[nodeid, metric_id] = _Spread(
                    scale=scale,
                    base=statistics.fmean(v.point for v in values),
                    sd=max(statistics.stdev(v.point for v in values), sd_floor(values, scale, options)),
                    n=len(values),
                    margin=margin_of(metric, options),
                )
    return found
