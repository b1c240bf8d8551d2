"""Baselines, decisions and differences as lines for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tabulate import tabulate

from pytest_inferforge.baselines import keeping
from pytest_inferforge.metrics import metric
from pytest_inferforge.records import DecisionKind
from pytest_inferforge.units import format_value

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_inferforge.baselines.keeping import Difference
    from pytest_inferforge.outcomes import Outcomes
    from pytest_inferforge.records import Decision, SessionResult, TestResult

_COMMIT = 10  # characters of a commit that are shown


def list_lines(baselines: Mapping[str, Sequence[SessionResult]], pinned: Mapping[str, int]) -> list[str]:
    """A line a baseline: its sessions as they are accepted, oldest first; `pinned`: how many are pinned."""
    return _table(
        ("baseline", "sessions", "accepted", "first", "last", "pinned"),
        [
            (
                name,
                str(len(sessions)),
                str(sum(s.accepted for s in sessions)),
                _date(sessions[0]),
                _date(sessions[-1]),
                str(pinned.get(name, 0) or "-"),
            )
            for name, sessions in baselines.items()
        ],
    )


def session_lines(
    sessions: Sequence[SessionResult], about: Mapping[str, Decision], pinned: Sequence[str]
) -> list[str]:
    """A line a session. `about`: session id -> what was decided about it."""
    rows = []
    for s in sessions:
        dirty = {"true": "yes", "false": "no"}.get(s.source.get("dirty", ""), "-")
        rows.append(
            (
                s.id + (" (pinned)" if s.id in pinned else ""),
                _date(s),
                s.source.get("commit", "-")[:_COMMIT],
                s.source.get("branch", "-"),
                dirty,
                str(len(s.tests)) + ("" if s.complete else " (a part)"),
                _accepted(s, about.get(s.id)),
            )
        )
    return _table(("session", "date", "commit", "branch", "dirty", "tests", "accepted"), rows)


def test_lines(session: SessionResult, *, everything: bool) -> list[str]:
    """The metrics of a session, test by test: the gated ones, or all."""
    rows = []
    for test in session.tests:
        known = dict.fromkeys(m for boot in test.boots for m in boot.metrics)
        shown = (
            (*test.gated, *(m for m in sorted(known) if m not in test.gated)) if everything else test.gated
        )
        rows += [(test.nodeid, m, _value(keeping.value_of(session, test, m), m), _boots(test)) for m in shown]
        rows += [
            (test.nodeid, f"{o.task} {o.metric}", _score(o), f"{len(o.scores)} items") for o in test.quality
        ]
    return _table(("test", "metric", "value", "boots"), rows) if rows else ["no test of it is gated"]


def _score(outcomes: Outcomes) -> str:
    return "-" if outcomes.value is None else f"{outcomes.value:.4g}"


def fingerprint_lines(session: SessionResult) -> list[str]:
    """What is the same for all tests of a session."""
    found = session.fingerprint
    rows = [
        (kind, key, value)
        for kind, keys in (("hard", found.hard), ("identity", found.identity), ("soft", found.soft))
        for key, value in sorted(keys.items())
    ]
    return _table(("", "key", "value"), rows) if rows else []


def difference_lines(found: Difference, first: SessionResult, second: SessionResult) -> list[str]:
    """What differs in the fingerprints, which tests stand on one side only, and the metrics side by side."""
    lines: list[str] = []
    every = {pair.nodeid for pair in found.pairs}
    if found.changes:
        rows = [
            (c.kind, c.key, c.before or "(absent)", c.after or "(absent)", _of_tests(c.tests, every))
            for c in found.changes
        ]
        lines += ["fingerprint:", *_table(("", "key", first.id, second.id, "of"), rows)]
    else:
        lines.append("fingerprint: nothing differs")
    for session, tests in ((first, found.only_first), (second, found.only_second)):
        if tests:
            lines.append(f"only in {session.id}: {', '.join(tests)}")
    rows = [
        (p.nodeid, p.metric + (" (gated)" if p.gated else ""), _value(p.first, p.metric),
         _value(p.second, p.metric), "-" if p.ratio is None else f"{p.ratio:.4g}")
        for p in found.pairs
    ]  # fmt: skip
    if rows:
        lines += ["", *_table(("test", "metric", first.id, second.id, "ratio"), rows)]
    return lines


def _accepted(session: SessionResult, decision: Decision | None) -> str:
    word = "yes" if session.accepted else "no"
    if decision is None:
        return word if session.accepted else "no: it was red when it was measured"
    done = {DecisionKind.ACCEPT: "accepted", DecisionKind.REJECT: "rejected"}[decision.decision]
    who = f" by {decision.by}" if decision.by else ""
    return f"{word}: {done}{who} on {decision.at[:10]}: {decision.reason}"


def _of_tests(tests: Sequence[str], every: set[str]) -> str:
    if every <= set(tests) and len(tests) > 1:
        return f"all {len(tests)} tests"
    return tests[0] + (f" and {len(tests) - 1} more" if len(tests) > 1 else "")


def _boots(test: TestResult) -> str:
    return str(len(test.boots))


def _value(value: float | None, metric_id: str) -> str:
    return format_value(value, metric(metric_id).quantity.unit)


def _date(session: SessionResult) -> str:
    return session.started_at[:16].replace("T", " ")


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    printed = tabulate([list(r) for r in rows], headers=list(header), tablefmt="plain", disable_numparse=True)
    return [line.rstrip() for line in printed.splitlines()]
