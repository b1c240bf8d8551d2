"""A folder that sessions are added to and never changed in.

<root>/baselines/<name>/<session>.json   made to live in git
<root>/runs/<session>/*.jsonl.gz         request rows and logs, ignored by its own .gitignore
"""

from __future__ import annotations

import contextlib
import difflib
import gzip
import os
import re
import secrets
import zlib
from typing import TYPE_CHECKING, BinaryIO

from pytest_inferforge.codec import decode_row, decode_session, encode_row, encode_session
from pytest_inferforge.errors import BaselineError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from pytest_inferforge.records import RequestRecord, SessionResult

_QUICK = 3  # of gzip's levels: a soak has millions of rows
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class FolderStore:
    """Baselines and runs under one folder; safe under concurrent writers, also on other machines."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def save(self, name: str, session: SessionResult) -> Path:
        """Add a session to a baseline, which is made when it does not exist. Returns the file.

        Raises:
            UsageError: a name or session id that cannot be a file's.
            BaselineError: that session is stored already; nothing was changed.
        """
        folder = self._folder(name)
        path = folder / f"{_checked(session.id, 'session id')}.json"
        folder.mkdir(parents=True, exist_ok=True)
        try:
            _write_new(path, lambda file: file.write(encode_session(session)))
        except FileExistsError as error:
            raise BaselineError(
                f"session {session.id} is in baseline {name} already",
                seen=str(path),
                do="save under another session id: stored sessions are never changed",
            ) from error
        return path

    def names(self) -> tuple[str, ...]:
        """The baselines that hold a session, sorted."""
        folder = self._root / "baselines"
        if not folder.is_dir():
            return ()
        return tuple(sorted(p.name for p in folder.iterdir() if _NAME.fullmatch(p.name) and _files(p)))

    def load(self, name: str) -> tuple[SessionResult, ...]:
        """All sessions of a baseline, oldest first.

        Raises:
            UsageError: there is no such baseline.
            BaselineError: a file in it is broken or not ours; it is named and left as it is.
        """
        files = _files(self._folder(name))
        if not files:
            raise self.missing(name)
        sessions = [_read(path) for path in files]
        return tuple(sorted(sessions, key=lambda s: (s.started_at, s.id)))

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
        return UsageError("unknown baseline", seen=f"{name} in {self._root / 'baselines'}", do=do)

    def run_folder(self, session_id: str) -> Path:
        """The folder for the rows and logs of a session, made when it does not exist."""
        runs = self._root / "runs"
        folder = runs / _checked(session_id, "session id")
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            _write_new(runs / ".gitignore", lambda file: file.write(b"*\n"))
        return folder

    def _folder(self, name: str) -> Path:
        return self._root / "baselines" / _checked(name, "baseline name")


def write_rows(path: Path, rows: Iterable[RequestRecord]) -> None:
    """Write requests as gzipped JSON lines, one after the other, whole or not at all.

    Raises:
        FileExistsError: there is such a file; it is left as it is.
    """

    def write(file: BinaryIO) -> None:
        with gzip.GzipFile(filename="", fileobj=file, mode="wb", compresslevel=_QUICK, mtime=0) as packed:
            for row in rows:
                packed.write(encode_row(row) + b"\n")

    _write_new(path, write)


def read_rows(path: Path) -> Iterator[RequestRecord]:
    """Read what `write_rows` wrote, one request at a time.

    Raises:
        BaselineError: broken, or not ours.
    """
    try:
        with gzip.open(path, "rb") as lines:
            for number, line in enumerate(lines, start=1):
                yield decode_row(line, where=f"{path}, line {number}")
    except (OSError, EOFError, zlib.error) as error:
        do = "measure again: rows cannot be repaired"
        raise BaselineError(f"{path} cannot be read", seen=str(error), do=do) from error


def _files(folder: Path) -> list[Path]:
    """Sessions; hidden files are drafts of writers, or not ours."""
    return sorted(path for path in folder.glob("*.json") if not path.name.startswith("."))


def _read(path: Path) -> SessionResult:
    try:
        session = decode_session(path.read_bytes(), where=str(path))
    except OSError as error:
        do = "make it readable, or move it out of the baseline"
        raise BaselineError(f"{path} cannot be read", seen=str(error), do=do) from error
    if session.id != path.stem:
        raise BaselineError(
            f"{path} holds another session than its name says",
            seen=f"session {session.id}",
            do=f"rename it to {session.id}.json, or remove it if it is a copy",
        )
    return session


def _write_new(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file that must not exist: readers see all of it or nothing, and of two writers one wins."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        with draft.open("xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        _publish(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def _publish(draft: Path, path: Path) -> None:
    try:
        path.hardlink_to(draft)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links: claim the name first, then fill it
        path.open("xb").close()
        draft.replace(path)


def check_name(name: str) -> None:
    """Refuse a baseline name that cannot be a folder's.

    Raises:
        UsageError: separators, hidden files, ways up, too long.
    """
    _checked(name, "baseline name")


def _checked(name: str, what: str) -> str:
    """A name that becomes part of a path: no separators, no hidden files, no way up."""
    if not _NAME.fullmatch(name):
        do = "use up to 128 letters, digits, dots, dashes and underscores, first a letter or digit"
        raise UsageError(f"{what} cannot be used for a file", seen=name, do=do)
    return name
