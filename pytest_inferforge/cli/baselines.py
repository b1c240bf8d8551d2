"""Baselines by hand: `inferforge baseline list|show|accept|reject|pin|unpin|add|diff|prune`."""

from __future__ import annotations

import datetime as dt
import functools
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_inferforge.baselines import decisions as deciding
from pytest_inferforge.baselines import git_user, keeping, open_store
from pytest_inferforge.baselines.store import read_session
from pytest_inferforge.cli.terminal import add_store, say
from pytest_inferforge.codec import SCHEMA
from pytest_inferforge.errors import UsageError
from pytest_inferforge.options import SessionOptions
from pytest_inferforge.pytest_plugin import settings
from pytest_inferforge.records import Decision, DecisionKind
from pytest_inferforge.report import baseline_lines

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

    from pytest_inferforge.baselines import Store
    from pytest_inferforge.cli.terminal import Commands

_BASELINE = "look at baselines, accept and reject sessions, pin a reference"
_SESSION = "a session's id, or enough of its beginning"


def add(commands: Commands) -> None:
    """Declare `baseline` and what it does."""
    actions = commands.add_parser("baseline", help=_BASELINE, description=_BASELINE).add_subparsers(
        dest="action", required=True, metavar="ACTION"
    )
    _declared(actions, "list", "name the baselines", _list)
    show = _declared(actions, "show", "the sessions of a baseline, or the metrics of one of them", _show)
    show.add_argument("name", metavar="NAME")
    show.add_argument("session", metavar="SESSION", nargs="?", help=_SESSION)
    show.add_argument("--all", action="store_true", help="all metrics of a session, not the gated ones alone")
    for word, kind, what in (
        ("accept", DecisionKind.ACCEPT, "let a session serve as a reference"),
        ("reject", DecisionKind.REJECT, "let a session serve as a reference no longer"),
    ):
        command = _declared(actions, word, what, functools.partial(_decide, kind))
        command.add_argument("name", metavar="NAME")
        command.add_argument("session", metavar="SESSION", help=_SESSION)
        command.add_argument("--reason", metavar="TEXT", required=True, help="kept beside the session")
    pin = _declared(
        actions, "pin", "make sessions the reference for slow drift, e.g. those of a release", _pin
    )
    pin.add_argument("name", metavar="NAME")
    pin.add_argument("sessions", metavar="SESSION", nargs="*", help=_SESSION)
    last = SessionOptions().pinned_sessions
    pin.add_argument("--last", metavar="N", type=int, help=f"the newest N accepted ones (default: {last})")
    pin.add_argument("--reason", metavar="TEXT", required=True, help="kept beside the sessions")
    unpin = _declared(actions, "unpin", "have no pinned reference any more", _unpin)
    unpin.add_argument("name", metavar="NAME")
    unpin.add_argument("--reason", metavar="TEXT", default="", help="kept beside the sessions")
    adding = _declared(actions, "add", "add a session that a run could not save itself", _add)
    adding.add_argument("name", metavar="NAME")
    adding.add_argument("file", metavar="FILE", type=Path)
    diff = _declared(actions, "diff", "in what two sessions differ", _diff)
    diff.add_argument("name", metavar="NAME")
    diff.add_argument("sessions", metavar="SESSION", nargs=2, help=_SESSION)
    prune = _declared(actions, "prune", "remove old sessions; says which, and removes with --yes", _prune)
    prune.add_argument("name", metavar="NAME")
    prune.add_argument("--keep", metavar="N", type=int, required=True, help="the newest N accepted ones stay")
    prune.add_argument("--older-than", metavar="AGE", help='and what is younger stays too: "90d", "8w"')
    prune.add_argument("--yes", action="store_true", help="remove them")


def _store_of(option: argparse.Namespace) -> Store:
    """The store that a command is about."""
    here = Path.cwd()
    local = settings.store_of(option.infer_store, here, here)
    return open_store(settings.baselines_of(option.infer_store, here, here), local=local)


def _declared(actions: Commands, word: str, what: str, run: object) -> argparse.ArgumentParser:
    command = actions.add_parser(word, help=what, description=what)
    add_store(command)
    command.set_defaults(run=run)
    return command


def _list(option: argparse.Namespace) -> int:
    store = _store_of(option)
    baselines = {name: store.load(name) for name in store.names()}
    if not baselines:
        say("no baselines here; the first session makes one: pytest ... --infer-save=NAME")
        return 0
    pins = {name: deciding.pin_of(store.decisions(name)) for name in baselines}
    pinned = {name: len(pin.sessions) for name, pin in pins.items() if pin is not None}
    _say(baseline_lines.list_lines(baselines, pinned))
    return 0


