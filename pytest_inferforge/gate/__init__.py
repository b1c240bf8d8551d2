"""The gate: one session against the stored ones, as values in and verdicts out."""

from pytest_inferforge.gate.abba import CONTROL, CURRENT, REFERENCE, Slot, decided_by_turns
from pytest_inferforge.gate.comparing import compare_session, detectable, detectable_in_turns
from pytest_inferforge.gate.covariates import moved_with
from pytest_inferforge.gate.evidence import changed_since, tests_not_exercised
from pytest_inferforge.gate.expectations import EXPECTATIONS, held_against
from pytest_inferforge.gate.history import series_of
from pytest_inferforge.gate.pipeline import Confirming, Measured, Turns, judge_against, judge_session
from pytest_inferforge.gate.scale import margin_of
from pytest_inferforge.stats.arms import in_turns

__all__ = [
    "CONTROL",
    "CURRENT",
    "EXPECTATIONS",
    "REFERENCE",
    "Confirming",
    "Measured",
    "Slot",
    "Turns",
    "changed_since",
    "compare_session",
    "decided_by_turns",
    "detectable",
    "detectable_in_turns",
    "held_against",
    "in_turns",
    "judge_against",
    "judge_session",
    "margin_of",
    "moved_with",
    "series_of",
    "tests_not_exercised",
]
