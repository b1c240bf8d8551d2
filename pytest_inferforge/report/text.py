"""What a person reads in the terminal: tables and sentences from results, as lines of text."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pytest_inferforge.metrics import METRICS, metric
from pytest_inferforge.records import ComparisonVerdict, SloVerdict
from pytest_inferforge.report.lines import Line, markup_of, table
from pytest_inferforge.report.server_lines import server_lines
from pytest_inferforge.units import format_value

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pytest_inferforge.records import Comparison, SloResult
    from pytest_inferforge.run import Run

_RED = (SloVerdict.FAIL, ComparisonVerdict.REGRESSED)
_GREEN = (SloVerdict.PASS, ComparisonVerdict.NOT_REGRESSED, ComparisonVerdict.IMPROVED)
_HEADLINE = (
    ("TTFT p50", "ttft_s.p50"), ("p99", "ttft_s.p99"), ("TPOT mean", "tpot_s.mean"), ("E2E p50", "e2e_s.p50"),
    ("output", "output_tok_per_s"), ("requests", "request_per_s"),
)  # fmt: skip


# -- runs and SLOs ---------------------------------------------------------------------------------------


def run_lines(run: Run, server: str) -> list[Line]:
    """What one run measured, and each of its SLOs."""
    title = run.nodeid + (f" [{run.name}]" if run.name else "")
    title += f", variant {run.variant}" if run.variant else ""
    if run.class_name:
        return [
            Line(text=f"{title}, class {run.class_name}", markup={"bold": True}),
            Line(text=f"  {_counts(run)}"),
            Line(text=f"  {_headline(run)}"),
            *_slo_lines(run),
        ]
    lines = [
        Line(text=title, markup={"bold": True}),
        Line(text=f"  {run.workload.describe()}"),
        Line(text=f"  on {server}, {_plural(len(run.boots), 'boot')}"),
        Line(text=f"  {_counts(run)}"),
        Line(text=f"  {_headline(run)}"),
        Line(text=f"  {_client(run)}"),
    ]
    lines += [
        Line(text=f"  {line}")
        for line in (*_network(run), *server_lines(run), *_conversation(run), *_steps(run))
    ]
    lines += [Line(text=f"  note: {note}") for note in _notes(run)]
    return lines + _slo_lines(run)


def _slo_lines(run: Run) -> list[Line]:
    shown = [r for r in run.slos if r.class_name == run.class_name]
    if not shown:
        return []
    lines = table(
        ("SLO", "measured", "95 % bounds", "verdict", ""),
        [(_slo_row(r), _markup(r.verdict)) for r in shown],
    )
    return lines + [Line(text=f"    {r.text}: {r.reason}") for r in shown if _explain(r)]


def slo_failure(red: Sequence[tuple[Run, SloResult]]) -> str:
    """The message of a test that its SLOs fail."""
    results = [result for _, result in red]
    head = f"{_plural(len(results), 'SLO')} not met: {', '.join(result.text for result in results)}"
    lines = [head, *(f"  {slo_sentence(result)}" for result in results)]
    for run, result in red:
        if result.metric == "error_ratio" and (failures := run.requests.failures()):
            lines.append(f"  failures: {', '.join(f'{n} x {reason}' for reason, n in failures.items())}")
            lines += [f"    first: {detail}" for detail in _first_detail(run)]
    return "\n".join(lines)


def slo_sentence(result: SloResult) -> str:
    """`ttft p99 < 300 ms: fail, measured 412 ms [380 ms, 455 ms]; ...`."""
    unit = metric(result.metric).quantity.unit
    return (
        f"{result.text}: {result.verdict}, measured {format_value(result.value, unit)} {_bounds(result)}"
        + (f"; {result.reason}" if result.reason else "")
    )


def run_properties(run: Run) -> dict[str, object]:
    """For JUnit: every metric that is gated or named by an SLO, and each SLO's verdict."""
    prefix = f"inferforge.{run.name}." if run.name else "inferforge."
    wanted = dict.fromkeys(
        [
            *(result.metric for result in run.slos),
            "ttft_s.mean", "ttft_s.p99", "tpot_s.mean", "output_tok_per_s", "error_ratio",
        ]
    )  # fmt: skip
    found = run.metrics
    properties: dict[str, object] = {}
    for name in wanted:
        if name in found:
            properties[prefix + name] = f"{found[name]:.6g}"
    for result in run.slos:
        properties[f"{prefix}slo.{result.text}"] = str(result.verdict)
    return properties