def _show(option: argparse.Namespace) -> int:
    store = _store_of(option)
    sessions, decided = store.load(option.name), store.decisions(option.name)
    pin = deciding.pin_of(decided)
    pinned = pin.sessions if pin is not None else ()
    if option.session is None:
        _say(baseline_lines.session_lines(sessions, deciding.about(decided), pinned))
        if pin is not None:
            who = f" by {pin.by}" if pin.by else ""
            say(f"pinned{who} on {pin.at[:10]}: {pin.reason}")
        return 0
    session = keeping.find(sessions, option.session, option.name)
    _say(baseline_lines.session_lines([session], deciding.about(decided), pinned))
    for lines in (
        baseline_lines.fingerprint_lines(session),
        baseline_lines.test_lines(session, everything=option.all),
    ):
        _say(["", *lines])
    return 0


def _decide(kind: DecisionKind, option: argparse.Namespace) -> int:
    store = _store_of(option)
    session = keeping.find(store.load(option.name), option.session, option.name)
    where = store.decide(option.name, _decision(kind, (session.id,), option.reason))
    say(f"{kind}ed {session.id} in baseline {option.name}: {where}")
    return 0


def _pin(option: argparse.Namespace) -> int:
    store = _store_of(option)
    sessions = store.load(option.name)
    if option.sessions and option.last is not None:
        do = "name the sessions, or say how many"
        raise UsageError("--last takes the place of sessions", seen=" ".join(option.sessions), do=do)
    if option.sessions:
        found = [keeping.find(sessions, word, option.name) for word in option.sessions]
        if red := [s.id for s in found if not s.accepted]:
            do = f"accept it first: inferforge baseline accept {option.name} {red[0]} --reason TEXT"
            raise UsageError("a session that is not accepted is no reference", seen=", ".join(red), do=do)
    else:
        last = SessionOptions().pinned_sessions if option.last is None else option.last
        found = list(keeping.newest_accepted(sessions, last))
        if not found:
            seen = f"--last {last}, {sum(s.accepted for s in sessions)} accepted sessions"
            raise UsageError("there is nothing to pin", seen=seen, do="accept a session, or pin at least one")
    ids = tuple(dict.fromkeys(s.id for s in found))
    where = store.decide(option.name, _decision(DecisionKind.PIN, ids, option.reason))
    say(f"pinned {len(ids)} session{'' if len(ids) == 1 else 's'} of baseline {option.name}: {where}")
    _say(f"  {session_id}" for session_id in ids)
    return 0


def _unpin(option: argparse.Namespace) -> int:
    store = _store_of(option)
    store.load(option.name)
    if deciding.pin_of(store.decisions(option.name)) is None:
        say(f"baseline {option.name} has no pinned sessions")
        return 0
    where = store.decide(option.name, _decision(DecisionKind.UNPIN, (), option.reason, may_be_silent=True))
    say(f"no session of baseline {option.name} is pinned any more: {where}")
    return 0


def _add(option: argparse.Namespace) -> int:
    where = _store_of(option).save(option.name, read_session(option.file))
    say(f"added to baseline {option.name}: {where}")
    return 0


def _diff(option: argparse.Namespace) -> int:
    sessions = _store_of(option).load(option.name)
    first, second = (keeping.find(sessions, word, option.name) for word in option.sessions)
    _say(baseline_lines.difference_lines(keeping.difference(first, second), first, second))
    return 0


def _prune(option: argparse.Namespace) -> int:
    if option.keep < 1:
        raise UsageError(
            "a baseline keeps at least one session", seen=f"--keep {option.keep}", do="--keep 20"
        )
    age_s = None if option.older_than is None else keeping.age_s(option.older_than)
    store = _store_of(option)
    sessions, decided = store.load(option.name), store.decisions(option.name)
    pin = deciding.pin_of(decided)
    pinned = pin.sessions if pin is not None else ()
    going = keeping.removable(
        sessions, pinned=pinned, keep=option.keep, older_than_s=age_s, now=dt.datetime.now(dt.UTC)
    )
    if not going:
        say(f"baseline {option.name} has nothing to remove: {len(sessions)} sessions stay")
        return 0
    _say(baseline_lines.session_lines(going, deciding.about(decided), pinned))
    counted = f"{len(going)} of {len(sessions)} sessions"
    if not option.yes:
        say(f"{counted} would be removed; with --yes they are")
        return 0
    for session in going:
        store.remove(option.name, session.id)
    say(f"{counted} removed")
    return 0


def _decision(
    kind: DecisionKind, sessions: tuple[str, ...], reason: str, *, may_be_silent: bool = False
) -> Decision:
    if not reason.strip() and not may_be_silent:
        do = "say for those who come later why: --reason TEXT"
        raise UsageError("a decision needs a reason", seen=repr(reason), do=do)
    return Decision(
        schema=SCHEMA,
        decision=kind,
        sessions=sessions,
        reason=reason.strip(),
        at=dt.datetime.now(dt.UTC).isoformat(),
        by=git_user(Path.cwd()),
    )


def _say(lines: Iterable[str]) -> None:
    for line in lines:
        say(line)
