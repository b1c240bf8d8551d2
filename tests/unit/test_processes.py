from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import psutil
import pytest

from pytest_inferforge import processes
from pytest_inferforge.errors import EngineError
from pytest_inferforge.processes import ask, detach, redact, tail


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_the_tail_is_the_last_lines_without_colours_and_garbage(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"one\ntwo\n\x1b[31mthree\x1b[0m\x00\r\n\xff\xfe four")
    assert tail(log, lines=2) == "three\n�� four"


def test_the_tail_of_a_long_log_reads_only_its_end(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"x" * 1_000_000 + b"\nlast\n")
    assert tail(log, max_bytes=10) == "xxxx\nlast"


def test_the_tail_of_nothing_is_empty(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert tail(tmp_path / "missing") == ""
    assert tail(tmp_path / "empty") == ""


def test_secrets_are_replaced_the_longest_first() -> None:
    assert redact("a=abcdef b=abcd", ["abcd", "abcdef"]) == "a=[redacted] b=[redacted]"


def test_what_is_too_short_to_be_a_secret_stays() -> None:
    assert redact("port 1 of 1", ["1", ""]) == "port 1 of 1"


@pytest.mark.parametrize(
    ("code", "answer"),
    [
        ("print('one'); print('two')", (0, "one\ntwo", "two")),
        ("import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)", (3, "out", "err")),
        ("import sys; sys.exit('it is broken')", (1, "", "it is broken")),
        ("import os; os.kill(os.getpid(), 9)", (-9, "", "")),
        ("print('\\x1b[31mred\\x1b[0m')", (0, "red", "red")),
    ],
)
def test_a_short_program_is_run_to_its_end(code: str, answer: tuple[int, str, str]) -> None:
    said = ask(python(code), timeout_s=20)
    assert (said.code, said.out, said.said) == answer


def test_a_short_program_has_our_environment_or_the_one_that_is_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SOME_WORD", "ours")
    code = "import os; print(os.environ.get('SOME_WORD'))"
    assert ask(python(code), timeout_s=20).out == "ours"
    assert ask(python(code), timeout_s=20, env={"SOME_WORD": "given"}).out == "given"
    assert ask(python(code), timeout_s=20, env={}).out == "None"


def test_nobody_answers_the_questions_of_a_short_program() -> None:
    read, write = os.pipe()
    kept = os.dup(0)
    os.dup2(read, 0)
    try:
        assert ask(python("import sys; print('read', sys.stdin.read())"), timeout_s=20).out == "read"
    finally:
        os.dup2(kept, 0)
        for descriptor in (read, write, kept):
            os.close(descriptor)


def test_a_program_that_does_not_end_is_ended() -> None:
    began = time.monotonic()
    with pytest.raises(EngineError, match="does not end") as caught:
        ask(["sleep", "600"], timeout_s=0.2)
    assert caught.value.seen == "it ran 0.2 s"
    assert time.monotonic() - began < 5


def test_what_a_program_leaves_in_the_background_is_not_waited_for() -> None:
    began = time.monotonic()
    said = ask(["sh", "-c", "sleep 600 & echo $!"], timeout_s=20)
    pid = int(said.out)
    try:
        assert time.monotonic() - began < 5
        assert psutil.Process(pid).is_running()
    finally:
        os.kill(pid, signal.SIGKILL)


def test_a_program_that_is_not_there_is_an_error() -> None:
    with pytest.raises(EngineError, match="no-such-program cannot be started") as caught:
        ask(["no-such-program"], timeout_s=1)
    assert "No such file" in str(caught.value.seen)


def test_a_detached_program_outlives_whoever_started_it(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("before\n")
    child = "import time; print('begun', flush=True); time.sleep(600)"
    code = (
        "import sys; from pathlib import Path; from pytest_inferforge.processes import detach;"
        f"print(detach([sys.executable, '-c', {child!r}], log_path=Path({str(log)!r})))"
    )
    root = Path(processes.__file__).parents[1]
    pid = int(ask(python(code), timeout_s=20, env={**os.environ, "PYTHONPATH": str(root)}).out)
    try:
        assert psutil.Process(pid).is_running()
        assert os.getsid(pid) == pid
        deadline = time.monotonic() + 10
        while log.read_text() != "before\nbegun\n":
            assert time.monotonic() < deadline
    finally:
        os.kill(pid, signal.SIGKILL)


def test_a_program_that_cannot_be_detached_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="no-such-program cannot be started"):
        detach(["no-such-program"], log_path=tmp_path / "log")
    with pytest.raises(EngineError, match="sleep cannot be started") as caught:
        detach(["sleep", "1"], log_path=tmp_path / "missing" / "log")
    assert "missing" in str(caught.value.seen)
