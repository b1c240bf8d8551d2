"""Service level objectives: how people write them, and what a measurement says about one."""

from pytest_inferforge.slo.checks import judge
from pytest_inferforge.slo.clause import Op, Slo, from_keyword, needed, parse, per_request_limits
from pytest_inferforge.slo.evidence import CAPACITY, DRIFTS, Evidence

__all__ = [
    "CAPACITY",
    "DRIFTS",
    "Evidence",
    "Op",
    "Slo",
    "from_keyword",
    "judge",
    "needed",
    "parse",
    "per_request_limits",
]
