"""What a verdict does to its test: nothing, a warning, or a failure."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from pytest_inferforge.outcomes import QualityVerdict
from pytest_inferforge.records import ComparisonVerdict, SloVerdict

if TYPE_CHECKING:
    from pytest_inferforge.outcomes import QualityResult
    from pytest_inferforge.records import Comparison, SloResult


class Consequence(StrEnum):
    """What follows from a verdict."""

    NONE = "none"
    WARN = "warn"
    FAIL = "fail"


def of_slo(result: SloResult, policy: str) -> Consequence:
    """An undecided error check that nobody asked for and that meets its limit is shown, no more."""
    if result.verdict is SloVerdict.PASS:
        return Consequence.NONE
    if result.verdict is SloVerdict.INCONCLUSIVE and result.implicit and not result.misses_limit:
        return Consequence.NONE
    if policy == "observe":
        return Consequence.WARN
    fails = result.verdict is SloVerdict.FAIL or policy == "strict" or result.misses_limit
    return Consequence.FAIL if fails else Consequence.WARN


def of_comparison(comparison: Comparison, policy: str) -> Consequence:
    """Red is for `regressed`; doubt warns, and fails under the strict policy."""
    if comparison.verdict in (ComparisonVerdict.NOT_REGRESSED, ComparisonVerdict.IMPROVED):
        return Consequence.NONE
    if policy == "observe":
        return Consequence.WARN
    red = comparison.verdict is ComparisonVerdict.REGRESSED or policy == "strict"
    return Consequence.FAIL if red else Consequence.WARN


def of_quality(result: QualityResult, policy: str) -> Consequence:
    """As of SLOs for a floor, as of comparisons for what is paired."""
    if result.verdict in (QualityVerdict.PASS, QualityVerdict.NOT_REGRESSED, QualityVerdict.IMPROVED):
        return Consequence.NONE
    if policy == "observe":
        return Consequence.WARN
    red = result.verdict in (QualityVerdict.FAIL, QualityVerdict.REGRESSED)
    return Consequence.FAIL if red or policy == "strict" or result.misses_limit else Consequence.WARN


def of_expectation(missed: str, doubt: str, policy: str) -> Consequence:
    """Of variants: `missed` says why an expectation is not met, `doubt` why it is not shown."""
    if not missed and not doubt:
        return Consequence.NONE
    return Consequence.FAIL if policy == "strict" or (missed and policy != "observe") else Consequence.WARN


def of_unjudged(policy: str, *, recording: bool) -> Consequence:
    """A test none of whose comparisons was judged; `recording`: its baseline is being begun."""
    lenient = policy == "observe" or (recording and policy != "strict")
    return Consequence.WARN if lenient else Consequence.FAIL
