"""Programs we start: the one place that starts, watches and ends them.

Each gets a guardian of its own (see `_guardian.py`), which ends the program and everything it started when
it is told to, when the program itself ends, and when this process dies, by whatever signal.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import psutil

from pytest_inferforge import remains
from pytest_inferforge.errors import EngineError
from pytest_inferforge.remains import MARK, lives

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_GUARDIAN = Path(__file__).with_name("_guardian.py")
_START_S = 30.0
_AFTER_KILL_S = 15.0  # more than the guardian gives a process that does not die of SIGKILL
_LOOK_S = 0.25  # how long one thread waits for what another one may have read
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f]")


@dataclass(frozen=True, slots=True, kw_only=True)
class StopReport:
    """How a program ended.

    `exit_code` is negative for a signal; `forced` are the pids that outlived the grace and got SIGKILL;
    `left` those that did not even die of that within 10 s.
    """

    exit_code: int
    forced: tuple[int, ...] = ()
    left: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a short program said. `said`: the last line of its errors, else of its output."""

    code: int
    out: str
    said: str


def ask(argv: Sequence[str], *, timeout_s: float, env: Mapping[str, str] | None = None) -> Answer:
    """Run a short program to its end; `env` is its whole environment (None: ours).

    What it leaves running in the background is not waited for, and goes on.

    Raises:
        EngineError: it cannot be executed, or takes too long.
    """
    # Files, because a pipe would wait for all that hold it.
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        try:
            ran = subprocess.run(
                list(argv),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                timeout=timeout_s,
                env=env,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise EngineError(
                f"{argv[0]} does not end", seen=f"it ran {timeout_s:g} s", do="try it by hand"
            ) from error
        except OSError as error:
            raise _cannot_start(argv, str(error)) from error
        said, complained = (_whole(file) for file in (out, err))
    return Answer(code=ran.returncode, out=said, said=((complained or said).splitlines() or [""])[-1])


def _whole(file: IO[bytes]) -> str:
    file.seek(0)
    return _ESCAPES.sub("", file.read().decode(errors="replace")).strip()


def start(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None,
    log_path: Path | None,
    cwd: Path | None = None,
    grace_s: float,
    stdout_pipe: bool = False,
    cleanup: Sequence[str] = (),
    notes: Path | None = None,
) -> Process:
    """Start a program in a session of its own, so that it hears neither Ctrl-C nor a closed terminal.

    `env` is its whole environment (None: ours). Its output is appended to `log_path` (None: dropped); with
    `stdout_pipe` its standard output is `Process.stdout` instead, to be read and closed by the caller.
    `grace_s`: from SIGTERM to SIGKILL. `cleanup`: a command that is run when all has ended, by whoever is
    left to run it. `notes`: a folder for a note of what runs, by which `remains.reap` finds what is left
    when we and the guardian are both killed.

    Raises:
        EngineError: the program cannot be executed.
    """
    mark = uuid.uuid4().hex
    with contextlib.ExitStack() as stack:
        log: IO[bytes] | int = subprocess.DEVNULL
        if log_path is not None:
            log = stack.enter_context(log_path.open("ab"))
        status_read, status_write = os.pipe()
        stack.callback(os.close, status_write)
        try:
            guardian = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_GUARDIAN), str(status_write), str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE if stdout_pipe else log,
                stderr=log,
                env={**(os.environ if env is None else env), MARK: mark},
                cwd=cwd,
                pass_fds=(status_write,),
                start_new_session=True,
            )
        except OSError as error:
            os.close(status_read)
            raise _cannot_start(argv, str(error)) from error
    order = {
        "argv": list(argv),
        "grace_s": grace_s,
        "cleanup": list(cleanup),
        "note": None
        if notes is None
        else remains.write_note(notes, mark=mark, guardian=guardian.pid, argv=argv, cleanup=cleanup),
    }
    return Process(order, guardian, status_read, mark=mark)


def detach(argv: Sequence[str], *, log_path: Path) -> int:
    """Start a program that is to outlive us, in a session of its own; its pid. Its output is appended there.

    Raises:
        EngineError: it cannot be executed.
    """
    try:
        with log_path.open("ab") as log:
            return subprocess.Popen(
                list(argv), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            ).pid
    except OSError as error:
        raise _cannot_start(argv, str(error)) from error


