"""Sessions and runs with known truth, for calibrating the judgement through its own functions."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import numpy as np

from pytest_inferforge.records import (
    BootResult,
    Fingerprint,
    RequestCounts,
    RequestRecord,
    RequestStatus,
    RunVerdict,
    SessionResult,
    TestResult,
)
from pytest_inferforge.table import RequestTable

METRICS = {"ttft_s.mean": 0.080, "ttft_s.p99": 0.240, "tpot_s.mean": 0.012}
INSIDE_TEST = 0.6  # correlation of a test's metrics: one slow boot is slow in all of them
ACROSS_TESTS = 0.5  # of the session's effect: the machine's part of it
FIRST_DAY = datetime(2026, 1, 5, tzinfo=UTC)

_COUNTS = RequestCounts(issued=1000, completed=1000, failed=0, cancelled=0)
_HOST = Fingerprint(hard={"cpu_model": "simulated"})
_WORKLOAD = Fingerprint(hard={"workload": "w1"}, identity={"model": "m"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Law:
    """How sessions and boots scatter. Standard deviations are on the log scale.

    `tail_df`: degrees of freedom of Student's t for the boots' noise (scaled to `boot_sd`); inf is normal.
    """

    boot_sd: float
    session_sd: float
    tests: int = 20
    tail_df: float = math.inf
    invalid: float = 0.0  # share of boots that are invalid


def stored_sessions(rng: np.random.Generator, law: Law, *, sessions: int, boots: int) -> list[SessionResult]:
    """One session a day."""
    return [session(rng, law, day=day, boots=boots) for day in range(sessions)]


def session(
    rng: np.random.Generator, law: Law, *, day: int, boots: int, slower: dict[int, float] | None = None
) -> SessionResult:
    """One session; `slower` maps a test's number to the factor on all its metrics."""
    shape = (law.tests, boots, len(METRICS))
    own = _correlated(_noise(rng, shape, law.tail_df), _noise(rng, (*shape[:2], 1), law.tail_df), INSIDE_TEST)
    machine = _correlated(rng.normal(size=(law.tests, 1, 1)), rng.normal(), ACROSS_TESTS)
    log_metrics = law.boot_sd * own + law.session_sd * machine
    for test, factor in (slower or {}).items():
        log_metrics[test] += math.log(factor)
    invalid = rng.random((law.tests, boots)) < law.invalid
    invalid[:, 0] = False  # an invalid boot is repeated once: some boot is valid
    return SessionResult(
        schema=1,
        id=f"day{day}",
        started_at=(FIRST_DAY + timedelta(days=day)).isoformat(),
        version="0",
        seed=1,
        fingerprint=_HOST,
        planned_boots=boots,
        complete=True,
        accepted=True,
        tests=tuple(_test(i, log_metrics[i], invalid[i]) for i in range(law.tests)),
    )


def as_session(whole: SessionResult, *, boot: int, day: int) -> SessionResult:
    """One boot of a session, as if it had been a session of its own."""
    alone = [replace(t, boots=(replace(t.boots[boot - 1], boot=1),)) for t in whole.tests]
    started_at = (FIRST_DAY + timedelta(days=day)).isoformat()
    return replace(whole, id=f"boot{boot}", started_at=started_at, planned_boots=1, tests=tuple(alone))


def ar1_lognormal(rng: np.random.Generator, n: int, *, sigma: float, phi: float) -> np.ndarray:
    """float64 (n,): a stationary log-normal series around 1 with that log-sd and lag-1 correlation."""
    steps = rng.normal(0.0, sigma * math.sqrt(1.0 - phi**2), n)
    log_values = np.empty(n)
    log_values[0] = rng.normal(0.0, sigma)
    for i in range(1, n):
        log_values[i] = phi * log_values[i - 1] + steps[i]
    return np.exp(log_values)


def run(ttft_s: np.ndarray) -> RequestTable:
    """A run of one boot in an open loop: a request every 1/8 s with the given TTFT, one token each."""
    rows = []
    for i, value in enumerate(ttft_s.tolist()):
        due, seen = i / 8.0, i / 8.0 + value
        rows.append(
            RequestRecord(
                index=i,
                id=str(i),
                status=RequestStatus.OK,
                prompt_tokens_asked=8,
                output_tokens_asked=1,
                output_tokens=1,
                due_s=due,
                send_s=due,
                first_token_s=seen,
                last_token_s=seen,
                end_s=seen,
                chunk_s=(seen,),
            )
        )
    return RequestTable.from_records(rows)


def _test(number: int, log_metrics: np.ndarray, invalid: np.ndarray) -> TestResult:
    values = np.exp(log_metrics) * np.array(list(METRICS.values()))
    return TestResult(
        nodeid=f"test_suite.py::test_{number}",
        fingerprint=_WORKLOAD,
        gated=tuple(METRICS),
        boots=tuple(
            BootResult(
                boot=k + 1,
                ready_s=1.0,
                requests=_COUNTS,
                metrics=dict(zip(METRICS, row, strict=True)),
                verdict=RunVerdict.INVALID if invalid[k] else RunVerdict.VALID,
            )
            for k, row in enumerate(values.tolist())
        ),
    )


def _noise(rng: np.random.Generator, shape: tuple[int, ...], tail_df: float) -> np.ndarray:
    """Unit variance."""
    if math.isinf(tail_df):
        return rng.normal(size=shape)
    return rng.standard_t(tail_df, size=shape) / math.sqrt(tail_df / (tail_df - 2.0))


def _correlated(own: np.ndarray, shared: np.ndarray | float, rho: float) -> np.ndarray:
    return math.sqrt(1.0 - rho) * own + math.sqrt(rho) * shared
