"""A session in words and as a document: gathers what `report` prints. Decides nothing."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from pytest_inferforge import gate
from pytest_inferforge.baselines import vanished
from pytest_inferforge.pytest_plugin import graded, planning
from pytest_inferforge.report import document, text
from pytest_inferforge.report.lines import Line
from pytest_inferforge.units import format_value

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_inferforge.pytest_plugin.declared import Declared
    from pytest_inferforge.pytest_plugin.runs import Finished
    from pytest_inferforge.pytest_plugin.session import InferSession
    from pytest_inferforge.run import RunBoot

BANNER = (
    "inferforge: no backend is named, so the embedded llama.cpp serves forge-tiny, a toy model.",
    "  It shows how this works, on any laptop. Your own: --infer-backend, --infer-model, --infer-url.",
)


def collection_lines(session: InferSession) -> list[str]:
    """What will be run on what, and what the gate will be able to see."""
    declared = session.declared.values()
    if not declared:
        return []
    settings = session.settings
    lines: list[str] = []
    if not all(d.backend_named for d in declared):
        lines += BANNER
    servers = dict.fromkeys(d.server.describe() for d in declared)
    what = "quick: a few requests each, nothing judged" if settings.quick else f"policy {settings.policy}"
    lines.append(f"inferforge: {'; '.join(servers)}; boots {settings.boots}; {what}")
    lines += _notes(declared)
    lines += [f"  {line}" for line in session.reaped]
    if settings.gate.plan:
        plan = planning.lines(list(declared), session.reference, settings)
        return lines + [f"  {line}" for line in plan]
    if settings.compare is not None:
        detectable = session.detectable()
        count = len(session.reference)
        wanted = settings.judge.wanted_sessions
        few = f" ({wanted} are wanted)" if count < wanted else ""
        lines.append(f"  baseline {settings.compare}: {count} session{'' if count == 1 else 's'}{few}")
        if detectable:
            lines.append("  smallest change for the worse that this session can see (power 80 %):")
            lines += [f"  {line}" for line in text.detectable_lines(detectable)]
    return lines


def _notes(declared: Iterable[Declared]) -> list[str]:
    """Each note once, with the test it is about, or how many there are."""
    about: dict[str, list[str]] = {}
    for d in declared:
        for note in d.notes:
            about.setdefault(note, []).append(d.nodeid)
    return [
        f"  {ids[0]}{f' and {len(ids) - 1} more' if len(ids) > 1 else ''}: {note}"
        for note, ids in about.items()
    ]


def summary(session: InferSession, saved: Sequence[str]) -> list[Line]:
    """Every run with its SLOs, every comparison, and what was not judged."""
    lines: list[Line] = []
    for done in session.runs.finished:
        lines += text.run_lines(done.run, _server(session, done))
        if session.comparisons and (found := session.comparisons.get(done.key)):
            lines.append(Line(text=f"  against {_reference(session)}:"))
            lines += text.comparison_lines(found)
        lines += _variant_lines(session, done)
        lines.append(Line(text=""))
    lines += graded.lines(session)
    lines += [Line(text=line) for line in _comparing(session)]
    lines += _missing(session)
    lines += [Line(text=line) for line in saved]
    if session.settings.quick:
        lines.append(Line(text="--infer-quick: nothing was judged", markup={"yellow": True}))
    if session.runs.finished or session.graded or session.errors:
        lines.append(Line(text=f"requests and logs: {session.run_dir} (seed {session.settings.load.seed})"))
    return lines


def content(session: InferSession, exit_reason: str) -> dict[str, Any]:
    """The JSON document of this session."""
    result = session.result(complete=session.complete, accepted=session.accepted)
    return document.document(
        result,
        verdict=_verdict(session),
        exit_reason=exit_reason,
        tests=[done.result for done in session.runs.finished],
        slos={
            done.key: [r for r in done.run.slos if r.class_name == done.run.class_name]
            for done in session.runs.finished
        },
        boots={done.key: [_told(boot) for boot in done.run.boots] for done in session.runs.finished},
        names={
            done.key: (
                done.run.nodeid,
                done.run.name or None,
                done.run.class_name or None,
                done.run.variant or None,
            )
            for done in session.runs.finished
        },
        comparisons=[c for found in (session.comparisons or {}).values() for c in found]
        + [c for varied in session.runs.varied.values() for c in varied.comparisons],
        more_boots={"boots": more.boots, "seconds": more.seconds} if (more := session.more) else {},
        baseline=session.settings.compare,
        not_selected=_not_selected(session),
        not_exercised=vanished.names(session.not_exercised),
        quality=graded.results(session),
    )


def _reference(session: InferSession) -> str:
    """What this session is compared with, in words."""
    settings = session.settings
    named = [f"baseline {settings.compare}"] if settings.compare else []
    named += [f"the server {settings.gate.against}"] if settings.gate.against else []
    return " and ".join(named)


def _variant_lines(session: InferSession, done: Finished) -> list[Line]:
    """The comparison of a variant with the first one, and after the last what was expected."""
    for key, varied in session.runs.varied.items():
        if done.run.class_name or not done.key.startswith(f"{key}::variant="):
            continue
        found = [c for c in varied.comparisons if c.nodeid.startswith(done.key)]
        lines = [Line(text=f"  against {found[0].reference}:")] if found else []
        lines += text.comparison_lines(found) if found else []
        if done.run.variant == list(varied)[-1]:
            said = varied.missed or varied.doubt or "shown"
            lines.append(Line(text=f"  expected {varied.expect}: {said}"))
        return lines
    return []


def _told(boot: RunBoot) -> dict[str, Any]:
    """How the client did, and the steps of a stress run."""
    floor = boot.client_floor
    told: dict[str, Any] = {
        "client": {
            "workers": boot.client_workers,
            "priority": boot.client_priority,
            "cpu_share": boot.client_cpu_share,
            "floor": None if floor is None else asdict(floor),
        }
    }
    if boot.steps:
        told["steps"] = [
            {"rate_per_s": step.rate_per_s, "broke": list(step.broke)}
            for step in sorted(boot.steps, key=lambda step: step.rate_per_s)
        ]
    return told


def _server(session: InferSession, done: Finished) -> str:
    """The server in a line, with the model that it turned out to serve."""
    served = session.runs.servers.get(done.run.boots[-1].server_number, {}).get("model")
    spec = done.declared.server
    return replace(spec, model=spec.model or served).describe()


def _comparing(session: InferSession) -> list[str]:
    """What stands between this session and its baseline beside the tables."""
    lines: list[str] = []
    if session.settings.compare is None and session.settings.gate.against is None:
        return lines
    if session.comparisons is None:
        lines.append("no comparison was selected, so nothing was compared")
    else:
        tally: dict[str, int] = {}
        verdicts = [c.verdict for found in session.comparisons.values() for c in found]
        for verdict in (*verdicts, *(r.verdict for found in session.quality_results.values() for r in found)):
            tally[verdict] = tally.get(verdict, 0) + 1
        counted = ", ".join(f"{n} {verdict}" for verdict, n in tally.items())
        lines.append(f"comparisons with {_reference(session)}: {counted or 'none'}")
    if session.more is not None and session.more.boots:
        spent = format_value(session.more.seconds, "s")
        lines.append(
            f"{session.more.boots} boots beyond the plan, in {spent}: {'; '.join(session.more.news)}"
        )
    lines += [
        f"drift for the worse: {s.nodeid} {s.metric}, alarm at session {s.alarm.id} against {s.reference};"
        f" see inferforge history {session.settings.compare}"
        for s in (session.drifting() if session.comparisons is not None else ())
        if s.alarm is not None
    ]
    if session.changed:
        lines.append(f"changed since the baseline: {'; '.join(session.changed)}")
    if n := _not_selected(session):
        lines.append(f"{n} comparison{'' if n == 1 else 's'} of the baseline not selected")
    return lines


def _missing(session: InferSession) -> list[Line]:
    """The tests that the baseline has and this session has not."""
    missing = session.not_exercised
    if not missing:
        return []
    current = session.result(complete=False, accepted=False)
    renamed = vanished.renamed(current, session.reference, missing)
    return text.missing_lines(vanished.names(missing), renamed, fails=session.incomplete_fails)


def _not_selected(session: InferSession) -> int:
    """Gated comparisons of the baseline's newest session whose tests were not measured now."""
    if not session.reference:
        return 0
    if session.comparisons is None:
        return sum(len(test.gated) + len(test.quality) for test in session.reference[-1].tests)
    current = session.result(complete=session.complete, accepted=False)
    missing = gate.tests_not_exercised(current, session.reference)
    return sum(len(test.gated) + len(test.quality) for test in missing)


def _verdict(session: InferSession) -> str:
    """pass, fail, error or observed."""
    if session.settings.policy == "observe" or session.settings.quick:
        return "observed"
    if session.errors:
        return "error"
    return "fail" if session.failed_items or session.incomplete_fails else "pass"
