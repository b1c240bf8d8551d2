"""Which stored evaluation a task of this session is paired with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pytest_inferforge.gate.evidence import differences, history_of
from pytest_inferforge.gate.quality import compare_quality, decide_quality, family_of
from pytest_inferforge.outcomes import QualityKind, QualityResult, QualityVerdict
from pytest_inferforge.records import Fingerprint

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_inferforge.gate.evidence import StoredTest
    from pytest_inferforge.options import JudgeOptions
    from pytest_inferforge.outcomes import Outcomes
    from pytest_inferforge.records import SessionResult, TestResult


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredQuality:
    """The outcomes of one stored session by task; `session` is its id. `refused`: why they are no reference,
    empty: they are. `before`: those of the session before it that is comparable too, for a second boot: the
    luck of one reference must not count twice; None: there is no other.
    """

    session: str
    outcomes: Mapping[str, Outcomes]
    refused: str = ""
    before: Mapping[str, Outcomes] | None = None


def stored_quality(
    current: SessionResult,
    test: TestResult,
    reference: Sequence[SessionResult],
    under_test: frozenset[str] = frozenset(),
) -> StoredQuality | None:
    """The newest accepted session that evaluated this test; None: there is none.

    One session and no mean of several: pairs are only fair when both sides are one run of the same process.
    Of the hard keys only those of the session count: what is asked does not depend on the hardware.
    `under_test`: identity keys that may differ.
    """
    stored = history_of(reference, without=current.id).by_test.get(test.nodeid, ())
    holding = [s for s in stored if s.test.quality]
    if not holding:
        return None
    here = Fingerprint(hard=current.fingerprint.hard, identity=test.fingerprint.identity)
    unlike = [_unlike(here, s, under_test) for s in holding]
    others = [s for s, other in zip(holding[1:], unlike[1:], strict=True) if not other]
    refused = f"measured under other conditions: {'; '.join(unlike[0])}" if unlike[0] else ""
    return StoredQuality(
        session=holding[0].session.id,
        outcomes=_by_task(holding[0].test),
        refused=refused,
        before=_by_task(others[0].test) if others else None,
    )


def _unlike(here: Fingerprint, stored: StoredTest, under_test: frozenset[str]) -> tuple[str, ...]:
    there = Fingerprint(hard=stored.session.fingerprint.hard, identity=stored.fingerprint.identity)
    return differences(here, there, under_test)


def _by_task(test: TestResult) -> dict[str, Outcomes]:
    return {outcomes.task: outcomes for outcomes in test.quality}


def unpaired(
    test: TestResult, stored: StoredQuality | None, *, reference_name: str
) -> tuple[QualityResult, ...]:
    """The results of a test that nothing stored can be paired with."""
    blank = QualityResult(
        nodeid=test.nodeid,
        task="",
        metric="",
        kind=QualityKind.NOT_WORSE_THAN,
        verdict=QualityVerdict.NO_BASELINE if stored is None else QualityVerdict.INCOMPARABLE,
        value=None,
        n=0,
        reference=reference_name,
        reason="the baseline has no accepted session with this test" if stored is None else stored.refused,
    )
    return tuple(
        replace(blank, task=o.task, metric=o.metric, value=o.value, n=len(o.scores)) for o in test.quality
    )


def judge_stored(
    current: SessionResult,
    reference: Sequence[SessionResult],
    *,
    name: str,
    options: JudgeOptions,
    under_test: frozenset[str] = frozenset(),
) -> tuple[QualityResult, ...]:
    """Every task of a stored session against a baseline, where no second boot can be asked.

    A loss is then red by one boot, and the reason says so.
    """
    found: list[QualityResult] = []
    weighed = []
    for test in current.tests:
        stored = stored_quality(current, test, reference, under_test)
        if stored is None or stored.refused:
            found += unpaired(test, stored, reference_name=f"baseline:{name}")
            continue
        weighed += [
            compare_quality(
                outcomes,
                stored.outcomes.get(outcomes.task),
                nodeid=test.nodeid,
                kind=QualityKind.NOT_WORSE_THAN,
                reference_name=f"baseline:{name}, session {stored.session}",
                margin=options.quality_margin if outcomes.margin is None else outcomes.margin,
                options=options,
            )
            for outcomes in test.quality
        ]
    decided = decide_quality(weighed, family=family_of(current, reference), options=options)
    return (*found, *(_by_one_boot(result) for result in decided))


def _by_one_boot(result: QualityResult) -> QualityResult:
    if result.verdict is not QualityVerdict.REGRESSED:
        return result
    return replace(result, reason=f"{result.reason}; by one boot, none could be asked a second time")
