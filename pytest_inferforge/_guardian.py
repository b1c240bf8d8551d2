"""Stands between pytest and one program it started, so that nothing of the program outlives pytest.

Run by `pytest_inferforge.processes` as `python -I -S _guardian.py STATUS_FD PARENT_PID`, in its own session:

- stdin: one JSON line `{"argv": [...], "grace_s": 5.0, "cleanup": [...], "note": path or null}`, then lines
  `stop SECONDS`; its end means that the parent died.
- stdout and stderr: handed to the child as they are.
- STATUS_FD: JSON lines, `{"pid": n}` or `{"error": text}`, then `{"exit": code}`, at last
  `{"forced": [pids], "left": [pids]}`.

As a child subreaper (Linux) it inherits whatever its descendants leave behind, also after setsid or a double
fork, and it ends only when none is left. It imports little, so that it starts in 20 ms.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import sys
import time

TYPE_CHECKING = False  # the typing module would double the time to start
if TYPE_CHECKING:
    from collections.abc import Callable

PARENT_POLL_S = 0.5  # how soon a parent is missed whose pipe was inherited by somebody else
ENDING_POLL_S = 0.02
ORPHANED_GRACE_S = 2.0  # nobody waits for a clean end any more
CLEANUP_S = 10.0
HOPELESS_S = 10.0  # after SIGKILL; a process that long in an uninterruptible call is reported, not awaited

# Source: Linux include/uapi/linux/prctl.h
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


def prctl(option: int, value: int) -> None:
    """Best effort: where there is no prctl (other systems) the process group is all there is to go by."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


class Guardian:
    """Owns one child and everything below it."""

    def __init__(self, status_fd: int, parent: int) -> None:
        self.status_fd = status_fd
        self.parent = parent
        self.child = 0
        self.exit_reported = False
        self.grace_s = ORPHANED_GRACE_S
        self.kill_at = float("inf")
        self.asked: set[int] = set()  # got SIGTERM
        self.forced: set[int] = set()  # got SIGKILL
        self.pending = b""

    def tell(self, **message: object) -> None:
        with contextlib.suppress(OSError):  # the parent is gone; the work goes on
            os.write(self.status_fd, json.dumps(message).encode() + b"\n")

    def end(self, grace_s: float) -> None:
        """Begin to end everything; a shorter grace wins over one that is running."""
        self.kill_at = min(self.kill_at, time.monotonic() + grace_s)

    def run(self, argv: list[str], grace_s: float, poller: select.poll, wake_fd: int) -> None:
        self.grace_s = grace_s
        self.child = spawn(argv, self.tell)
        if not self.child:
            return
        while True:
            ending = self.kill_at != float("inf")
            for fd, _ in poller.poll((ENDING_POLL_S if ending else PARENT_POLL_S) * 1000):
                if fd == wake_fd:
                    os.read(wake_fd, 4096)
                elif not self.listen():
                    poller.unregister(0)
            if os.getppid() != self.parent:
                self.end(min(self.grace_s, ORPHANED_GRACE_S))
            self.reap()
            if self.exit_reported:
                self.end(min(self.grace_s, ORPHANED_GRACE_S))
            if self.kill_at != float("inf") and self.ended():
                return

    def listen(self) -> bool:
        """Obey what came on stdin; False when it has ended."""
        got = os.read(0, 4096)
        *lines, self.pending = (self.pending + got).split(b"\n")
        for line in lines:
            word, _, seconds = line.decode().partition(" ")
            if word == "stop":
                self.end(float(seconds))
        if not got:
            self.end(min(self.grace_s, ORPHANED_GRACE_S))
        return bool(got)

    def reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            if pid == self.child:
                self.exit_reported = True
                self.tell(exit=os.waitstatus_to_exitcode(status))

    def ended(self) -> bool:
        """Signal what still lives; True when there is nothing left to do."""
        living = descendants(os.getpid(), self.child)
        now = time.monotonic()
        if living and now < self.kill_at + HOPELESS_S:
            force = now >= self.kill_at
            for pid in living if force else living - self.asked:
                send(pid, signal.SIGKILL if force else signal.SIGTERM)
            (self.forced if force else self.asked).update(living)
            return False
        self.reap()
        self.tell(forced=sorted(self.forced), left=sorted(living))
        return True


