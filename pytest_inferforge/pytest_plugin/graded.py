"""The quality of a session in words and as results. Decides nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_inferforge.gate.drift import drift_of
from pytest_inferforge.gate.stored_quality import stored_quality
from pytest_inferforge.pytest_plugin import consequences
from pytest_inferforge.report import quality_lines
from pytest_inferforge.report.lines import Line

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_inferforge.outcomes import Outcomes, QualityResult
    from pytest_inferforge.pytest_plugin.grading import Graded
    from pytest_inferforge.pytest_plugin.qualities import VariantQualities
    from pytest_inferforge.pytest_plugin.session import InferSession


def lines(session: InferSession) -> list[Line]:
    """Every evaluation with its verdicts, and what it is paired with."""
    found: list[Line] = []
    for graded in session.graded:
        quality = graded.quality
        variant = f", variant {quality.variant}" if quality.variant else ""
        title = f"{quality.nodeid}{variant}: quality"
        found += quality_lines.evaluation_lines(title, _server(session, graded), quality.evaluation)
        if quality.loaded is not None:
            found.append(Line(text=f"  asked again while load ran ({quality.load}):"))
            found += quality_lines.evaluation_lines("", _server(session, graded), quality.loaded)[2:]
        found += quality_lines.result_lines(_results(session, graded))
        if base := _base(session, graded):
            drifts = {
                task: drift
                for task, outcomes in quality.outcomes.items()
                if task in base and (drift := drift_of(outcomes, base[task])) is not None
            }
            found += quality_lines.drift_lines(drifts)
        found += [Line(text=f"  {said}", markup={"bold": True}) for said in _joint(session, graded)]
        found.append(Line(text=""))
    return found


def results(session: InferSession) -> list[QualityResult]:
    """All verdicts on quality."""
    return [result for graded in session.graded for result in _results(session, graded)]


def _results(session: InferSession, graded: Graded) -> list[QualityResult]:
    own = [replace(r, nodeid=graded.key) for r in graded.quality.results]
    if (varied := _varied(session, graded)) is not None:
        return own + [r for r in varied.results if r.nodeid == graded.key]
    return own + list(session.quality_results.get(graded.key, ()))


def _varied(session: InferSession, graded: Graded) -> VariantQualities | None:
    if not graded.quality.variant:
        return None
    return session.grading.varied.get(graded.declared.key)


def _base(session: InferSession, graded: Graded) -> Mapping[str, Outcomes] | None:
    """What it is paired with; None: nothing."""
    if (varied := _varied(session, graded)) is not None:
        first = next(iter(varied.values()))
        return None if first is graded.quality else first.outcomes
    if graded.quality.variant or not session.reference:
        return None
    current = session.result(complete=False, accepted=False)
    test = next(test for test in current.tests if test.nodeid == graded.key)
    stored = stored_quality(current, test, session.reference, session.settings.gate.under_test)
    return None if stored is None or stored.refused else stored.outcomes


def _joint(session: InferSession, graded: Graded) -> list[str]:
    """Speed and quality in one line, of what has both."""
    found = _results(session, graded)
    varied = session.runs.varied.get(graded.declared.key)
    if varied is not None:
        own = [c for c in varied.comparisons if c.nodeid == graded.key]
    else:
        own = list((session.comparisons or {}).get(graded.key, ()))
    failed = graded.quality.nodeid in session.failed_items or consequences.are_red(
        own, found, session.settings.policy
    )
    said = quality_lines.joint(own, found, failed=failed)
    return [said] if said else []


def _server(session: InferSession, graded: Graded) -> str:
    spec = graded.declared.server
    served = session.runs.servers.get(graded.quality.server_number, {}).get("model")
    return replace(spec, model=spec.model or served).describe()
