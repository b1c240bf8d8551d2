"""Named baselines that sessions are added to and never changed in.

baselines/<name>/<session>.json               made to live in git, or in a bucket
baselines/<name>/decisions/<time>-<random>.json   what people decided about them
shards/<id>/<name>/<random>.json              parts of sessions, until they are judged as one
runs/<session>/*.jsonl.gz                     request rows and logs: always in a folder of this machine
"""

from __future__ import annotations

import contextlib
import difflib
import re
import secrets
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_inferforge.baselines import decisions as deciding
from pytest_inferforge.baselines.files import FolderFiles, unwritten, write_new
from pytest_inferforge.baselines.objects import ObjectFiles, is_url
from pytest_inferforge.codec import decode_decision, decode_session, encode_decision, encode_session
from pytest_inferforge.errors import BaselineError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_inferforge.baselines.files import Files
    from pytest_inferforge.records import Decision, SessionResult

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_READERS = 8  # files that are asked for at a time: a bucket takes its time for each
_SESSION, _DECISION = 3, 4  # parts of their keys
_FOLDER = ".inferforge"  # for runs, when baselines are in a bucket and nobody says


def open_store(location: str | Path, *, local: Path | None = None) -> Store:
    """The store at a folder, or at a URL like s3://BUCKET/PREFIX.

    `local`: the folder for rows and logs; the store's own where that is a folder.

    Raises:
        UsageError: a URL that can be no store's, or obstore is not installed.
    """
    if is_url(str(location)):
        return Store(ObjectFiles(str(location)), local=local or Path(_FOLDER))
    return Store(FolderFiles(Path(location)), local=local or Path(location))


class Store:
    """Baselines, shards and runs. Nothing in it is overwritten; safe under concurrent writers."""

    def __init__(self, files: Files, *, local: Path) -> None:
        self._files = files
        self._local = local

    # -- sessions -----------------------------------------------------------------------------------

    def save(self, name: str, session: SessionResult) -> str:
        """Add a session to a baseline, which is made when it does not exist. Returns where it is.

        Raises:
            UsageError: a name or session id that cannot be a file's.
            BaselineError: that session is stored already, or it cannot be written; nothing was changed.
        """
        key = f"{_folder(name)}/{_checked(session.id, 'session id')}.json"
        try:
            self._files.write_new(key, encode_session(session))
        except FileExistsError as error:
            raise BaselineError(
                f"session {session.id} is in baseline {name} already",
                seen=self._files.where(key),
                do="save under another session id: stored sessions are never changed",
            ) from error
        return self._files.where(key)

    def names(self) -> tuple[str, ...]:
        """The baselines that hold a session, sorted.

        Raises:
            BaselineError: the store does not answer.
        """
        split = [key.split("/") for key in self._files.keys("baselines")]
        return tuple(sorted({p[1] for p in split if _is_session(p) and _NAME.fullmatch(p[1])}))

    def load(self, name: str) -> tuple[SessionResult, ...]:
        """All sessions of a baseline, oldest first, each accepted as it was decided.

        Raises:
            UsageError: there is no such baseline.
            BaselineError: a file in it is broken or not ours; it is named and left as it is.
        """
        return deciding.applied(self.stored(name), self.decisions(name))

    def stored(self, name: str) -> tuple[SessionResult, ...]:
        """As `load`, but as the sessions were stored, whatever was decided since."""
        keys = [key for key in self._files.keys(_folder(name)) if _is_session(key.split("/"))]
        if not keys:
            raise self.missing(name)
        return _by_time(self._sessions(keys))

    def missing(self, name: str) -> UsageError:
        """The error for a baseline that does not exist, with the nearest names."""
        names = self.names()
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        if near:
            do = f"did you mean {' or '.join(near)}?"
        elif names:
            do = f"choose one of: {', '.join(names)}"
        else:
            do = "save a first session with --infer-save, or pass --infer-missing=record"
        return UsageError("unknown baseline", seen=f"{name} in {self._files.where('baselines')}", do=do)

    def remove(self, name: str, session_id: str) -> None:
        """Take a session out of a baseline for good: the only deletion there is.

        Raises:
            BaselineError: it could not be removed.
        """
        self._files.remove(f"{_folder(name)}/{_checked(session_id, 'session id')}.json")

    # -- decisions ----------------------------------------------------------------------------------

    def decide(self, name: str, decision: Decision) -> str:
        """Add a decision about sessions of a baseline. Returns where it is.

        Raises:
            BaselineError: it cannot be written.
        """
        key = f"{_folder(name)}/decisions/{deciding.file_name(decision)}.json"
        self._files.write_new(key, encode_decision(decision))
        return self._files.where(key)

    def decisions(self, name: str) -> tuple[Decision, ...]:
        """What was decided about sessions of a baseline, oldest first.

        Raises:
            BaselineError: a file is broken or not ours; it is named and left as it is.
        """
        folder = f"{_folder(name)}/decisions"
        keys = [k for k in self._files.keys(folder) if k.endswith(".json") and k.count("/") + 1 == _DECISION]
        with ThreadPoolExecutor(_READERS) as readers:
            read = list(readers.map(self._files.read, keys))
        found = [(k, decode_decision(d, where=self._files.where(k))) for k, d in zip(keys, read, strict=True)]
        return deciding.in_order(found)

    def pinned(self, name: str) -> tuple[SessionResult, ...]:
        """The pinned reference sessions that are accepted, oldest first; empty: none are pinned.

        Raises:
            BaselineError: a pinned session is gone, or a file is broken.
        """
        decided = self.decisions(name)
        pin = deciding.pin_of(decided)
        if pin is None:
            return ()
        folder = _folder(name)
        keys = [f"{folder}/{_checked(session_id, 'session id')}.json" for session_id in pin.sessions]
        there = set(self._files.keys(folder))
        if gone := [s for s, key in zip(pin.sessions, keys, strict=True) if key not in there]:
            raise BaselineError(
                f"pinned sessions of baseline {name} are gone",
                seen=", ".join(gone),
                do=f"restore them, or pin others: inferforge baseline pin {name}",
            )
        pinned = deciding.applied(_by_time(self._sessions(keys)), decided)
        return tuple(s for s in pinned if s.accepted)

    # -- shards -------------------------------------------------------------------------------------

    def save_shard(self, name: str, shard: SessionResult) -> str:
        """Keep a part of the session that `shard.id` names, until it is judged. Returns where it is.

        Raises:
            UsageError: a name or session id that cannot be a file's.
            BaselineError: it cannot be written.
        """
        key = f"{_shards(name, shard.id)}/{secrets.token_hex(8)}.json"
        self._files.write_new(key, encode_session(shard))
        if (self._local / "shards").is_dir():
            _ignore_in_git(self._local / "shards")
        return self._files.where(key)

    def shards(self, name: str, session_id: str) -> tuple[SessionResult, ...]:
        """The parts of a session, in the order in which they were started.

        Raises:
            UsageError: there are none.
            BaselineError: a file is broken or not ours.
        """
        folder = _shards(name, session_id)
        keys = [key for key in self._files.keys(folder) if key.endswith(".json")]
        if not keys:
            raise UsageError(
                f"session {session_id} has no shards for baseline {name}",
                seen=f"nothing in {self._files.where(folder)}",
                do=f"run its parts with --infer-session-id={session_id} --infer-save={name}, on this store",
            )
        return _by_time(self._sessions(keys, session_id))

    # -- this machine -------------------------------------------------------------------------------

    def run_folder(self, session_id: str) -> Path:
        """The folder for the rows and logs of a session, made when it does not exist.

        Raises:
            BaselineError: it cannot be made.
        """
        runs = self._local / "runs"
        folder = runs / _checked(session_id, "session id")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _ignore_in_git(runs)
        except OSError as error:
            raise unwritten(folder, error) from error
        return folder

    def keep(self, session: SessionResult, run: str) -> Path | None:
        """Write what could not be saved where it belongs beside its rows; None: that failed too."""
        try:
            path = self.run_folder(run) / "session.json"
            write_new(path, lambda file: file.write(encode_session(session)))
        except (OSError, BaselineError):
            return None
        return path

    # -- private ------------------------------------------------------------------------------------

    def _sessions(self, keys: Iterable[str], session_id: str | None = None) -> list[SessionResult]:
        """In the order of the keys; each is named like its file, or like `session_id`."""
        keys = list(keys)
        with ThreadPoolExecutor(_READERS) as readers:
            read = list(readers.map(self._files.read, keys))
        found = []
        for key, data in zip(keys, read, strict=True):
            session = decode_session(data, where=self._files.where(key))
            wanted = session_id or key.rpartition("/")[2].removesuffix(".json")
            if session.id != wanted:
                raise BaselineError(
                    f"{self._files.where(key)} holds another session than its name says",
                    seen=f"session {session.id}",
                    do=f"rename it to {session.id}.json, or remove it if it is a copy",
                )
            found.append(session)
        return found


