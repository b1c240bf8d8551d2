"""Nothing that we start outlives us, whoever is killed and however it resists."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from pytest_inferforge import processes
from pytest_inferforge.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="subreapers are Linux's")

# Ignores SIGTERM, and so does a grandchild that left by setsid and a double fork. Both write their pids.
STUBBORN = """
    import os, signal, sys, time
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    note = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.write(note, b"%d\\n" % os.getpid())
            time.sleep(600)
        os._exit(0)
    os.wait()
    os.write(note, b"%d\\n" % os.getpid())
    time.sleep(600)
"""


def lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def eventually(condition: Callable[[], object], *, within_s: float = 10.0) -> bool:
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def written_pids(note: Path, count: int = 2) -> list[int]:
    def read() -> list[int]:
        return [int(line) for line in note.read_text().splitlines()] if note.exists() else []

    assert eventually(lambda: len(read()) == count), "the tree did not come up"
    return read()


def python(code: str, *args: object) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(code), *map(str, args)]


def start(argv: list[str], tmp_path: Path, *, grace_s: float = 0.3, **more: object) -> processes.Process:
    return processes.start(argv, env=None, log_path=tmp_path / "log", grace_s=grace_s, **more)  # type: ignore[arg-type]


def start_in_another_python(tmp_path: Path, after: str) -> tuple[subprocess.Popen[bytes], list[int]]:
    """A Python that starts the stubborn tree and then does `after`; returns it and the pids of the tree."""
    note = tmp_path / "pids"
    code = f"""
from pathlib import Path
import os, sys, time
from pytest_inferforge import processes
note, log = Path({str(note)!r}), Path({str(tmp_path / "log")!r})
process = processes.start({python(STUBBORN, note)!r}, env=None, log_path=log, grace_s=30)
while not note.exists() or len(note.read_text().splitlines()) < 2:
    time.sleep(0.02)
{after}
"""
    root = Path(processes.__file__).parents[1]
    parent = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(root)})
    return parent, written_pids(note)


def test_nothing_is_left_5_s_after_the_parent_was_killed(tmp_path: Path) -> None:
    parent, pids = start_in_another_python(tmp_path, "time.sleep(600)")
    assert all(map(lives, pids))
    parent.kill()
    parent.wait()
    assert eventually(lambda: not any(map(lives, pids)), within_s=5.0)


def test_nothing_is_left_when_a_fork_of_the_killed_parent_holds_its_pipes(tmp_path: Path) -> None:
    fork = tmp_path / "fork"
    after = f"""
fork = os.fork()
if fork == 0:
    Path({str(fork)!r}).write_text(str(os.getpid()))
time.sleep(600)
"""
    parent, pids = start_in_another_python(tmp_path, after)
    (holder,) = written_pids(fork, 1)
    try:
        parent.kill()
        parent.wait()
        assert eventually(lambda: not any(map(lives, pids)), within_s=5.0)
        assert lives(holder)
    finally:
        os.kill(holder, signal.SIGKILL)


def test_an_exit_without_stop_stops(tmp_path: Path) -> None:
    parent, pids = start_in_another_python(tmp_path, "process._grace_s = 0.2; sys.exit(3)")
    assert parent.wait(20) == 3
    assert not any(map(lives, pids))


def test_a_fork_that_exits_does_not_stop_what_its_parent_started(tmp_path: Path) -> None:
    done = tmp_path / "done"
    after = f"""
if os.fork() == 0:
    sys.exit(0)
