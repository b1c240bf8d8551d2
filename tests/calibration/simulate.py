"""Sessions and runs with known truth, for calibrating the judgement through its own functions."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import numpy as np

from pytest_inferforge import gate
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
from pytest_inferforge.stats import arms
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


class Day:
    """One session: what it does to each test, and boots in it for the asking.

    Source: y = mu + session + boot on the log scale, as in docs/how-it-judges.md.
    """

    def __init__(self, rng: np.random.Generator, law: Law) -> None:
        self._rng, self._law = rng, law
        shape = (law.tests, 1, 1)
        self.effect = law.session_sd * _correlated(rng.normal(size=shape), rng.normal(), ACROSS_TESTS)

    def boots(self, n: int, slower: dict[int, float] | None = None, drift: np.ndarray | float = 0.0):
        """float64 (tests, n, metrics): log metrics of n boots, without their level."""
        law = self._law
        shape = (law.tests, n, len(METRICS))
        shared = _noise(self._rng, (*shape[:2], 1), law.tail_df)
        own = _correlated(_noise(self._rng, shape, law.tail_df), shared, INSIDE_TEST)
        log_metrics = law.boot_sd * own + self.effect + drift
        for test, factor in (slower or {}).items():
            log_metrics[test] += math.log(factor)
        return log_metrics


def session(
    rng: np.random.Generator, law: Law, *, day: int, boots: int, slower: dict[int, float] | None = None
) -> SessionResult:
    """One session; `slower` maps a test's number to the factor on all its metrics."""
    return result_of(rng, law, Day(rng, law).boots(boots, slower), day=day)


def result_of(rng: np.random.Generator, law: Law, log_metrics: np.ndarray, *, day: int) -> SessionResult:
    """A session with these boots, some of them invalid as the law wants."""
    boots = log_metrics.shape[1]
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


def more_boots(
    day: Day, law: Law, *, bootable: bool, slower: dict[int, float] | None, pairs: int, extra: int
):
    """What the gate may ask for in that session, and a list that counts how often it did."""
    asked: list[tuple[str, ...]] = []

    def turns(keys):
        asked.append(keys)
        slots = []
        for arm in arms.in_turns((gate.REFERENCE, gate.CURRENT), pairs):
            log_metrics = day.boots(1, slower if arm == gate.CURRENT else None)
            slots.append(gate.Slot(arm=arm, boots=_results(log_metrics, keys, first=1, one=True)))
        return gate.Measured(slots=tuple(slots))

    def confirming(keys):
        asked.append(keys)
        return gate.Measured(boots=_results(day.boots(extra, slower), keys, first=2, one=False))

    can = {f"test_suite.py::test_{k}" for k in range(law.tests)}
    if bootable:
        return gate.Turns(name="against:reference", can=can, measure=turns), asked
    return gate.Confirming(can=can, measure=confirming), asked


def _results(log_metrics: np.ndarray, keys, *, first: int, one: bool):
    found = {}
    for key in keys:
        number = int(key.rpartition("_")[2])
        boots = _boots(log_metrics[number], np.zeros(log_metrics.shape[1], dtype=bool), first=first)
        found[key] = boots[0] if one else boots
    return found


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


def run(ttft_s: np.ndarray, failed: np.ndarray | None = None) -> RequestTable:
    """A run of one boot in an open loop: a request every 1/8 s with the given TTFT, one token each.

    `failed`: bool (n,).
    """
    made = _template(len(ttft_s))
    seen = made.times["due_s"] + ttft_s
    later = dict.fromkeys(("first_token_s", "last_token_s", "end_s"), seen)
    status = made.status if failed is None else failed.astype(np.int8)
    return replace(made, times={**made.times, **later}, chunk_s=seen, status=status)


@functools.lru_cache(maxsize=64)
def _template(n: int) -> RequestTable:
    rows = [
        RequestRecord(
            index=i,
            id=str(i),
            status=RequestStatus.OK,
            prompt_tokens_asked=8,
            output_tokens_asked=1,
            output_tokens=1,
            due_s=i / 8.0,
            send_s=i / 8.0,
            chunk_s=(i / 8.0,),
        )
        for i in range(n)
    ]
    return RequestTable.from_records(rows)


def _test(number: int, log_metrics: np.ndarray, invalid: np.ndarray) -> TestResult:
    return TestResult(
        nodeid=f"test_suite.py::test_{number}",
        fingerprint=_WORKLOAD,
        gated=tuple(METRICS),
        boots=_boots(log_metrics, invalid, first=1),
    )


def _boots(log_metrics: np.ndarray, invalid: np.ndarray, *, first: int) -> tuple[BootResult, ...]:
    values = np.exp(log_metrics) * np.array(list(METRICS.values()))
    return tuple(
        BootResult(
            boot=first + k,
            ready_s=1.0,
            requests=_COUNTS,
            metrics=dict(zip(METRICS, row, strict=True)),
            verdict=RunVerdict.INVALID if invalid[k] else RunVerdict.VALID,
        )
        for k, row in enumerate(values.tolist())
    )


def _noise(rng: np.random.Generator, shape: tuple[int, ...], tail_df: float) -> np.ndarray:
    """Unit variance."""
    if math.isinf(tail_df):
        return rng.normal(size=shape)
    return rng.standard_t(tail_df, size=shape) / math.sqrt(tail_df / (tail_df - 2.0))


def _correlated(own: np.ndarray, shared: np.ndarray | float, rho: float) -> np.ndarray:
    return math.sqrt(1.0 - rho) * own + math.sqrt(rho) * shared
