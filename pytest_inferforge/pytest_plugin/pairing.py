"""Qualities paired with a reference's, and a second boot for what looks worse. Knows no pytest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_inferforge.errors import InferforgeError
from pytest_inferforge.gate import quality as gate
from pytest_inferforge.outcomes import QualityVerdict

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pytest_inferforge.options import JudgeOptions
    from pytest_inferforge.outcomes import Outcomes, QualityKind, QualityResult

    ByTask = Mapping[str, Outcomes]
    Sides = tuple[ByTask, ByTask]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairing:
    """The tasks of one test beside a reference's. `key`: what the results stand under.

    `again`: the tasks named, asked of a fresh boot, with what they are to be paired with; or why not.
    """

    key: str
    kind: QualityKind
    current: ByTask
    base: ByTask
    reference: str
    margin: float
    again: Callable[[Sequence[str]], Sides | str]


def decided(
    pairings: Sequence[Pairing], *, family: int, options: JudgeOptions
) -> dict[str, tuple[QualityResult, ...]]:
    """The verdicts by key; all pairings are one family for Holm, or a part of one of so many."""
    weighed = [
        (pairing, _weighed(pairing, task, pairing.current, pairing.base, options))
        for pairing in pairings
        for task in pairing.current
    ]
    first = gate.decide_quality([w for _, w in weighed], family=family, options=options)
    by_key: dict[str, list[QualityResult]] = {}
    for (pairing, _), result in zip(weighed, first, strict=True):
        by_key.setdefault(pairing.key, []).append(result)
    return {
        pairing.key: tuple(_confirmed(pairing, by_key.get(pairing.key, []), options)) for pairing in pairings
    }


def _weighed(
    pairing: Pairing, task: str, current: ByTask, base: ByTask, options: JudgeOptions
) -> gate.WeighedQuality | QualityResult:
    return gate.compare_quality(
        current[task],
        base.get(task),
        nodeid=pairing.key,
        kind=pairing.kind,
        reference_name=pairing.reference,
        margin=pairing.margin,
        options=options,
    )


def _confirmed(
    pairing: Pairing, results: Sequence[QualityResult], options: JudgeOptions
) -> list[QualityResult]:
    """What looks worse is red only when a second boot says so too."""
    suspects = [r.task for r in results if r.verdict is QualityVerdict.REGRESSED]
    if not suspects:
        return list(results)
    try:
        sides = pairing.again(suspects)
    except InferforgeError as error:
        sides = str(error).partition("\n")[0]
    found = []
    for result in results:
        second: gate.WeighedQuality | QualityResult | str
        if isinstance(sides, str):
            second = sides
        elif result.task in suspects:
            second = _weighed(pairing, result.task, *sides, options)
        else:
            second = ""
        found.append(gate.confirm(result, second, options))
    return found
