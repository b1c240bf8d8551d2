"""Quality for a person: tables, sentences, and the one line that joins it with speed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_inferforge.metrics import metric
from pytest_inferforge.outcomes import QualityKind, QualityVerdict
from pytest_inferforge.records import ComparisonVerdict
from pytest_inferforge.report.lines import Line, markup_of, table
from pytest_inferforge.units import format_value

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_inferforge.gate.drift import Drift
    from pytest_inferforge.outcomes import Outcomes, QualityResult
    from pytest_inferforge.quality.evaluation import Evaluation
    from pytest_inferforge.records import Comparison

_RED = (QualityVerdict.FAIL, QualityVerdict.REGRESSED)
_GREEN = (QualityVerdict.PASS, QualityVerdict.NOT_REGRESSED, QualityVerdict.IMPROVED)


def evaluation_lines(title: str, server: str, evaluation: Evaluation) -> list[Line]:
    """What one test's tasks came to on one boot."""
    lines = [
        Line(text=title, markup={"bold": True}),
        Line(text=f"  on {server}, lm-eval {evaluation.lm_eval_version}{_route(evaluation)}"),
        Line(text=f"  {_requests(evaluation)}"),
    ]
    rows: list[tuple[tuple[str, ...], dict[str, bool]]] = [(_task_row(o), {}) for o in evaluation.tasks]
    lines += table(("task", "score", "items", ""), rows)
    lines += [Line(text=f"    {line}") for line in _observed(evaluation)]
    return lines + [Line(text=f"  note: {note}") for note in evaluation.notes]


def result_lines(results: Sequence[QualityResult]) -> list[Line]:
    """A table of floors and one for each reference, then a sentence for each that is not plainly green."""
    lines: list[Line] = []
    if floors := [r for r in results if r.kind is QualityKind.AT_LEAST]:
        rows = [(_floor_row(r), _markup(r)) for r in floors]
        lines += table(("floor", "measured", "95 % bounds", "verdict", ""), rows)
        lines += _reasons(floors)
    pairs = [r for r in results if r.kind is not QualityKind.AT_LEAST]
    for said in dict.fromkeys(_against(r) for r in pairs):
        own = [r for r in pairs if _against(r) == said]
        rows = [(_row(r), _markup(r)) for r in own]
        lines.append(Line(text=f"  {said}:"))
        lines += table(("task", "now", "reference", "change", "at worst (95 %)", "verdict", ""), rows)
        lines += _reasons(own)
    return lines


def by_test(results: Sequence[QualityResult]) -> list[Line]:
    """The same under the name of each test."""
    lines: list[Line] = []
    for nodeid in dict.fromkeys(r.nodeid for r in results):
        lines.append(Line(text=f"{nodeid}: quality"))
        lines += [*result_lines([r for r in results if r.nodeid == nodeid]), Line(text="")]
    return lines


def drift_lines(drifts: Mapping[str, Drift]) -> list[Line]:
    """How far replies moved, task by task, and what moves though nothing changed."""
    return [
        Line(text=f"    drift of {task}: {'; '.join(said)}")
        for task, d in drifts.items()
        if (said := _drift(d))
    ]


def sentence(r: QualityResult) -> str:
    """`test_reasoning gsm8k not worse than baseline:main: inconclusive; ...`."""
    what = {
        QualityKind.NOT_WORSE_THAN: f"not worse than {r.reference}",
        QualityKind.AT_LEAST: f"at least {_share(r.limit)}",
        QualityKind.UNDER_LOAD: f"under load against {r.reference}",
    }[r.kind]
    test = r.nodeid.rpartition("/")[2]
    return f"{test} {r.task} {what}: {r.verdict}; {r.reason}"


def failure(red: Sequence[QualityResult], results: Sequence[QualityResult]) -> str:
    """The message of a test that its quality fails: what is red first, then all of it."""
    head = "; ".join(" ".join(filter(None, (_variant(r), r.task, _headline(r)))) for r in red)
    return "\n".join([f"quality: {head}", *(line.text for line in result_lines(results))])