os.wait()
Path({str(done)!r}).write_text("1")
time.sleep(600)
"""
    parent, pids = start_in_another_python(tmp_path, after)
    written_pids(done, 1)
    assert all(map(lives, pids))
    parent.kill()
    parent.wait()
    assert eventually(lambda: not any(map(lives, pids)), within_s=5.0)


def test_stop_ends_a_tree_that_ignores_sigterm(tmp_path: Path) -> None:
    note = tmp_path / "pids"
    process = start(python(STUBBORN, note), tmp_path)
    pids = written_pids(note)
    assert set(process.descendants()) == set(pids)
    report = process.stop()
    assert not any(map(lives, pids))
    assert report.exit_code == -signal.SIGKILL
    assert set(report.forced) == set(pids)
    assert report.left == ()
    assert process.stop() is report
    assert process.poll() == -signal.SIGKILL
    assert process.descendants() == ()


def test_stop_works_when_the_guardian_was_killed(tmp_path: Path) -> None:
    note = tmp_path / "pids"
    process = start(python(STUBBORN, note), tmp_path)
    pids = written_pids(note)
    os.kill(process._guardian.pid, signal.SIGKILL)
    assert process.stop().exit_code == -signal.SIGKILL
    assert not any(map(lives, pids))


def test_the_child_dies_with_its_guardian_and_poll_says_so(tmp_path: Path) -> None:
    note = tmp_path / "pids"
    process = start(python(STUBBORN, note), tmp_path)
    pids = written_pids(note)
    os.kill(process._guardian.pid, signal.SIGKILL)
    assert process.wait(10) == -signal.SIGKILL
    assert not any(map(lives, pids))


def test_what_a_child_leaves_behind_is_ended_with_it(tmp_path: Path) -> None:
    note = tmp_path / "pids"
    code = """
        import subprocess, sys
        left = subprocess.Popen(["sleep", "600"], start_new_session=True)
        open(sys.argv[1], "w").write(f"{left.pid}\\n")
        sys.exit(7)
    """
    process = start(python(code, note), tmp_path)
    assert process.wait(10) == 7
    (pid,) = written_pids(note, 1)
    assert eventually(lambda: not lives(pid), within_s=5.0)
    assert process.stop().exit_code == 7


def test_a_child_that_cleans_up_on_sigterm_has_the_time(tmp_path: Path) -> None:
    note = tmp_path / "pids"
    code = """
        import os, signal, sys, time
        def clean(*_):
            time.sleep(0.2)
            sys.exit(5)
        signal.signal(signal.SIGTERM, clean)
        open(sys.argv[1], "w").write(f"{os.getpid()}\\n")
        time.sleep(600)
    """
    process = start(python(code, note), tmp_path, grace_s=10)
    written_pids(note, 1)
    report = process.stop()
    assert (report.exit_code, report.forced) == (5, ())


def test_output_goes_to_the_log_and_stdout_to_the_pipe(tmp_path: Path) -> None:
    process = start(
        python("import sys; print('out'); print('err', file=sys.stderr)"), tmp_path, stdout_pipe=True
    )
    assert process.stdout is not None
    with process.stdout as stdout:
        assert stdout.read() == b"out\n"  # ends with the child, though its guardian may live on
    assert process.wait(10) == 0
    process.stop()
    assert (tmp_path / "log").read_text() == "err\n"


def test_it_has_a_session_of_its_own_and_its_environment_is_in_no_command_line(tmp_path: Path) -> None:
    process = processes.start(
        ["sleep", "600"],
        env={"PATH": os.environ["PATH"], "API_KEY": "s3cr3t-value"},
        log_path=None,
        grace_s=1,
        cwd=tmp_path,
    )
    try:
        assert os.getsid(process.pid) == process.pid
        assert psutil.Process(process.pid).environ()["API_KEY"] == "s3cr3t-value"
        assert psutil.Process(process.pid).cwd() == str(tmp_path)
        for one in (process.pid, process._guardian.pid):
            assert "s3cr3t-value" not in " ".join(psutil.Process(one).cmdline())
        assert process.poll() is None
    finally:
        assert process.stop().exit_code == -signal.SIGTERM


def test_a_program_that_is_not_there_is_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="no-such-program cannot be started") as caught:
        start(["no-such-program"], tmp_path)
    assert "No such file" in str(caught.value)
    with pytest.raises(EngineError, match="sleep cannot be started"):
        start(["sleep", "1"], tmp_path, cwd=tmp_path / "missing")