def spawn(argv: list[str], tell: Callable[..., None]) -> int:
    """Start the child in its own session; 0 when it cannot be executed, which has then been told."""
    guardian = os.getpid()
    failed_read, failed_write = os.pipe()  # closed by a successful exec
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != guardian:
                os._exit(127)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            os.execvp(argv[0], argv)  # noqa: S606
        except OSError as error:
            os.write(failed_write, str(error).encode(errors="replace"))
        os._exit(127)
    os.close(failed_write)
    with os.fdopen(failed_read, "rb") as pipe:
        reason = pipe.read().decode(errors="replace")
    if reason:
        os.waitpid(pid, 0)
        tell(error=reason)
        return 0
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)  # a pipe to the caller must end with the child, not with us
    tell(pid=pid)
    return pid


def send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def descendants(root: int, session: int) -> set[int]:
    """Living processes (no zombies) below `root`, or in the child's `session`."""
    try:
        # os and open here and below, because pathlib would double the time to start.
        entries = [name for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208
    except OSError:
        return in_group(session)
    parents: dict[int, int] = {}
    living: set[int] = set()
    found: set[int] = set()
    for name in entries:
        try:
            with open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123
                # Source: proc_pid_stat(5); the name in parentheses may hold anything, also parentheses.
                fields = file.read().rpartition(b")")[2].split()
        except OSError:
            continue
        pid = int(name)
        parents[pid] = int(fields[1])
        if fields[0] not in (b"Z", b"X"):
            living.add(pid)
            if int(fields[3]) == session:
                found.add(pid)
    for pid in living:
        above = pid
        while above in parents and above != root:
            above = parents[above]
        if above == root and pid != root:
            found.add(pid)
    return found


def in_group(group: int) -> set[int]:
    """Where there is no /proc: the child's process group, which is all that can be seen and signalled."""
    try:
        os.killpg(group, 0)
    except OSError:
        return set()
    return {-group}  # kill(-group) signals all of them


def clean(cleanup: list[str], note: str | None) -> None:
    """What is left to do when all has ended: remove a container, and the note that something runs."""
    if cleanup:
        pid = os.fork()
        if pid == 0:
            try:
                os.execvp(cleanup[0], cleanup)  # noqa: S606
            finally:
                os._exit(127)
        until = time.monotonic() + CLEANUP_S
        while time.monotonic() < until and os.waitpid(pid, os.WNOHANG)[0] == 0:
            time.sleep(ENDING_POLL_S)
    if note:
        with contextlib.suppress(OSError):
            os.unlink(note)  # noqa: PTH108


def first_line() -> tuple[bytes, bytes]:
    got = b""
    while b"\n" not in got:
        more = os.read(0, 65536)
        if not more:
            return b"", b""
        got += more
    line, _, rest = got.partition(b"\n")
    return line, rest


def main() -> None:
    status_fd, parent = int(sys.argv[1]), int(sys.argv[2])
    os.set_inheritable(status_fd, False)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    line, rest = first_line()
    if not line:
        return
    order = json.loads(line)
    guardian = Guardian(status_fd, parent)
    guardian.pending = rest
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: guardian.end(min(guardian.grace_s, ORPHANED_GRACE_S)))
    poller = select.poll()
    poller.register(0, select.POLLIN)
    poller.register(wake_read, select.POLLIN)
    guardian.run(order["argv"], float(order["grace_s"]), poller, wake_read)
    clean(order["cleanup"], order["note"])


if __name__ == "__main__":
    main()