# -- comparisons -----------------------------------------------------------------------------------------


def comparison_lines(comparisons: Sequence[Comparison]) -> list[Line]:
    """A table of one test's comparisons, and a sentence for each that is not plainly green."""
    lines = table(
        ("metric", "now", "reference", "change", "90 % interval", "verdict", ""),
        [(_comparison_row(c), _markup(c.verdict)) for c in comparisons],
    )
    return lines + [
        Line(text=f"    {c.metric}: {line}")
        for c in comparisons
        if c.reason and (c.verdict is not ComparisonVerdict.NOT_REGRESSED or "worse" in c.reason)
        for line in (c.reason, *_turns(c))
    ]


def comparison_failure(
    comparisons: Sequence[Comparison], changed: Iterable[str], moved: Sequence[str] = ()
) -> str:
    """The message of a `.regression` item: a sentence, a table, what else changed and what moved with it."""
    red = [c for c in comparisons if c.verdict is ComparisonVerdict.REGRESSED]
    reference = comparisons[0].reference if comparisons else "its baseline"
    if red:
        worst = max(red, key=lambda c: _worse_factor(c) or 1.0)
        head = f"{_worse_words(worst)}, worse than {reference}"
    elif not any(c.verdict.judged for c in comparisons):
        head = f"nothing could be compared with {reference}"
    else:
        head = f"not shown to be as fast as {reference}"
    lines = [head, *(line.text for line in comparison_lines(comparisons))]
    if what := list(changed):
        lines.append(f"  changed since the baseline: {'; '.join(what)}")
    if moved:
        lines.append(f"  moved with it: {'; '.join(moved)}")
    return "\n".join(lines)


def variants_failure(why: str, comparisons: Sequence[Comparison]) -> str:
    """The message of a test whose variants are not what was expected of them."""
    lines = [why]
    for nodeid in dict.fromkeys(c.nodeid for c in comparisons):
        found = [c for c in comparisons if c.nodeid == nodeid]
        lines.append(f"  {nodeid.rpartition('variant=')[2]} against {found[0].reference}:")
        lines += [line.text for line in comparison_lines(found)]
    return "\n".join(lines)


def comparison_sentence(c: Comparison) -> str:
    """`test_chat ttft_s.p99 against baseline:main: inconclusive; ...`."""
    return f"{c.nodeid} {c.metric} against {c.reference}: {c.verdict}" + (f"; {c.reason}" if c.reason else "")


def comparison_properties(comparisons: Sequence[Comparison]) -> dict[str, object]:
    """For JUnit: verdict and ratio of each comparison."""
    properties: dict[str, object] = {}
    for c in comparisons:
        *_, test, last = ("", *c.nodeid.split("::"))
        name = f"inferforge.{test}.{last}" if last.startswith("class=") else f"inferforge.{last}"
        name = f"{name}.{c.metric}"
        properties[f"{name}.verdict"] = str(c.verdict)
        if c.ratio is not None:
            properties[f"{name}.ratio"] = f"{c.ratio:.4g}"
    return properties


def detectable_lines(found: Mapping[tuple[str, str], float | None]) -> list[str]:
    """What the gate will be able to see, a line a test."""
    by_test: dict[str, list[str]] = {}
    for (nodeid, name), ratio in found.items():
        quantity = metric(name).quantity
        by_test.setdefault(nodeid, []).append(f"{name} {_detectable(ratio, quantity.direction)}")
    return [f"  {nodeid}: {', '.join(parts)}" for nodeid, parts in by_test.items()]


