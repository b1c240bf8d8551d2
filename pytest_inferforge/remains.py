"""What killed runs left behind: notes of what runs, and how it is found and ended.

A program's guardian ends it when we die, and we end it when the guardian dies; when both are killed, the
next session reads the note and ends what is left.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Sequence

MARK = "PYTEST_INFERFORGE_PROCESS"  # in the environment of a child and, by inheritance, of all below it
_AFTER_KILL_S = 15.0
_OTHER_MACHINE_S = 30 * 86400.0  # a shared home: its own machine has had time to reap it


def sweep(mark: str, session: int, *, but: int = 0) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """End all that carry the mark, and a guardian `but` that is stuck. Returns (ended, still there)."""
    if but:
        with contextlib.suppress(OSError):
            os.kill(but, signal.SIGKILL)
    ended: set[int] = set()
    spared = {os.getpid(), but}
    deadline = time.monotonic() + _AFTER_KILL_S
    while True:
        found = [p for p in psutil.process_iter() if p.pid not in spared and _carries(p, mark, session)]
        if not found or time.monotonic() > deadline:
            return tuple(sorted(ended)), tuple(process.pid for process in found)
        for process in found:
            with contextlib.suppress(psutil.Error):
                process.kill()
            ended.add(process.pid)
        psutil.wait_procs(found, timeout=0.1)


def _carries(process: psutil.Process, mark: str, session: int) -> bool:
    if not lives(process):
        return False
    try:
        return process.environ().get(MARK) == mark or (session > 0 and os.getsid(process.pid) == session)
    except (psutil.Error, OSError):
        return False


def write_note(
    folder: Path, *, mark: str, guardian: int, argv: Sequence[str], cleanup: Sequence[str]
) -> str | None:
    """What `reap` needs to know; None where it cannot be written, which costs that safety net alone."""
    note = folder / f"{mark}.json"
    content = {
        "boot": _boot_id(),
        "mark": mark,
        "owner": [os.getpid(), _started(os.getpid())],
        "guardian": [guardian, _started(guardian)],
        "argv": list(argv)[:1],
        "cleanup": list(cleanup),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        note.write_text(json.dumps(content), encoding="utf-8")
    except OSError:
        return None
    return str(note)


def reap(folder: Path) -> tuple[str, ...]:
    """End what earlier runs of this machine left behind when they and their guardians were killed.

    `folder`: the `notes` that `processes.start` was given. Returns what was ended, a line each. A process is
    known by its pid and the time it began, or by the mark in its environment, never by its name.
    """
    said: list[str] = []
    for note in sorted(folder.glob("*.json")):
        try:
            told = json.loads(note.read_text(encoding="utf-8"))
            if told["boot"] != _boot_id():
                if time.time() - note.stat().st_mtime > _OTHER_MACHINE_S:
                    note.unlink()
                continue
            if any(_started(pid) == began for pid, began in (told["owner"], told["guardian"])):
                continue
            ended, left = sweep(told["mark"], 0)
            clean(told["cleanup"], str(note))
        except (OSError, ValueError, KeyError, TypeError):
            continue  # half written, or another session reaps it now
        if ended or left:
            state = f"{len(left)} of them survived SIGKILL" if left else "ended now"
            said.append(f"a server of a killed run was still there ({', '.join(map(str, ended))}): {state}")
    return tuple(said)


def clean(cleanup: Sequence[str], note: str | None) -> None:
    """What the guardian does last, where there is none to do it."""
    if cleanup:
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(list(cleanup), capture_output=True, timeout=_AFTER_KILL_S, check=False)
    if note:
        with contextlib.suppress(OSError):
            Path(note).unlink()


def _started(pid: int) -> float | None:
    """When a process began, which tells it from a later one with its number; None: it is not there.

    In ticks since the machine's start, because a clock that is set moves all dates, and a session that lives
    would be taken for dead. Source: proc_pid_stat(5), starttime.
    """
    try:
        process = psutil.Process(pid)
        if not lives(process):
            return None
        with contextlib.suppress(OSError, IndexError):
            return float(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19])
        return process.create_time()
    except psutil.Error:
        return None


def _boot_id() -> str:
    """This start of this machine and its numbers of processes, which mean nothing on another.

    Source: proc(5), random/boot_id; namespaces(7).
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"  # containers of one machine may share a home
    except OSError:
        return f"{os.uname().nodename} {psutil.boot_time():.0f}"


def lives(process: psutil.Process) -> bool:
    """Runs, and is no zombie."""
    try:
        return process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.Error:
        return False