class Process:
    """A program that was started, and all it starts. Made by `start`."""

    def __init__(
        self,
        order: Mapping[str, Any],
        guardian: subprocess.Popen[bytes],
        status_fd: int,
        *,
        mark: str,
    ) -> None:
        self._guardian = guardian
        self._status_fd = status_fd
        self._mark = mark
        self._order_given = order
        self._grace_s = float(order["grace_s"])
        self._lock = threading.RLock()
        self._unread = b""
        self._told: dict[str, object] = {}
        self._ended = False  # the guardian will tell no more
        self._report: StopReport | None = None
        os.set_blocking(status_fd, False)
        self.pid = self._begin()
        _live[id(self)] = self

    def __repr__(self) -> str:
        return f"Process(pid={self.pid}, exit_code={self._told.get('exit')})"

    @property
    def stdout(self) -> IO[bytes] | None:
        """The child's standard output, when it was asked for."""
        return self._guardian.stdout

    def poll(self) -> int | None:
        """The child's exit code (negative: ended by that signal), None while it runs."""
        with self._lock:
            self._read(0)
            code = self._told.get("exit")
            if isinstance(code, int):
                return code
            if self._ended:  # the guardian was killed, and the kernel killed the child with it
                return self.stop().exit_code
            return None

    def wait(self, timeout_s: float) -> int | None:
        """The child's exit code, None when it still runs after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while (code := self.poll()) is None and (left_s := deadline - time.monotonic()) > 0:
            self._read(left_s)
        return code

    def stop(self, grace_s: float | None = None) -> StopReport:
        """End the program and everything it started; returns when all are gone. May be called again.

        `grace_s`: from SIGTERM to SIGKILL (None: as given at the start).
        """
        with self._lock:
            if self._report is None:
                self._report = self._stop(self._grace_s if grace_s is None else grace_s)
                _live.pop(id(self), None)
            return self._report

    def descendants(self) -> tuple[int, ...]:
        """Pids of the child and all below it that live, also those that made sessions of their own."""
        try:
            found = psutil.Process(self._guardian.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return ()
        return tuple(process.pid for process in found if lives(process))

    def _begin(self) -> int:
        self._order(json.dumps(self._order_given))
        deadline = time.monotonic() + _START_S
        while not self._told and not self._ended and (left_s := deadline - time.monotonic()) > 0:
            self._read(left_s)
        pid = self._told.get("pid")
        if not isinstance(pid, int):
            self._close()
            why = self._told.get("error", "it was not started, and nobody said why")
            raise _cannot_start(self._order_given["argv"], str(why))
        return pid

    def _order(self, line: str) -> None:
        stdin = self._guardian.stdin
        assert stdin is not None
        with contextlib.suppress(OSError, ValueError):  # the guardian is gone: seen when its status is read
            stdin.write(line.encode() + b"\n")
            stdin.flush()

    def _read(self, timeout_s: float) -> None:
        """Take in what the guardian told, waiting for more up to `timeout_s` or a quarter of a second."""
        if self._ended:
            return
        if timeout_s > 0:
            poller = select.poll()  # select() cannot take a descriptor above 1023
            poller.register(self._status_fd, select.POLLIN)
            poller.poll(min(timeout_s, _LOOK_S) * 1000)
        with self._lock, contextlib.suppress(BlockingIOError):
            while not self._ended:
                got = os.read(self._status_fd, 65536)
                self._ended = not got
                *lines, self._unread = (self._unread + got).split(b"\n")
                for line in lines:
                    self._told.update(json.loads(line))

    def _stop(self, grace_s: float) -> StopReport:
        self._order(f"stop {grace_s}")
        deadline = time.monotonic() + grace_s + _AFTER_KILL_S
        while not self._ended and (left_s := deadline - time.monotonic()) > 0:
            self._read(left_s)
        if "left" in self._told:
            forced, left = _pids(self._told["forced"]), _pids(self._told["left"])
        else:
            forced, left = remains.sweep(self._mark, self.pid, but=self._guardian.pid)
            remains.clean(self._order_given["cleanup"], self._order_given["note"])
        self._close()
        code = self._told.setdefault("exit", -signal.SIGKILL)
        return StopReport(exit_code=code if isinstance(code, int) else -1, forced=forced, left=left)

    def _close(self) -> None:
        self._ended = True
        assert self._guardian.stdin is not None
        with contextlib.suppress(OSError):
            self._guardian.stdin.close()
        try:
            self._guardian.wait(_AFTER_KILL_S)
        except subprocess.TimeoutExpired:
            self._guardian.kill()
            self._guardian.wait()
        os.close(self._status_fd)


_live: dict[int, Process] = {}
os.register_at_fork(after_in_child=_live.clear)  # a fork of ours does not own what we started


@atexit.register
def _stop_all() -> None:
    for process in tuple(_live.values()):
        process.stop()


def _pids(value: object) -> tuple[int, ...]:
    return tuple(int(pid) for pid in value) if isinstance(value, list) else ()


def _cannot_start(argv: Sequence[str], reason: str) -> EngineError:
    return EngineError(
        f"{argv[0]} cannot be started", seen=reason, do="check that it is installed and may be executed"
    )


def in_this_terminal(argv: Sequence[str]) -> int:
    """Run a program to its end as a person would here, Ctrl-C included; its exit code."""
    return subprocess.run(list(argv), check=False).returncode


def tail(path: Path, lines: int = 30, max_bytes: int = 65_536) -> str:
    """The last `lines` lines of a log, without colours and control characters; empty when there is none.

    Reads at most `max_bytes` from the end; bytes that are no UTF-8 become U+FFFD.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - max_bytes))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""
    kept = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    kept = kept[:-1] if kept[-1] == "" else kept
    return "\n".join(_ESCAPES.sub("", line).rstrip() for line in kept[-lines:])


def redact(text: str, secrets: Iterable[str]) -> str:
    """`text` with every occurrence of a secret replaced; what is shorter than 4 characters is no secret."""
    for secret in sorted({secret for secret in secrets if len(secret) >= 4}, key=len, reverse=True):
        text = text.replace(secret, "[redacted]")
    return text