def missing_lines(missing: Sequence[str], renamed: Mapping[str, str], *, fails: bool) -> list[Line]:
    """Tests of the baseline that were not measured; `renamed`: new test -> the one that it may have been."""
    markup = {"red": True} if fails else {"yellow": True}
    said = f"{_plural(len(missing), 'baseline')} not exercised: {', '.join(missing)}"
    if fails:
        said += " (the strict policy fails the session for it)"
    return [
        Line(text=said, markup=markup),
        *(Line(text=f"  {new} has no baseline; renamed from {old}?") for new, old in renamed.items()),
    ]


# -- private ---------------------------------------------------------------------------------------------


def _markup(verdict: SloVerdict | ComparisonVerdict) -> Mapping[str, bool]:
    return markup_of(red=verdict in _RED, green=verdict in _GREEN)


def _slo_row(r: SloResult) -> tuple[str, ...]:
    unit = metric(r.metric).quantity.unit
    things = r.unit.removesuffix("s") if r.n == 1 else r.unit
    counted = f"n = {r.n} {things}" + (f" (worth {r.n_effective:.0f})" if r.n - r.n_effective >= 1 else "")
    asked = " (asked of every load test)" if r.implicit else ""
    return r.text, format_value(r.value, unit), _bounds(r), str(r.verdict), counted + asked


def _bounds(r: SloResult) -> str:
    unit = metric(r.metric).quantity.unit
    if r.lower is None and r.upper is None:
        return "[no bounds]"
    lower = "-" if r.lower is None else format_value(r.lower, unit)
    upper = "-" if r.upper is None else format_value(r.upper, unit)
    return f"[{lower}, {upper}]"


def _explain(r: SloResult) -> bool:
    return bool(r.reason) and r.verdict is not SloVerdict.PASS and not (r.implicit and not r.misses_limit)


def _comparison_row(c: Comparison) -> tuple[str, ...]:
    unit = metric(c.metric).quantity.unit
    share = unit == "ratio" and c.reference_value is not None
    base = c.reference_value if share else None
    known = c.lower is not None and c.upper is not None
    interval = f"{_change(c.lower, base)} .. {_change(c.upper, base)}" if known else "-"
    what = "boot" if c.slots else "session"
    size = f"{_plural(c.n_reference, what)} x {_plural(c.n_current_boots, 'boot')}"
    values = format_value(c.value, unit), format_value(c.reference_value, unit)
    return (
        c.metric, *values, _change(c.ratio, base), interval, str(c.verdict), size,
    )  # fmt: skip


def _turns(c: Comparison) -> list[str]:
    """The boots of both sides, in their order."""
    if not c.slots:
        return []
    unit = metric(c.metric).quantity.unit
    sides = {name: [format_value(v, unit) for side, v in c.slots if side == name] for name, _ in c.slots}
    return ["; ".join(f"{name} {', '.join(values)}" for name, values in sorted(sides.items(), reverse=True))]


def _change(ratio: float | None, share: float | None = None) -> str:
    """`share`: what a share was before: its change is told in points."""
    if ratio is None:
        return "-"
    if share is not None and math.isfinite(ratio):
        return f"{(ratio - 1.0) * share * 100:+.1f} pt"
    if not math.isfinite(ratio):
        return "unbounded"
    return f"{(ratio - 1.0) * 100:+.1f} %"


def _worse_factor(c: Comparison) -> float | None:
    """How many times worse, at least 0; None: not known."""
    if c.ratio is None or c.ratio <= 0:
        return None
    return c.ratio if metric(c.metric).quantity.direction == "lower" else 1.0 / c.ratio


def _worse_words(c: Comparison) -> str:
    unit = metric(c.metric).quantity.unit
    before, now = format_value(c.reference_value, unit), format_value(c.value, unit)
    return f"{c.metric} {_change(c.ratio)} ({before} -> {now})"


