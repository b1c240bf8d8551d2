"""`inferforge compare A B`: stored sessions against each other, without pytest and without a server."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_inferforge import gate
from pytest_inferforge.baselines import keeping, open_store
from pytest_inferforge.baselines.store import read_session
from pytest_inferforge.cli.terminal import add_store, say, settings_of
from pytest_inferforge.errors import BaselineError, UsageError
from pytest_inferforge.gate.evidence import differences, history_of
from pytest_inferforge.gate.stored_quality import judge_stored
from pytest_inferforge.outcomes import QualityVerdict
from pytest_inferforge.records import ComparisonVerdict, Fingerprint
from pytest_inferforge.report import comparing_lines, quality_lines

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

    from pytest_inferforge.baselines import Store
    from pytest_inferforge.cli.terminal import Commands
    from pytest_inferforge.records import Comparison, SessionResult

_COMPARE = "compare stored sessions: A is the reference, B is what is judged; exit code 1: B is worse"
_WHAT = "the file of a stored session, NAME of a baseline, or NAME/SESSION"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Side:
    """What one of the two words names, oldest first."""

    word: str
    sessions: tuple[SessionResult, ...]

    @property
    def newest(self) -> SessionResult:
        return self.sessions[-1]


def add(commands: Commands) -> None:
    """Declare `compare`."""
    command = commands.add_parser("compare", help=_COMPARE, description=_COMPARE)
    command.add_argument("reference", metavar="A", help=_WHAT)
    command.add_argument("current", metavar="B", help=f"{_WHAT}; of a baseline, its newest accepted session")
    add_store(command)
    command.add_argument(
        "--anyway", action="store_true", help="also under other conditions; every line says that it is so"
    )
    command.set_defaults(run=_compare)


def _compare(option: argparse.Namespace) -> int:
    found = settings_of(option)
    store = open_store(found.baselines, local=found.store)
    reference, current = _side(option.reference, store), _side(option.current, store)
    before = tuple(s for s in reference.sessions if s.id != current.newest.id)
    if not before:
        do = "name another one as the reference"
        raise UsageError("a session is not compared with itself", seen=current.newest.id, do=do)
    if not {t.nodeid for s in before for t in s.tests} & {t.nodeid for t in current.newest.tests}:
        seen = f"{reference.word} and {current.word}"
        raise UsageError("the two have no test in common", seen=seen, do="compare runs of the same suite")
    foreign = _foreign(current.newest, before)
    if foreign and not option.anyway:
        raise UsageError(
            f"{reference.word} was measured under other conditions than {current.word}",
            seen="\n".join(f"{nodeid}: {what}" for nodeid, what in foreign.items()),
            do="measure both alike, or see the numbers all the same with --anyway",
        )
    comparisons = gate.compare_session(
        current.newest,
        _as_if_alike(before, current.newest, foreign),
        name=reference.word,
        options=found.judge,
    )
    flags = {nodeid: f"measured under other conditions: {what}" for nodeid, what in foreign.items()}
    comparisons = tuple(_flagged(c, flags) for c in comparisons)
    many = f"{len(before)} session{'' if len(before) == 1 else 's'}"
    say(f"reference: {reference.word} ({many})")
    say(f"judged: {current.word} ({_described(current.newest)})\n")
    for line in comparing_lines.by_test(comparisons, flags):
        say(line)
    graded = judge_stored(current.newest, before, name=reference.word, options=found.judge)
    for told in quality_lines.by_test(graded):
        say(told.text)
    say(f"comparisons: {comparing_lines.tally(comparisons)}")
    red = any(c.verdict is ComparisonVerdict.REGRESSED for c in comparisons)
    return 1 if red or any(r.verdict is QualityVerdict.REGRESSED for r in graded) else 0


def _side(word: str, store: Store) -> _Side:
    """The sessions that a word names.

    Raises:
        UsageError, BaselineError: it names none.
    """
    path = Path(word)
    if path.is_file():
        return _Side(word=word, sessions=(_of_file(path),))
    if path.suffix == ".json":
        do = "name the file of a stored session, or a baseline"
        raise UsageError("there is no such file", seen=word, do=do)
    name, slash, session_id = word.partition("/")
    stored = store.load(name)
    if slash:
        return _Side(word=word, sessions=(_named(keeping.find(stored, session_id, name)),))
    accepted = tuple(s for s in stored if s.accepted)
    if not accepted:
        do = f"accept one, or name one: {name}/{stored[-1].id}"
        raise UsageError(f"baseline {name} has no accepted session", seen=f"{len(stored)} sessions", do=do)
    return _Side(word=word, sessions=accepted)


def _of_file(path: Path) -> SessionResult:
    try:
        return _named(read_session(path))
    except BaselineError:
        if _is_document(path):
            raise UsageError(
                "this is the document of --infer-json: it tells of a run, and is not evidence for a verdict",
                seen=str(path),
                do="save the run with --infer-save=NAME and compare NAME, or NAME/SESSION",
            ) from None
        raise


def _is_document(path: Path) -> bool:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and {"session", "tests", "comparisons"} <= content.keys()


def _named(session: SessionResult) -> SessionResult:
    """A session that is named itself counts, whether or not it is accepted into its baseline."""
    return replace(session, accepted=True)


def _foreign(current: SessionResult, reference: Sequence[SessionResult]) -> dict[str, str]:
    """Node id -> what differs, of tests that the reference has under other conditions alone."""
    holding = history_of(reference).by_test
    found = {}
    for test in current.tests:
        here = current.fingerprint.merged(test.fingerprint)
        stored = holding.get(test.nodeid, ())
        unlike = [differences(here, s.fingerprint, frozenset()) for s in stored]
        if unlike and all(unlike):
            found[test.nodeid] = "; ".join(unlike[0])
    return found


def _as_if_alike(
    reference: Sequence[SessionResult], current: SessionResult, foreign: Mapping[str, str]
) -> tuple[SessionResult, ...]:
    """The reference, with the conditions of the current session in the place of those that differ."""
    here = {t.nodeid: current.fingerprint.merged(t.fingerprint) for t in current.tests}
    alike = []
    for session in reference:
        tests = []
        for test in session.tests:
            whole = session.fingerprint.merged(test.fingerprint)
            if test.nodeid in foreign:
                now = here[test.nodeid]
                whole = Fingerprint(hard=now.hard, identity=now.identity, soft=whole.soft)
            tests.append(replace(test, fingerprint=whole))
        alike.append(replace(session, fingerprint=Fingerprint(), tests=tuple(tests)))
    return tuple(alike)


def _flagged(comparison: Comparison, flags: Mapping[str, str]) -> Comparison:
    flag = flags.get(comparison.nodeid)
    if flag is None:
        return comparison
    return replace(comparison, reason=f"{flag}; {comparison.reason}")


def _described(session: SessionResult) -> str:
    commit = session.source.get("commit", "")[:10]
    return ", ".join(part for part in (session.id, session.started_at[:16].replace("T", " "), commit) if part)
