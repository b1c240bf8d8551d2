"""What is left when a run and its guardians are killed: the next run ends it, and nothing else."""

from __future__ import annotations

import json
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

from pytest_inferforge import processes, remains

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="death signals are Linux's")

# A child, and a grandchild that left it by setsid and a double fork. Both write their pids.
TREE = """
    import os, sys, time
    def write():
        with open(sys.argv[1], "a") as note:
            note.write(f"{os.getpid()}\\n")
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            write()
            time.sleep(600)
        os._exit(0)
    os.wait()
    while not os.path.exists(sys.argv[1]):
        time.sleep(0.01)
    write()
    time.sleep(600)
"""
RUN = """
    import sys, time
    from pathlib import Path
    from pytest_inferforge import processes
    folder, tree, *cleanup = sys.argv[1:]
    argv, notes = [sys.executable, "-c", tree, f"{folder}/pids"], Path(folder) / "notes"
    process = processes.start(argv, env=None, log_path=None, grace_s=5, cleanup=cleanup, notes=notes)
    time.sleep(600)
"""


class Run:
    """A Python that started the tree, its guardian, and the two processes of the tree, by their pids."""

    def __init__(self, folder: Path, *cleanup: str) -> None:
        self.notes = folder / "notes"
        root = Path(processes.__file__).parents[1]
        self.process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(RUN), str(folder), textwrap.dedent(TREE), *cleanup],
            env={**os.environ, "PYTHONPATH": str(root)},
        )
        pids = folder / "pids"
        assert eventually(lambda: pids.exists() and len(pids.read_text().splitlines()) == 2)
        self.grandchild, self.child = (int(line) for line in pids.read_text().splitlines())
        (self.note,) = self.notes.iterdir()
        self.order = self.note.read_text()
        self.guardian = json.loads(self.order)["guardian"][0]
        self.pid = self.process.pid

    def kill(self, *pids: int) -> None:
        """At once: none of them sees another's end."""
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        assert eventually(lambda: all(psutil.Process(p).status() == psutil.STATUS_STOPPED for p in pids))
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        if self.pid in pids:
            self.process.wait()
        assert eventually(lambda: not any(map(lives, pids)))

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        remains.sweep(json.loads(self.order)["mark"], 0)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    made = Run(tmp_path)
    yield made
    made.end()


def lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def eventually(condition: Callable[[], object], *, within_s: float = 15.0) -> bool:
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def test_what_outlived_a_run_and_its_guardian_is_ended_and_told(run: Run) -> None:
    run.kill(run.guardian, run.pid)
    assert eventually(lambda: not lives(run.child))  # by its death signal, which its own children do not have
    assert lives(run.grandchild)
    assert remains.reap(run.notes) == (
        f"a server of a killed run was still there ({run.grandchild}): ended now",
    )
    assert not lives(run.grandchild)
    assert list(run.notes.iterdir()) == []
    assert remains.reap(run.notes) == ()


def test_a_run_that_lives_is_left_alone(run: Run) -> None:
    assert remains.reap(run.notes) == ()
    assert all(map(lives, (run.pid, run.guardian, run.child, run.grandchild)))
    assert run.note.exists()


def test_a_guardian_that_lives_is_left_to_its_work(run: Run) -> None:
    os.kill(run.guardian, signal.SIGSTOP)
    os.kill(run.pid, signal.SIGKILL)
    run.process.wait()
    assert remains.reap(run.notes) == ()
    assert lives(run.grandchild)
    os.kill(run.guardian, signal.SIGCONT)
    assert eventually(lambda: not any(map(lives, (run.child, run.grandchild, run.guardian))))
    assert not run.note.exists()


def test_only_what_bears_the_mark_of_a_killed_run_is_ended(run: Run, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Run(tmp_path / "other")
    try:
        other.note.rename(run.notes / other.note.name)
        run.kill(run.guardian, run.pid)
        assert len(remains.reap(run.notes)) == 1
        assert all(map(lives, (other.pid, other.guardian, other.child, other.grandchild)))
    finally:
        other.end()


def changed(note: Path, **fields: object) -> None:
    note.write_text(json.dumps({**json.loads(note.read_text()), **fields}))


def test_notes_of_another_start_or_another_machine_are_left_until_they_are_old(run: Run) -> None:
    run.kill(run.guardian, run.pid)
    changed(run.note, boot="another")
    assert remains.reap(run.notes) == ()
    assert lives(run.grandchild)
    assert run.note.exists()
    os.utime(run.note, (0, 0))
    assert remains.reap(run.notes) == ()
    assert lives(run.grandchild)
    assert not run.note.exists()


def test_a_stranger_with_the_number_of_a_dead_process_is_never_killed(run: Run) -> None:
    with subprocess.Popen(["sleep", "600"]) as stranger:
        try:
            began = remains._started(stranger.pid)
            assert began is not None
            run.kill(run.guardian, run.pid)
            changed(run.note, owner=[stranger.pid, began - 1], guardian=[stranger.pid, began + 1])
            assert len(remains.reap(run.notes)) == 1  # not taken for the owner that lives
            assert lives(stranger.pid)
            assert not lives(run.grandchild)
        finally:
            stranger.kill()


def test_a_clock_that_is_set_makes_no_owner_a_stranger(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    real = psutil.Process.create_time
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: real(self) + 3600.0)
    assert remains.reap(run.notes) == ()
    assert all(map(lives, (run.pid, run.guardian, run.child, run.grandchild)))


def test_what_was_to_be_cleaned_up_is(tmp_path: Path) -> None:
    done = tmp_path / "done"
    run = Run(tmp_path, "touch", str(done))
    try:
        run.kill(run.guardian, run.pid)
        run.kill(run.grandchild)
        assert not done.exists()
        assert remains.reap(run.notes) == ()  # none of its processes was there any more
        assert done.exists()
        assert list(run.notes.iterdir()) == []
    finally:
        run.end()


@pytest.mark.parametrize("text", ["", "[]", "{", '{"boot": 1}', '{"owner": [1]}'])
def test_a_broken_note_is_passed_over(text: str, run: Run) -> None:
    (run.notes / "0.json").write_text(text)
    run.kill(run.guardian, run.pid)
    assert len(remains.reap(run.notes)) == 1
    assert not lives(run.grandchild)


def test_without_notes_there_is_nothing_to_do(tmp_path: Path) -> None:
    assert remains.reap(tmp_path / "missing") == ()


def test_a_note_is_there_as_long_as_what_it_tells_of(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    process = processes.start(["sleep", "600"], env=None, log_path=None, grace_s=1, notes=notes)
    assert len(list(notes.iterdir())) == 1
    process.stop()
    assert list(notes.iterdir()) == []


def test_a_folder_that_cannot_be_written_costs_the_notes_alone(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    process = processes.start(["sleep", "600"], env=None, log_path=None, grace_s=1, notes=tmp_path / "file")
    assert process.poll() is None
    process.stop()


def test_what_is_to_be_cleaned_up_is_when_the_guardian_alone_was_killed(tmp_path: Path) -> None:
    done, notes = tmp_path / "done", tmp_path / "notes"
    cleanup = ("touch", str(done))
    process = processes.start(
        ["sleep", "600"], env=None, log_path=None, grace_s=1, cleanup=cleanup, notes=notes
    )
    os.kill(process._guardian.pid, signal.SIGKILL)
    assert process.wait(10) == -signal.SIGKILL
    process.stop()
    assert done.exists()
    assert list(notes.iterdir()) == []
