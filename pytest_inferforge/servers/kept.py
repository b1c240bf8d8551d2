"""A server that stays up between pytest runs, for the edit loop: kept by a process of its own.

The keeper boots it, writes down where it is, and waits to be told to end it. When the keeper dies, so does
the server.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import msgspec
import psutil

from pytest_inferforge.errors import EngineError, InferforgeError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import FrameType

    from pytest_inferforge.servers.server import Server

_LOOK_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Where a kept server is. `keeper`: pid of its keeper and when that began."""

    name: str
    keeper: tuple[int, float]
    url: str
    model: str
    engine: str
    dialect: str
    version: str | None
    log: str | None
    api_key_env: str | None

    @property
    def lives(self) -> bool:
        return _began(self.keeper[0]) == self.keeper[1]


def note_of(store: Path, name: str) -> Path:
    """Where a kept server is written down.

    Raises:
        UsageError: a name that is none for a file.
    """
    if not name.replace("-", "").replace("_", "").replace(".", "").isalnum() or name.startswith("."):
        raise UsageError(
            "no name for a server", seen=repr(name), do="use letters, digits, dot, dash, underscore"
        )
    return store / "up" / f"{name}.json"


def find(store: Path, name: str) -> Kept | None:
    """The kept server of that name that lives, else None; a note that is left over is taken away."""
    note = note_of(store, name)
    try:
        kept = msgspec.json.decode(note.read_bytes(), type=Kept)
    except (OSError, msgspec.DecodeError):
        return None
    if kept.lives:
        return kept
    note.unlink(missing_ok=True)
    return None


def require(store: Path, name: str) -> Kept:
    """The kept server of that name.

    Raises:
        UsageError: it is not up.
    """
    kept = find(store, name)
    if kept is None:
        do = "bring it up: inferforge up" + ("" if name == "default" else f" {name}")
        raise UsageError(f"no server {name} is up", seen=f"nothing lives at {note_of(store, name)}", do=do)
    return kept


def keep(name: str, store: Path, boot: Callable[[], Server]) -> int:
    """Boot, write down where it is, wait for SIGTERM, end it: what the keeper does. Returns an exit code."""
    over = threading.Event()
    _on_the_end(lambda *_: sys.exit(1))  # while it boots: `boot` ends what it has started
    note = note_of(store, name)
    note.parent.mkdir(parents=True, exist_ok=True)
    failure = note.with_suffix(".failed")
    failure.unlink(missing_ok=True)
    try:
        server = boot()
    except InferforgeError as error:
        failure.write_text(str(error), encoding="utf-8")
        return 1
    _on_the_end(lambda *_: over.set())
    try:
        kept = Kept(
            name=name,
            keeper=(os.getpid(), _began(os.getpid()) or 0.0),
            url=server.url,
            model=server.model,
            engine=server.engine,
            dialect=server.dialect_name,
            version=server.version,
            log=None if server.log is None else str(server.log),
            api_key_env=server.spec.api_key_env,
        )
        part = note.with_suffix(".part")
        part.write_text(json.dumps(asdict(kept), indent=1), encoding="utf-8")
        part.replace(note)
        while not over.wait(1.0) and server.alive():
            pass
    finally:
        note.unlink(missing_ok=True)
        server.stop()
    return 0


def _on_the_end(do: Callable[[int, FrameType | None], object]) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, do)


def await_note(name: str, store: Path, keeper: int) -> Kept:
    """What the keeper wrote down, when it has.

    Raises:
        EngineError: it ended without; what it said is the error.
    """
    note = note_of(store, name)
    while True:
        if (kept := find(store, name)) is not None:
            return kept
        if _began(keeper) is None:
            failure = note.with_suffix(".failed")
            with contextlib.suppress(OSError):
                said = failure.read_text(encoding="utf-8")
                failure.unlink()
                raise EngineError(said)
            raise EngineError("the keeper ended", seen=f"process {keeper} is gone", do="look at its log")
        time.sleep(_LOOK_S)


def end(kept: Kept, *, grace_s: float = 60.0) -> bool:
    """Have the keeper end its server; False when it did not within `grace_s`."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(kept.keeper[0], signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    while kept.lives:
        if time.monotonic() > deadline:
            return False
        time.sleep(_LOOK_S)
    return True


def _began(pid: int) -> float | None:
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.Error:
        return None
