"""What engines do to us, for real: killed, stopped, without a disk, without a port."""

import os
import signal
import socket
import subprocess
import time

import pytest

pytest.importorskip("xllamacpp", reason="the embedded llama.cpp is not installed (extra llamacpp)")

HEAD = """\
import os, signal, threading
import psutil, pytest

def later(seconds, pid, number):
    timer = threading.Timer(seconds, os.kill, (pid, number))
    timer.daemon = True
    timer.start()

load = pytest.mark.infer_workload(
    arrivals="poisson 20 req/s", requests=120, prompt_tokens=24, output_tokens=8,
    timeout="4 s", stall_timeout="4 s", drain_timeout="20 s",
)
few = pytest.mark.infer_workload(
    arrivals="constant 20 req/s", requests=20, prompt_tokens=24, output_tokens=8
)

@pytest.fixture
def pause(infer_server):
    later(2.0, infer_server.pid, signal.SIGSTOP)
    later(3.5, infer_server.pid, signal.SIGCONT)

@pytest.fixture
def kill(infer_server):
    later(2.0, infer_server.pid, signal.SIGKILL)

@pytest.fixture
def kill_a_worker(infer_server):
    below = psutil.Process(infer_server.pid).children(recursive=True)
    workers = [p for p in below if "Worker" in p.name() or "Worker" in " ".join(p.cmdline())]
    assert workers, [(p.name(), p.cmdline()) for p in below]
    later(2.0, workers[0].pid, signal.SIGKILL)

@pytest.fixture
def stop(infer_server):
    later(2.0, infer_server.pid, signal.SIGSTOP)
"""
BROKEN = """
@load
def test_{fault}({fault}, infer_run):
    pass

@few
def test_after_{fault}(infer_run):
    assert infer_run.metrics["error_ratio"] == 0
"""
LONG = (
    HEAD
    + """
@pytest.mark.infer_workload(arrivals="constant 10 req/s", requests=3000, prompt_tokens=24, output_tokens=8)
def test_long(infer_run):
    pass
"""
)
PLAIN = HEAD + "\n@few\ndef test_first(infer_run):\n    pass\n"


def text_of(done):
    return "\n".join(done.failures.values()) + done.output


@pytest.mark.parametrize("engine", ["llama.cpp", "vllm"])
def test_an_engine_that_is_killed_or_stopped_spoils_its_own_test_only(engine, suite, backends):
    workers = ["kill_a_worker"] if engine == "vllm" else []
    faults = ["pause", "kill", *workers, "stop"]
    suite.write("test_it.py", HEAD + "".join(BROKEN.format(fault=fault) for fault in faults))
    began = time.monotonic()
    done = suite.run(*backends(engine), timeout_s=500)
    assert time.monotonic() - began < 400
    outcome = {name.partition("::")[2]: seen for name, seen in done.outcomes.items()}
    assert {f"test_after_{fault}": outcome[f"test_after_{fault}"] for fault in faults} == {
        f"test_after_{fault}": "passed" for fault in faults
    }, done.output
    measured = {test["nodeid"].partition("::")[2]: test["boots"][0] for test in done.document["tests"]}

    # A pause that requests outlive is a stall in their latencies, and nothing else: the boot goes on.
    assert outcome["test_pause"] == "passed"
    paused = measured["test_pause"]
    assert paused["requests"]["failed"] == 0
    assert paused["metrics"]["ttft_s.max"] > 1.0 > paused["metrics"]["ttft_s.p50"]
    assert paused["ready_s"] == measured["test_after_pause"]["ready_s"]

    # A server that is gone is a set-up error with its last words.
    assert outcome["test_kill"] == "error"
    assert "was killed by SIGKILL" in done.failures["test_it.py::test_kill"]
    assert measured["test_after_kill"]["ready_s"] != paused["ready_s"]

    # A server without one of its workers ends itself, or answers with errors until it does.
    for fault in workers:
        assert outcome[f"test_{fault}"] in ("error", "failed"), done.output

    # A server that hangs fails the requests that wait, and is replaced.
    assert outcome["test_stop"] == "failed", done.output
    stopped = measured["test_stop"]
    assert stopped["requests"]["failed"] > 0
    assert stopped["requests"]["completed"] > 0
    assert stopped["validity"]["verdict"] == "valid"
    assert "does not answer any more" in done.output
    assert suite.running() == []


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 kB, nearly full."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=65536", "none", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.decode().strip()}")
    (folder / "filler").write_bytes(b"x" * 61_440)
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("engine", ["llama.cpp", "vllm"])
def test_a_full_disk_is_named(engine, suite, backends, small_disk):
    suite.write("test_it.py", PLAIN)
    began = time.monotonic()
    done = suite.run(*backends(engine), f"--infer-store={small_disk / 'store'}", timeout_s=300)
    assert time.monotonic() - began < 200
    assert done.exit_code != 0
    assert "No space left on device" in text_of(done), done.output
    assert "Traceback" not in done.failures.get("test_it.py::test_first", ""), done.failures
    assert suite.running() == []


@pytest.mark.parametrize("engine", ["llama.cpp", "vllm"])
def test_a_taken_port_is_named_with_who_holds_it(engine, suite, backends):
    suite.write("test_it.py", PLAIN)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        began = time.monotonic()
        done = suite.run(*backends(engine), f"--infer-port={port}", timeout_s=120)
    assert time.monotonic() - began < 60
    assert set(done.outcomes.values()) == {"error"}
    assert f"port {port}" in text_of(done)
    assert str(os.getpid()) in text_of(done)


@pytest.mark.parametrize("moment_s", [9.0, 30.0])  # boot, about ready, load: as this machine has it
def test_nothing_of_vllm_outlives_a_killed_pytest(moment_s, suite, backends):
    suite.write("test_it.py", LONG)
    process = suite.start(*backends("vllm"))
    deadline = time.monotonic() + moment_s
    while time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.1)
    assert len(suite.running()) > 2  # pytest, a guardian, and what they run
    os.kill(process.pid, signal.SIGKILL)
    deadline = time.monotonic() + 15.0
    while suite.running() and time.monotonic() < deadline:
        time.sleep(0.1)
    left = suite.running()
    process.stop()
    assert left == []


def test_a_cache_that_memory_does_not_hold_is_said(suite, backends):
    suite.write("test_it.py", PLAIN)
    done = suite.run(*backends("vllm"), f"--infer-set=kv_cache_bytes={10**12}", timeout_s=300)
    assert set(done.outcomes.values()) == {"error"}
    said = done.failures["test_it.py::test_first"]
    assert "first error in its log: ValueError: Available memory on node" in said, said
    assert "memory_fraction asks for more than there is" in said
    assert suite.running() == []
