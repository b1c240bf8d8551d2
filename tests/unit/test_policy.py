"""The table of the documentation: what each verdict does under each policy."""

import pytest

from pytest_inferforge import policy
from pytest_inferforge.policy import Consequence
from pytest_inferforge.records import Comparison, ComparisonVerdict, SloResult, SloVerdict

NONE, WARN, FAIL = Consequence
POLICIES = ("default", "strict", "observe")


def slo(verdict, *, misses=False, implicit=False):
    return SloResult(
        text="ttft p99 < 300 ms", metric="ttft_s.p99", verdict=SloVerdict(verdict), value=0.2, limit=0.3,
        lower=None, upper=None, n=10, n_effective=10.0, misses_limit=misses, implicit=implicit,
    )  # fmt: skip


def comparison(verdict):
    return Comparison(nodeid="test_a.py::test_a", metric="ttft_s.p99", verdict=ComparisonVerdict(verdict))


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (slo("pass"), (NONE, NONE, NONE)),
        (slo("fail", misses=True), (FAIL, FAIL, WARN)),
        (slo("fail", misses=True, implicit=True), (FAIL, FAIL, WARN)),
        (slo("inconclusive"), (WARN, FAIL, WARN)),
        (slo("inconclusive", misses=True), (FAIL, FAIL, WARN)),
        (slo("inconclusive", implicit=True), (NONE, NONE, NONE)),
        (slo("inconclusive", misses=True, implicit=True), (FAIL, FAIL, WARN)),
    ],
    ids=lambda value: (
        f"{value.verdict}-{value.misses_limit}-{value.implicit}" if isinstance(value, SloResult) else ""
    ),
)
def test_what_the_result_of_an_slo_does(result, expected):
    assert tuple(policy.of_slo(result, name) for name in POLICIES) == expected


@pytest.mark.parametrize(
    ("verdict", "expected"),
    [
        ("not_regressed", (NONE, NONE, NONE)),
        ("improved", (NONE, NONE, NONE)),
        ("regressed", (FAIL, FAIL, WARN)),
        ("inconclusive", (WARN, FAIL, WARN)),
        ("incomparable", (WARN, FAIL, WARN)),
        ("no_baseline", (WARN, FAIL, WARN)),
    ],
)
def test_what_a_comparison_does(verdict, expected):
    assert tuple(policy.of_comparison(comparison(verdict), name) for name in POLICIES) == expected


def test_a_gate_that_judged_nothing_fails_unless_its_baseline_is_being_begun():
    assert tuple(policy.of_unjudged(name, recording=False) for name in POLICIES) == (FAIL, FAIL, WARN)
    assert tuple(policy.of_unjudged(name, recording=True) for name in POLICIES) == (WARN, FAIL, WARN)
