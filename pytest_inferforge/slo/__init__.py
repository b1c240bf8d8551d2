"""Service level objectives: how people write them, and what a measurement says about one."""

from pytest_inferforge.slo.checks import judge
from pytest_inferforge.slo.clause import (
    Op,
    Slo,
    claimed_of,
    from_keyword,
    needed,
    parse,
    per_request_limits,
)
from pytest_inferforge.slo.evidence import CAPACITY, DRIFTS, Evidence
from pytest_inferforge.slo.shares import (
    Looking,
    Sample,
    decided,
    least_requests,
    outcomes,
    sequential_clause,
)

__all__ = [
    "CAPACITY",
    "DRIFTS",
    "Evidence",
    "Looking",
    "Op",
    "Sample",
    "Slo",
    "claimed_of",
    "decided",
    "from_keyword",
    "judge",
    "least_requests",
    "needed",
    "outcomes",
    "parse",
    "per_request_limits",
    "sequential_clause",
]
