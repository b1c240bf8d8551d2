"""The gate: one session against the stored ones, as values in and verdicts out."""

from pytest_inferforge.gate.comparing import compare_session, detectable
from pytest_inferforge.gate.evidence import changed_since, tests_not_exercised

__all__ = ["changed_since", "compare_session", "detectable", "tests_not_exercised"]
