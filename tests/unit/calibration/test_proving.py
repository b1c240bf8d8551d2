"""Whether a planted slowdown was seen, and what is said when it was not."""

import pytest

from pytest_inferforge.calibration.proving import Proof
from pytest_inferforge.records import Comparison
from pytest_inferforge.records import ComparisonVerdict as V


def compared(verdict, metric="ttft_s.mean", *, mde=1.08, reason=""):
    return Comparison(nodeid="a", metric=metric, verdict=verdict, mde_ratio=mde, reason=reason)


def proof(unchanged, slowed, slowdown=0.1):
    return Proof(slowdown=slowdown, sessions=5, power=0.8, unchanged=tuple(unchanged), slowed=tuple(slowed))


GREEN, RED = compared(V.NOT_REGRESSED), compared(V.REGRESSED)


@pytest.mark.parametrize("unchanged", [V.NOT_REGRESSED, V.IMPROVED, V.INCONCLUSIVE])
def test_as_expected(unchanged):
    assert proof([compared(unchanged)], [GREEN, RED]).faults == ()


def test_a_red_session_without_a_change():
    (fault,) = proof([GREEN, compared(V.REGRESSED, "tpot_s.mean")], [RED]).faults
    assert "the unchanged session is red in a tpot_s.mean" in fault
    assert "inferforge calibrate" in fault


def test_too_small_a_slowdown_is_told_with_what_would_do():
    shown = [
        compared(V.INCONCLUSIVE, mde=1.2371),
        compared(V.INCONCLUSIVE, "tpot_s.mean", mde=1.1802),
        compared(V.INCONCLUSIVE, "ttft_beyond_ratio", mde=1.01),  # of a share: no slowdown
        compared(V.INCOMPARABLE, "ttft_s.p99", mde=None),
    ]
    (fault,) = proof([GREEN], shown).faults
    assert fault == (
        "10 % is below what this machine can see with 5 sessions; smallest that is red with power 80 %: 18 %"
        ' in a tpot_s.mean; try --slowdown "19 %", or more --sessions'
    )


def test_what_should_have_been_seen():
    (fault,) = proof([GREEN], [GREEN], slowdown=0.5).faults
    assert fault.startswith("50 % should have been seen with power 80 % (smallest: 8 % in a ttft_s.mean)")


def test_what_could_not_be_judged_proves_nothing():
    lost = compared(V.INCOMPARABLE, mde=None, reason="not measured: no valid boot")
    faults = proof([lost], [lost]).faults
    assert faults == (
        "the unchanged session could not be judged: not measured: no valid boot",
        "the slowed session could not be judged: not measured: no valid boot",
    )
    assert len(proof([], []).faults) == 2