def read_session(path: Path) -> SessionResult:
    """A stored session from a file, wherever it lies.

    Raises:
        BaselineError: it cannot be read, is broken, or is none.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        do = "name the file of a stored session"
        raise BaselineError(f"{path} cannot be read", seen=str(error), do=do) from error
    return decode_session(data, where=str(path))


def check_name(name: str) -> None:
    """Refuse a baseline name that cannot be a folder's.

    Raises:
        UsageError: separators, hidden files, ways up, too long.
    """
    _checked(name, "baseline name")


def check_session_id(session_id: str) -> None:
    """Refuse a session id that cannot be a file's.

    Raises:
        UsageError: as of a baseline's name.
    """
    _checked(session_id, "session id")


def _is_session(parts: list[str]) -> bool:
    return len(parts) == _SESSION and parts[2].endswith(".json")


def _by_time(sessions: Iterable[SessionResult]) -> tuple[SessionResult, ...]:
    return tuple(sorted(sessions, key=lambda s: (s.started_at, s.id)))


def _folder(name: str) -> str:
    return f"baselines/{_checked(name, 'baseline name')}"


def _shards(name: str, session_id: str) -> str:
    return f"shards/{_checked(session_id, 'session id')}/{_checked(name, 'baseline name')}"


def _ignore_in_git(folder: Path) -> None:
    with contextlib.suppress(FileExistsError):
        write_new(folder / ".gitignore", lambda file: file.write(b"*\n"))


def _checked(name: str, what: str) -> str:
    """A name that becomes part of a path: no separators, no hidden files, no way up."""
    if not _NAME.fullmatch(name):
        do = "use up to 128 letters, digits, dots, dashes and underscores, first a letter or digit"
        raise UsageError(f"{what} cannot be used for a file", seen=name, do=do)
    return name