def joint(comparisons: Sequence[Comparison], results: Sequence[QualityResult], *, failed: bool) -> str | None:
    """Speed and quality as one: `faster by 31 %, worse by 3.2 pt: fail`; None: one of them is missing."""
    speed, quality = _speed(comparisons), _quality(results)
    if speed is None or quality is None:
        return None
    return f"{speed}, {quality}: {'fail' if failed else 'pass'}"


def properties(results: Sequence[QualityResult]) -> dict[str, object]:
    """For JUnit: value and verdict of each."""
    found: dict[str, object] = {}
    for r in results:
        name = ".".join(part for part in ("inferforge.quality", _variant(r), r.task) if part)
        found[f"{name}.{r.kind}"] = str(r.verdict)
        if r.value is not None:
            found[name] = f"{r.value:.4g}"
    return found


# -- private ---------------------------------------------------------------------------------------------


def _speed(comparisons: Sequence[Comparison]) -> str | None:
    """The change of the loop's first metric, which comes first; what regressed goes before it."""
    known = [c for c in comparisons if c.ratio is not None and c.ratio > 0]
    if not known:
        return None
    worst = next((c for c in known if c.verdict is ComparisonVerdict.REGRESSED), known[0])
    assert worst.ratio is not None
    ratio = worst.ratio if metric(worst.metric).quantity.direction == "higher" else 1.0 / worst.ratio
    change = (ratio - 1.0) * 100.0
    if not worst.verdict.judged or worst.verdict is ComparisonVerdict.INCONCLUSIVE:
        return f"speed not shown ({change:+.1f} %)"
    if worst.verdict is ComparisonVerdict.NOT_REGRESSED:
        return f"as fast ({change:+.1f} %)"
    return f"faster by {change:.0f} %" if change > 0 else f"slower by {-change:.0f} %"


def _quality(results: Sequence[QualityResult]) -> str | None:
    known = [r for r in results if r.kind is QualityKind.NOT_WORSE_THAN and r.loss is not None]
    if not known:
        return None
    worst = max(known, key=lambda r: (r.verdict in _RED, r.verdict not in _GREEN, r.loss or 0.0))
    points = _points(abs(worst.loss or 0.0))
    if worst.verdict is QualityVerdict.REGRESSED:
        return f"worse by {points}"
    if worst.verdict is QualityVerdict.IMPROVED:
        return f"better by {points}"
    if worst.verdict is QualityVerdict.NOT_REGRESSED:
        return "as good"
    return f"quality not shown ({_signed(-(worst.loss or 0.0))})"


def _headline(r: QualityResult) -> str:
    doubt = "" if r.verdict in _RED else f"{r.verdict}: "
    if r.kind is QualityKind.AT_LEAST:
        return f"{doubt}{_share(r.value)}, at least {_share(r.limit)} is wanted"
    if r.loss is None:
        return f"{r.verdict} against {r.reference}"
    where = " under load" if r.kind is QualityKind.UNDER_LOAD else f" than {r.reference}"
    way = "better" if r.loss < 0 else "worse"
    shares = f"({_share(r.reference_value)} -> {_share(r.value)})"
    return f"{doubt}{_points(abs(r.loss))} {way}{where} {shares}"


def _against(r: QualityResult) -> str:
    variant = f"{_variant(r)} " if _variant(r) else ""
    load = "under load, " if r.kind is QualityKind.UNDER_LOAD else ""
    return f"{variant}{load}against {r.reference}"


def _variant(r: QualityResult) -> str:
    return r.nodeid.rpartition("::variant=")[2] if "::variant=" in r.nodeid else ""


def _markup(r: QualityResult) -> Mapping[str, bool]:
    return markup_of(red=r.verdict in _RED, green=r.verdict in _GREEN)


