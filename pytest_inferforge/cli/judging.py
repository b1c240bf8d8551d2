"""`inferforge judge`: one verdict over the shards of a CI matrix."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_inferforge import gate, policy
from pytest_inferforge.baselines import open_store, vanished
from pytest_inferforge.baselines.merging import merged
from pytest_inferforge.cli.terminal import add_store, say, settings_of
from pytest_inferforge.gate.stored_quality import judge_stored
from pytest_inferforge.policy import Consequence
from pytest_inferforge.pytest_plugin.cmdline import POLICIES
from pytest_inferforge.report import comparing_lines, document, quality_lines, text

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from pytest_inferforge.baselines import Store
    from pytest_inferforge.cli.terminal import Commands
    from pytest_inferforge.outcomes import QualityResult
    from pytest_inferforge.pytest_plugin.settings import Settings
    from pytest_inferforge.records import Comparison, SessionResult

_JUDGE = "judge the shards of a session as one: exit code 0 is green, 1 is red"


def add(commands: Commands) -> None:
    """Declare `judge`."""
    command = commands.add_parser("judge", help=_JUDGE, description=_JUDGE)
    command.add_argument("name", metavar="NAME", help="the baseline, as the shards' --infer-save said")
    command.add_argument("id", metavar="ID", help="the session, as their --infer-session-id said")
    add_store(command)
    command.add_argument("--save", action="store_true", help="add the session to the baseline")
    command.add_argument("--complete", action="store_true", help="these shards are the whole suite")
    command.add_argument("--policy", dest="infer_policy", choices=POLICIES, help="as --infer-policy")
    command.add_argument("--json", dest="infer_json", metavar="PATH", help="as --infer-json")
    command.add_argument(
        "--under-test",
        dest="infer_under_test",
        action="append",
        metavar="KEY,...",
        help="as --infer-under-test",
    )
    command.set_defaults(run=_judge)


def _judge(option: argparse.Namespace) -> int:
    option.infer_under_test = option.infer_under_test or []
    found = settings_of(option)
    store = open_store(found.baselines, local=found.store)
    shards = store.shards(option.name, option.id)
    put_together = merged(shards)
    reference = _reference(store, option.name, may_be_new=option.save)
    known = any(s.complete and s.accepted and s.id != option.id for s in reference)
    missing = gate.tests_not_exercised(put_together.session, reference)
    complete = option.complete or (put_together.session.complete and known and not missing)
    session = replace(put_together.session, complete=complete)
    comparisons = gate.judge_session(
        session,
        reference,
        name=option.name,
        options=found.judge,
        more=None,
        pinned=store.pinned(option.name),
        under_test=found.gate.under_test,
    )
    say(f"session {option.id}: {len(shards)} shards, {len(session.tests)} tests")
    for line in (*put_together.notes, *_compared_lines(comparisons, option.name, len(reference))):
        say(line)
    graded = judge_stored(
        session, reference, name=option.name, options=found.judge, under_test=found.gate.under_test
    )
    for told in quality_lines.by_test(graded):
        say(told.text)
    strict = found.policy == "strict"
    renamed = vanished.renamed(session, reference, missing)
    for told in text.missing_lines(vanished.names(missing), renamed, fails=strict) if missing else ():
        say(told.text)
    accepted = sum(s.accepted for s in reference)
    recording = option.save and accepted < found.judge.min_sessions
    red = _red(comparisons, graded, found, recording=recording) + _red_otherwise(
        session, bool(missing), found
    )
    session = replace(session, accepted=session.accepted and not red)
    say(f"verdict: {'red: ' + '; '.join(red) if red else 'green'}")
    if found.json_path is not None:
        names = vanished.names(missing)
        content = _content(session, comparisons, red, found, option.name, names, graded)
        document.write(found.json_path, content)
    if option.save:
        said = "" if session.accepted else " (stored, but not accepted as a reference: it is red)"
        said += "" if session.complete else " (a part of the suite)"
        say(f"saved to baseline {option.name}: {store.save(option.name, session)}{said}")
    return 1 if red else 0


def _reference(store: Store, name: str, *, may_be_new: bool) -> tuple[SessionResult, ...]:
    if may_be_new and name not in store.names():
        return ()
    return store.load(name)


def _compared_lines(comparisons: Sequence[Comparison], name: str, sessions: int) -> list[str]:
    head = f"against baseline {name}: {sessions} session{'' if sessions == 1 else 's'}"
    tally = f"comparisons with baseline {name}: {comparing_lines.tally(comparisons)}"
    return [head, "", *comparing_lines.by_test(comparisons, {}), tally]


def _red(
    comparisons: Sequence[Comparison], graded: Sequence[QualityResult], found: Settings, *, recording: bool
) -> list[str]:
    """Why the comparisons fail the session; empty: they do not."""
    if not any((*(c.verdict.judged for c in comparisons), *(r.verdict.judged for r in graded))):
        fails = policy.of_unjudged(found.policy, recording=recording) is Consequence.FAIL
        return ["nothing could be compared"] if fails else []
    failing = [c for c in comparisons if policy.of_comparison(c, found.policy) is Consequence.FAIL]
    worse = [r for r in graded if policy.of_quality(r, found.policy) is Consequence.FAIL]
    why = [comparing_lines.tally(failing)] if failing else []
    return [*why, f"quality of {', '.join(dict.fromkeys(r.task for r in worse))}"] if worse else why


def _red_otherwise(session: SessionResult, missing: bool, found: Settings) -> list[str]:
    """A shard that was red, and under the strict policy tests that are missing."""
    if found.policy == "observe":
        return []
    why = [] if session.accepted else ["a shard was red by itself"]
    return [*why, "baselines not exercised"] if missing and found.policy == "strict" else why


def _content(
    session: SessionResult,
    comparisons: Sequence[Comparison],
    red: Sequence[str],
    found: Settings,
    name: str,
    missing: Sequence[str],
    graded: Sequence[QualityResult],
) -> dict[str, object]:
    """The JSON document. SLOs were judged by the shards, and stand in their documents."""
    verdict = "observed" if found.policy == "observe" else "fail" if red else "pass"
    keys = [test.nodeid for test in session.tests]
    split = {key: key.partition("::class=") for key in keys}
    return document.document(
        session,
        verdict=verdict,
        exit_reason="; ".join(red) or "judged",
        tests=session.tests,
        slos={},
        boots={},
        names={key: (nodeid, None, of or None, None) for key, (nodeid, _, of) in split.items()},
        comparisons=comparisons,
        baseline=name,
        not_selected=0,
        not_exercised=missing,
        more_boots={},
        quality=graded,
    )
