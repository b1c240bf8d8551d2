"""Tests that a baseline knows and a session did not measure, and under which new names they may go on."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_inferforge.records import SessionResult, TestResult

_NEAR = 0.6  # of difflib's ratio between two node ids


def names(tests: Iterable[TestResult]) -> tuple[str, ...]:
    """Their keys; classes of requests are not named beside the test that they are a part of."""
    keys = [test.nodeid for test in tests]
    whole = set(keys)
    return tuple(key for key in keys if key.rpartition("::class=")[0] not in whole)


def renamed(
    current: SessionResult, reference: Sequence[SessionResult], missing: Iterable[TestResult]
) -> dict[str, str]:
    """New test -> the missing one that it may have been, each at most once; the nearest names first.

    New is what no stored session holds. An equal workload counts for more than a near name.
    """
    known = {test.nodeid for session in reference for test in session.tests}
    gone = list(missing)
    said, fresh = set(names(gone)), set(names(current.tests)) - known
    pairs = sorted(
        (
            (_workload(new) == _workload(old), _nearness(new.nodeid, old.nodeid), new.nodeid, old.nodeid)
            for new in current.tests
            for old in gone
            if new.nodeid in fresh and old.nodeid in said
        ),
        reverse=True,
    )
    found: dict[str, str] = {}
    for _, nearness, new, old in pairs:
        if nearness >= _NEAR and new not in found and old not in found.values():
            found[new] = old
    return found


def _nearness(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other, autojunk=False).ratio()


def _workload(test: TestResult) -> str | None:
    return test.fingerprint.hard.get("workload")