def _detectable(ratio: float | None, direction: str) -> str:
    if ratio is None:
        return "too few sessions"
    change = (ratio - 1.0) * 100 if direction == "lower" else (1.0 / ratio - 1.0) * 100
    return f"{change:+.1f} %"


def _counts(run: Run) -> str:
    parts = [boot.result.requests for boot in run.boots]
    total = {
        name: sum(getattr(p, name) for p in parts) for name in ("issued", "completed", "failed", "cancelled")
    }
    text = f"{total['issued']} requests: {total['completed']} completed, {total['failed']} failed"
    if total["cancelled"]:
        text += f", {total['cancelled']} cut at the end"
    failures: dict[str, int] = {}
    for boot in run.boots:
        for reason, n in boot.requests.failures().items():
            failures[reason] = failures.get(reason, 0) + n
    if failures:
        text += f" ({', '.join(f'{n} x {reason}' for reason, n in failures.items())})"
    if run.class_name:
        return text
    return f"{text}; {parts[0].warmup} more to warm up" + (" each boot" if len(parts) > 1 else "")


def _headline(run: Run) -> str:
    found = run.metrics
    shown = [
        f"{label} {format_value(found[name], METRICS[name.partition('.')[0]].unit)}"
        for label, name in _HEADLINE
        if name in found
    ]
    return ", ".join(shown)


def _client(run: Run) -> str:
    found = run.metrics
    share = max(boot.client_cpu_share for boot in run.boots)
    lag = (
        f"schedule lag p99 {format_value(found['schedule_lag_s.p99'], 's')}, "
        if "schedule_lag_s.p99" in found
        else ""
    )
    priorities = ", ".join(dict.fromkeys(boot.client_priority for boot in run.boots))
    workers = max(boot.client_workers for boot in run.boots)
    each = f"{_plural(workers, 'worker')}, up to " if workers > 1 else ""
    return f"client: {lag}{_floor(run)}, {each}{share:.0%} of a core, {priorities} priority"


def _floor(run: Run) -> str:
    """The client's own error, to be seen beside every latency."""
    floor = run.boots[-1].client_floor
    if floor is None:
        return "own error not measured"
    p50, p99 = format_value(floor.ttft_error_p50_s, "s"), format_value(floor.ttft_error_p99_s, "s")
    again = f", measured {floor.attempts} times" if floor.attempts > 1 else ""
    return f"own error of TTFT {p50} (p50), {p99} (p99) at {floor.what.partition(',')[0]}{again}"


def _network(run: Run) -> list[str]:
    """What the wire took, which is in no service latency."""
    found = run.metrics
    named = {"connect_s.p50": "connect", "tls_s.p50": "TLS", "rtt_s.p50": "round trip"}
    parts = [f"{label} {format_value(found[name], 's')}" for name, label in named.items() if name in found]
    return [f"network (p50, in no service latency): {', '.join(parts)}"] if parts else []


def _conversation(run: Run) -> list[str]:
    if int(run.requests.counts["turn"].max(initial=0)) < 1:
        return []
    values = [format_value(value, "s") for value in run.by_turn("ttft_s.p50")]
    return [f"TTFT p50 by turn: {', '.join(values)}"]


def _steps(run: Run) -> list[str]:
    lines = []
    for boot in run.boots:
        for step in sorted(boot.steps, key=lambda step: step.rate_per_s):
            held = "every SLO held" if not step.broke else f"broke {step.broke[0]}"
            lines.append(f"step {format_value(step.rate_per_s, 'req/s')}: {held}")
    return lines


def _notes(run: Run) -> list[str]:
    return list(dict.fromkeys(note for boot in run.boots for note in (*boot.notes, *boot.result.reasons)))


def _first_detail(run: Run) -> list[str]:
    table = run.requests
    details = [table.texts["detail"][i] for i in range(len(table)) if table.failed[i]]
    return [detail for detail in details[:1] if detail]


def _plural(n: int, word: str) -> str:
    return f"{n} {word}" if n == 1 else f"{n} {word}s"