def _reasons(results: Sequence[QualityResult]) -> list[Line]:
    return [Line(text=f"    {r.task}: {r.reason}") for r in results if r.reason and r.verdict not in _GREEN]


def _floor_row(r: QualityResult) -> tuple[str, ...]:
    variant = f"{_variant(r)} " if _variant(r) else ""
    bounds = f"[{_share(r.lower)}, {_share(r.upper)}]"
    floor = f"{variant}{r.task} at least {_share(r.limit)}"
    return floor, _share(r.value), bounds, str(r.verdict), f"n = {r.n} items"


def _row(r: QualityResult) -> tuple[str, ...]:
    counted = f"{r.worse} worse, {r.better} better of {r.n}" if r.loss is not None else ""
    change = "-" if r.loss is None else _signed(-r.loss)
    bound = "-" if r.upper is None else _signed(-r.upper)
    return r.task, _share(r.value), _share(r.reference_value), change, bound, str(r.verdict), counted


def _task_row(outcomes: Outcomes) -> tuple[str, ...]:
    name = outcomes.metric if outcomes.filter == "none" else f"{outcomes.metric} ({outcomes.filter})"
    said = []
    if outcomes.chance is not None:
        said.append(f"a coin: {_share(outcomes.chance)}")
    if outcomes.perplexity is not None:
        said.append(f"perplexity {outcomes.perplexity:.3g}")
    for count, what in (
        (outcomes.unanswered, "unanswered"),
        (outcomes.truncated, "cut at the most tokens"),
        (outcomes.tied, "tied"),
    ):
        said += [f"{count} {what}"] if count else []
    items = len(outcomes.scores) + outcomes.unanswered
    return outcomes.task, f"{name} {_share(outcomes.value)}", str(items), ", ".join(said)


def _observed(evaluation: Evaluation) -> list[str]:
    return [
        f"{task}: " + ", ".join(f"{name.removesuffix(',none')} {value:.4g}" for name, value in found.items())
        for task, found in evaluation.observed.items()
        if found
    ]


def _requests(evaluation: Evaluation) -> str:
    r = evaluation.requests
    failed = ", ".join(f"{n} x {reason}" for reason, n in r.failed.items())
    parts = [f"{r.asked} requests in {format_value(evaluation.seconds, 's')}"]
    parts += [f"p50 {format_value(r.latency_s['p50'], 's')}"] if "p50" in r.latency_s else []
    parts += [f"{r.retried} sent again"] if r.retried else []
    parts += [f"failed: {failed}"] if failed else []
    parts += [f"{r.truncated} replies cut"] if r.truncated else []
    return ", ".join(parts)


def _route(evaluation: Evaluation) -> str:
    return f", log-likelihoods by {evaluation.route.replace('_', ' ')}" if evaluation.route else ""


def _drift(d: Drift) -> list[str]:
    said = []
    if d.replies:
        said.append(f"{d.changed} of {d.replies} replies changed")
        if d.diverged_at is not None:
            said.append(f"they part after {d.diverged_at:.0f} characters (median of {d.diverged})")
    elif d.flipped:
        said.append(f"{d.flipped} of {d.items} scores flipped")
    if d.kl_nats is not None:
        said.append(f"KL of the choices {d.kl_nats:.2g} nats")
    if d.perplexity_ratio is not None:
        said.append(f"perplexity x {d.perplexity_ratio:.4g}")
    if said and d.repeat is not None:
        changed = f", {d.repeat.changed} replies changed" if d.repeat.changed is not None else ""
        said.append(f"asked twice of one boot: {d.repeat.flipped} of {d.repeat.n} scores flipped{changed}")
    return said


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value * 100:.1f} %" if abs(value) <= 1 else f"{value:.3g}"


def _points(share: float) -> str:
    return f"{share * 100:.1f} pt"


def _signed(share: float) -> str:
    points = round(share * 100, 1)
    return f"{points:+.1f} pt" if points else "0.0 pt"
