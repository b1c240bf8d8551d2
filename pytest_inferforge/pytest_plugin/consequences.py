"""What verdicts do to a test, and what it says then. Knows no pytest."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_inferforge import policy as policies
from pytest_inferforge.policy import Consequence
from pytest_inferforge.report import quality_lines, text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_inferforge.outcomes import QualityResult
    from pytest_inferforge.pytest_plugin.variants import VariantRuns
    from pytest_inferforge.records import Comparison
    from pytest_inferforge.run import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """`failure`: why the test is red, empty: it is not. `warnings`: doubts. `properties`: for JUnit."""

    failure: str = ""
    warnings: tuple[str, ...] = ()
    properties: Mapping[str, object] = field(default_factory=dict)


def of_test(
    runs: Sequence[Run], varied: VariantRuns | None, quality: Sequence[QualityResult], policy: str
) -> Said:
    """By the SLOs of what a test measured, by its variants, and by the floors and pairs of its quality."""
    properties: dict[str, object] = {}
    for run in runs:
        properties |= text.run_properties(run)
    red = [(run, r) for run in runs for r in run.slos if policies.of_slo(r, policy) is Consequence.FAIL]
    doubts = [r for run in runs for r in run.slos if policies.of_slo(r, policy) is Consequence.WARN]
    warnings = [text.slo_sentence(r) for r in doubts]
    messages = [text.slo_failure(red)] if red else []
    graded = of_quality(quality, policy)
    if varied is not None:
        properties |= text.comparison_properties(varied.comparisons)
        said = policies.of_expectation(varied.missed, varied.doubt, policy)
        if said is not Consequence.NONE:
            message = text.variants_failure(varied.missed or varied.doubt, varied.comparisons)
            (messages if said is Consequence.FAIL else warnings).append(message)
    if graded.failure:
        messages.append(graded.failure)
    if messages and varied is not None:
        messages[:0] = joint_of_variants(varied.comparisons, quality, failed=True)
    return Said(
        failure="\n".join(messages),
        warnings=(*warnings, *graded.warnings),
        properties=properties | dict(graded.properties),
    )


def of_quality(results: Sequence[QualityResult], policy: str) -> Said:
    """By floors and pairs alone."""
    red = [r for r in results if policies.of_quality(r, policy) is Consequence.FAIL]
    doubts = [r for r in results if policies.of_quality(r, policy) is Consequence.WARN]
    return Said(
        failure=quality_lines.failure(red, results) if red else "",
        warnings=tuple(quality_lines.sentence(r) for r in doubts),
        properties=quality_lines.properties(results),
    )


def of_regression(
    found: Sequence[Comparison],
    quality: Sequence[QualityResult],
    policy: str,
    *,
    unjudged: Consequence | None,
    changed: Sequence[str],
    moved: Sequence[str],
) -> Said:
    """By the comparisons of one test. `unjudged`: what follows when no comparison of the session was judged,
    None: some were.
    """
    consequences = [unjudged or policies.of_comparison(c, policy) for c in found]
    of_graded = [unjudged or policies.of_quality(r, policy) for r in quality]
    failed = Consequence.FAIL in (*consequences, *of_graded)
    messages = []
    if failed:
        if said := quality_lines.joint(found, quality, failed=True):
            messages.append(said)
        if Consequence.FAIL in consequences:
            messages.append(text.comparison_failure(found, changed, moved))
        red = [r for r, c in zip(quality, of_graded, strict=True) if c is Consequence.FAIL]
        if red:
            messages.append(quality_lines.failure(red, quality))
    warned = [
        text.comparison_sentence(c)
        for c, what in zip(found, consequences, strict=True)
        if what is Consequence.WARN
    ]
    warned += [
        quality_lines.sentence(r)
        for r, what in zip(quality, of_graded, strict=True)
        if what is Consequence.WARN
    ]
    return Said(
        failure="\n".join(messages),
        warnings=tuple(warned),
        properties=text.comparison_properties(found) | quality_lines.properties(quality),
    )


def are_red(found: Sequence[Comparison], quality: Sequence[QualityResult], policy: str) -> bool:
    """Whether any of them fails its test."""
    return Consequence.FAIL in (
        *(policies.of_comparison(c, policy) for c in found),
        *(policies.of_quality(r, policy) for r in quality),
    )


def joint_of_variants(
    comparisons: Sequence[Comparison], results: Sequence[QualityResult], *, failed: bool
) -> list[str]:
    """A line for each variant: how much faster, how much worse, and whether that is green."""
    lines = []
    for key in dict.fromkeys(r.nodeid for r in results if "::variant=" in r.nodeid):
        own = [c for c in comparisons if c.nodeid == key]
        said = quality_lines.joint(own, [r for r in results if r.nodeid == key], failed=failed)
        if said:
            lines.append(f"{key.rpartition('::variant=')[2]}: {said}")
    return lines
