"""Several boots, and boots that fail, on the real embedded llama.cpp."""

import os
import socket
import subprocess
import sys
import time

import psutil
import pytest

LLAMA = "--infer-backend=llama.cpp"
THREE = """
    import pytest
    pytestmark = pytest.mark.infer_workload(
        arrivals="closed 2", requests=12, prompt_tokens=16, output_tokens=4)

    def test_a(infer_run): assert len(infer_run.boots) == 3
    def test_b(infer_run): assert [b.result.boot for b in infer_run.boots] == [1, 2, 3]
    def test_c(infer_run): pass
"""


def test_each_declared_run_is_measured_on_every_boot_in_turned_order(suite):
    suite.write("test_a.py", THREE)
    done = suite.run(LLAMA, "--infer-boots=3", "--infer-save=main")
    assert done.exit_code == 0, done.output
    positions = {
        t["nodeid"][-1]: [(b["boot"], b["position"]) for b in t["boots"]] for t in done.document["tests"]
    }
    assert positions == {
        "a": [(1, 1), (2, 3), (3, 2)],
        "b": [(1, 2), (2, 1), (3, 3)],
        "c": [(1, 3), (2, 2), (3, 1)],
    }
    assert all(b["ready_s"] > 0 for t in done.document["tests"] for b in t["boots"])


def test_tests_of_one_server_share_a_boot_and_stand_together(suite):
    suite.write(
        "test_a.py",
        """
        import pytest

        @pytest.fixture
        def boot(infer_server): return infer_server.pid

        pids = {}
        two = pytest.mark.infer_server(max_num_seqs=2)

        def test_one(boot): pids["one"] = boot
        @two
        def test_two(boot): pids["two"] = boot
        def test_one_again(boot): assert boot == pids["one"]
        @two
        def test_two_again(boot): assert boot == pids["two"] != pids["one"]

        def test_restart(infer_server):
            before = infer_server.pid
            infer_server.restart()
            assert infer_server.pid != before
            # nothing but the prompt of the first token, which each boot is asked for
            assert infer_server.metrics()["llamacpp:prompt_tokens_total"] < 8
        """,
    )
    done = suite.run(LLAMA, "-v")
    assert done.exit_code == 0, done.output


def test_a_boot_that_fails_is_a_setup_error_and_the_others_go_on(suite, tmp_path):
    corrupt = tmp_path / "broken.gguf"
    corrupt.write_bytes(b"GGUF" + bytes(range(256)) * 8)
    taken = socket.socket()
    taken.bind(("127.0.0.1", 0))
    taken.listen()
    port = taken.getsockname()[1]
    suite.write(
        "test_a.py",
        f"""
        import pytest
        W = pytest.mark.infer_workload(arrivals="closed 2", requests=4, prompt_tokens=16, output_tokens=4)

        @W
        @pytest.mark.infer_server(model={str(corrupt)!r})
        def test_corrupt(infer_run): pass

        @W
        @pytest.mark.infer_server(port={port})
        def test_port_taken(infer_run): pass

        @W
        def test_fine(infer_run): pass

        @W
        @pytest.mark.infer_server(url="http://127.0.0.1:{port + 1 if port < 65535 else 1024}")
        def test_nobody_there(infer_run): pass
        """,
    )
    try:
        done = suite.run(LLAMA)
    finally:
        taken.close()
    assert done.exit_code == 1
    assert done.outcomes == {
        "test_a.py::test_corrupt": "error", "test_a.py::test_port_taken": "error",
        "test_a.py::test_fine": "passed", "test_a.py::test_nobody_there": "error",
    }  # fmt: skip
    assert done.document["session"]["verdict"] == "error"
    for name, words in {
        "test_corrupt": ["llama.cpp", "seen:", "do:", "end of the server's log"],
        "test_port_taken": [f"port {port} on 127.0.0.1 is taken", "seen:", "do:"],
        "test_nobody_there": ["seen:", "do:", "refused"],
    }.items():
        message = done.failures[f"test_a.py::{name}"]
        for word in words:
            assert word in message, message
        assert "Traceback" not in message
        assert "another exception" not in message


def test_an_engine_that_is_not_installed_is_a_setup_error_and_the_others_go_on(suite, timetable):
    suite.write("conftest.py", "import sys; sys.modules['xllamacpp'] = None")
    suite.write(
        "test_a.py",
        f"""
        import pytest
        def test_a(infer_server): pass

        @pytest.mark.infer_server(url={timetable()!r})
        def test_b(infer_server): pass
        """,
    )
    done = suite.run(LLAMA)
    assert done.outcomes == {"test_a.py::test_a": "error", "test_a.py::test_b": "passed"}
    message = done.failures["test_a.py::test_a"]
    assert "the embedded llama.cpp is not installed" in message
    assert "pytest-inferforge[llamacpp]" in message
    assert "Traceback" not in message


def test_a_server_that_dies_in_mid_run_spoils_only_its_own_test(suite):
    suite.write(
        "test_a.py",
        """
        import os, signal, threading, time
        import pytest
        W = pytest.mark.infer_workload(
            arrivals="constant 20 req/s", requests=40, prompt_tokens=16, output_tokens=8)

        @pytest.fixture
        def killed(infer_server):
            threading.Timer(1.0, os.kill, (infer_server.pid, signal.SIGKILL)).start()

        @W
        def test_killed(killed, infer_run): pass

        @W
        def test_next(infer_run): assert infer_run.metrics["error_ratio"] == 0
        """,
    )
    done = suite.run(LLAMA)
    assert done.outcomes == {"test_a.py::test_killed": "error", "test_a.py::test_next": "passed"}
    assert "SIGKILL" in done.failures["test_a.py::test_killed"]


KILLS = int(os.environ.get("INFERFORGE_KILLS", "3"))


@pytest.mark.parametrize("moment_s", [0.4 + 0.15 * k for k in range(KILLS)])
def test_nothing_outlives_pytest(suite, moment_s):
    """SIGKILL for pytest while load runs: 5 s later no process of ours or the engine's is left."""
    suite.write(
        "test_a.py",
        """
        import pytest

        @pytest.mark.infer_workload(arrivals="closed 4", duration="60 s", prompt_tokens=16, output_tokens=8)
        def test_long(infer_run): pass
        """,
    )
    run = subprocess.Popen(  # not by the suite, whose own guardian would clean up after pytest
        [sys.executable, "-m", "pytest", LLAMA],
        cwd=suite.folder,
        env={k: v for k, v in os.environ.items() if k != "CI"},
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        pytest_process = psutil.Process(run.pid)
        family = family_once_loading(pytest_process)
        time.sleep(moment_s)
        family |= set(pytest_process.children(recursive=True))
        run.kill()
        deadline = time.monotonic() + 5.0
        while time.monotonic() < deadline and any(lives(p) for p in family):
            time.sleep(0.05)
        left = [p for p in family if lives(p)]
    finally:
        run.kill()
        run.wait()
    assert len(family) >= 4  # two guardians, the engine, the load worker
    assert left == []


def family_once_loading(process):
    """All descendants of pytest, as soon as the load worker is among them."""
    deadline = time.monotonic() + 60.0
    while time.monotonic() < deadline:
        family = set(process.children(recursive=True))
        if any("loadgen.worker" in " ".join(cmdline(p)) for p in family):
            return family
        time.sleep(0.02)
    raise AssertionError("the load never began")


def cmdline(process):
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def lives(process):
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
