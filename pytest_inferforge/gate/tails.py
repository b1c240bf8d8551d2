"""What a tail needs beside its quantile: the share beyond the reference's, and equal numbers of requests."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_inferforge.gate.evidence import BEYOND, differences, tail_metrics
from pytest_inferforge.records import RunVerdict
from pytest_inferforge.stats import tails

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pytest_inferforge.gate.abba import Slot
    from pytest_inferforge.gate.evidence import History
    from pytest_inferforge.records import BootResult, Comparison, SessionResult, TestResult

_ALIKE = 1.1  # so much more requests on one side change nothing that matters


def alike(
    current: SessionResult, history: History, under_test: frozenset[str]
) -> tuple[SessionResult, History]:
    """The same sessions with tails that can be compared, test by test."""
    if not any(boot.tails for test in current.tests for boot in test.boots):
        return current, history
    tests, by_test = [], dict(history.by_test)
    for test in current.tests:
        here = current.fingerprint.merged(test.fingerprint)
        stored = [
            s
            for s in history.by_test.get(test.nodeid, ())
            if not differences(here, s.fingerprint, under_test)
        ]
        side = [boot for s in stored for boot in _planned(s.test, s.session.planned_boots)]
        beyond = _limits(test.gated, side)
        fewest = _fewest((*side, *_planned(test, current.planned_boots)))
        tests.append(_changed(test, beyond, fewest))
        if stored:
            changed = {id(s): replace(s, test=_changed(s.test, beyond, fewest)) for s in stored}
            by_test[test.nodeid] = tuple(changed.get(id(s), s) for s in history.by_test[test.nodeid])
    return replace(current, tests=tuple(tests)), replace(history, by_test=by_test)


def alike_slots(drafts: Sequence[Comparison], slots: Sequence[Slot], base_arm: str) -> list[Slot]:
    """The same for boots in turns; the reference is what was measured on `base_arm`."""
    gated: dict[str, list[str]] = {}
    for draft in drafts:
        gated.setdefault(draft.nodeid, []).append(draft.metric)
    found = [dict(slot.boots) for slot in slots]
    for key, names in gated.items():
        boots = [slot.boots[key] for slot in slots if key in slot.boots and _valid(slot.boots[key])]
        side = [s.boots[key] for s in slots if s.arm == base_arm and key in s.boots and _valid(s.boots[key])]
        shares = {d.metric: d.reference_value for d in drafts if d.nodeid == key}
        beyond, fewest = _limits(names, side, shares), _fewest(boots)
        for boot in found:
            if key in boot:
                boot[key] = _changed_boot(boot[key], names, beyond, fewest)
    return [replace(slot, boots=boots) for slot, boots in zip(slots, found, strict=True)]


def _changed(test: TestResult, beyond: Mapping[str, float], fewest: int) -> TestResult:
    boots = tuple(_changed_boot(boot, test.gated, beyond, fewest) for boot in test.boots)
    shares = (BEYOND[quantity] for quantity in beyond)
    return replace(test, boots=boots, gated=tuple(dict.fromkeys((*test.gated, *shares))))


def _changed_boot(
    boot: BootResult, gated: Iterable[str], beyond: Mapping[str, float], fewest: int
) -> BootResult:
    """`beyond`: quantity -> the reference's quantile; `fewest`: requests of the smallest boot."""
    found = dict(boot.metrics)
    for quantity, limit in beyond.items():
        if upper := boot.tails.get(quantity):
            found[BEYOND[quantity]] = tails.share_above(upper, limit)
    if boot.requests.completed > _ALIKE * fewest:
        for quantity, q in tail_metrics(gated):
            if upper := boot.tails.get(quantity):
                found[f"{quantity}.p{q * 100:g}"] = tails.quantile_of_fewer(upper, q, fewest)
    return boot if found == boot.metrics else replace(boot, metrics=found)


def _limits(
    gated: Iterable[str], side: Sequence[BootResult], shares: Mapping[str, float | None] | None = None
) -> dict[str, float]:
    """Quantity -> the quantile of the reference's boots that `gated` names, or a share that is asked for.

    `shares`: metric -> what the reference's was at the first look, which tells the quantile behind a share.
    """
    said = shares or {}
    wanted = {q: 1.0 - (said[beyond] or 0.01) for q, beyond in BEYOND.items() if beyond in said}
    wanted |= dict(tail_metrics(gated))
    found = {}
    for quantity, q in wanted.items():
        uppers = [upper for boot in side if (upper := boot.tails.get(quantity))]
        if uppers and len(uppers) == len(side):
            found[quantity] = tails.pooled_quantile(uppers, q)
    return found


def _planned(test: TestResult, planned_boots: int) -> list[BootResult]:
    return [b for b in test.boots if b.boot <= planned_boots and _valid(b)]


def _valid(boot: BootResult) -> bool:
    return boot.verdict is RunVerdict.VALID


def _fewest(boots: Sequence[BootResult]) -> int:
    return min((b.requests.completed for b in boots), default=0)
