"""The quality of a session against stored sessions, or against a reference server. Knows no pytest."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_inferforge.errors import InferforgeError
from pytest_inferforge.gate.quality import family_of
from pytest_inferforge.gate.stored_quality import StoredQuality, stored_quality, unpaired
from pytest_inferforge.pytest_plugin.pairing import decided

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_inferforge.outcomes import QualityResult
    from pytest_inferforge.pytest_plugin.grading import Graded, Grading
    from pytest_inferforge.pytest_plugin.pairing import Pairing
    from pytest_inferforge.pytest_plugin.settings import Settings
    from pytest_inferforge.records import SessionResult
    from pytest_inferforge.servers.spec import ServerSpec


def judge(
    grading: Grading, current: SessionResult, reference: Sequence[SessionResult], settings: Settings
) -> dict[str, tuple[QualityResult, ...]]:
    """Every task of every test that is no variant: key of the test -> its results."""
    found: dict[str, tuple[QualityResult, ...]] = {}
    pairings: list[Pairing] = []
    for graded in grading.finished:
        if graded.quality.variant:
            continue
        paired = _paired(graded, grading, current, reference, settings)
        if isinstance(paired, tuple):
            found[graded.key] = paired
        else:
            pairings.append(paired)
    family = family_of(current, reference)
    return found | decided(pairings, family=family, options=settings.judge)


def _paired(
    graded: Graded,
    grading: Grading,
    current: SessionResult,
    reference: Sequence[SessionResult],
    settings: Settings,
) -> Pairing | tuple[QualityResult, ...]:
    """What one test is paired with, or why with nothing."""
    declared, quality = graded.declared, graded.quality
    test = next(test for test in current.tests if test.nodeid == graded.key)
    stored = stored_quality(current, test, reference, settings.gate.under_test)
    if declared.against is not None and (stored is None or stored.refused):
        name = f"against:{settings.gate.against}"
        try:
            return _against(graded, grading, declared.against, name)
        except InferforgeError as error:  # the other tests are judged all the same
            first = str(error).partition("\n")[0]
            nothing = StoredQuality(
                session="", outcomes={}, refused=f"the reference was not evaluated: {first}"
            )
            return unpaired(test, nothing, reference_name=name)
    named = f"baseline:{settings.compare}"
    if stored is None or stored.refused:
        return unpaired(test, stored, reference_name=named)
    again = stored.outcomes if stored.before is None else stored.before
    return grading.pairing(
        declared,
        key=graded.key,
        quality=quality,
        base=stored.outcomes,
        reference=f"{named}, session {stored.session}",
        second_base=lambda _tasks: again,
    )


def _against(graded: Graded, grading: Grading, spec: ServerSpec, named: str) -> Pairing:
    """With a server that is booted here for it, and for the second look booted again."""
    declared = replace(graded.declared, server=spec)
    base = grading.of_reference(declared)
    return grading.pairing(
        graded.declared,
        key=graded.key,
        quality=graded.quality,
        base=base.outcomes,
        reference=named,
        second_base=lambda tasks: grading.again(declared, spec, tasks, after_s=base.seconds).outcomes,
    )
