"""Whether anything outlives a pytest that is killed: SIGKILL at moments spread over boot, load and teardown.

    python benchmarks/orphans.py [--kills 50] [--engine llama.cpp]
    python benchmarks/orphans.py --engine vllm --python PYTHON --model FOLDER

Each kill starts a suite that boots the engine twice and drives load at it, waits for its moment, sends
SIGKILL to pytest, and counts what still runs 10 s later of all that was started, grandchildren included. It
exits with 1 when anything does. vLLM needs the interpreter of its environment and a model.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from tabulate import tabulate

SUITE = """\
import pytest

@pytest.mark.infer_workload(arrivals="closed 4", requests=200, prompt_tokens=32, output_tokens=16)
def test_load(infer_run): pass

@pytest.mark.infer_server(max_num_seqs=2)
@pytest.mark.infer_workload(arrivals="closed 2", requests=40, prompt_tokens=32, output_tokens=8)
def test_again(infer_run): pass
"""
VARIABLE = "INFERFORGE_ORPHANS"
LIMITS = 'floor_requests = 0\n[limits]\nschedule_lag = "1 s"\nloop_lag = "1 s"\nworker_cpu = 10.0\n'


def started(mark: str) -> list[psutil.Process]:
    """Everything that inherited the variable and runs."""
    found = []
    for process in psutil.process_iter():
        try:
            alive = process.status() != psutil.STATUS_ZOMBIE
            if alive and process.environ().get(VARIABLE) == mark:
                found.append(process)
        except psutil.Error:
            continue
    return found


def begin(folder: Path, mark: str, options: list[str]) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options]
    env = {**os.environ, VARIABLE: mark}
    return subprocess.Popen(argv, cwd=folder, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def one_kill(folder: Path, mark: str, options: list[str], moment_s: float) -> tuple[str, int, int]:
    """(what pytest was at, processes at that moment, processes that outlived it)."""
    running = begin(folder, mark, options)
    over = time.monotonic() + moment_s
    while time.monotonic() < over and running.poll() is None:
        time.sleep(0.01)
    ended = running.poll() is not None
    before = started(mark)
    names = {process.name() for process in before}
    if not ended:
        running.send_signal(signal.SIGKILL)
    running.wait()
    deadline = time.monotonic() + 10.0
    while (left := started(mark)) and time.monotonic() < deadline:
        time.sleep(0.1)
    for process in left:
        process.kill()
    at = "had ended" if ended else f"{len(before)} processes ({', '.join(sorted(names))[:60]})"
    return at, len(before), len(left)


def main() -> int:
    parser = argparse.ArgumentParser(description="Whether anything outlives a pytest that is killed.")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--engine", action="append", default=[])
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--model", default="")
    parser.add_argument("--show", action="store_true", help="a line for each kill")
    arguments = parser.parse_args()
    total, rows = 0, []
    for engine in arguments.engine or ["llama.cpp"]:
        options = [f"--infer-backend={engine}"]
        if engine != "llama.cpp":
            options += [f"--infer-python={arguments.python}", f"--infer-model={arguments.model}"]
            options += [
                "--infer-set=dtype=float32",
                "--infer-set=eager=true",
                "--infer-set=max_model_len=1024",
            ]
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "test_o.py").write_text(SUITE)
            (folder / "pytest.ini").write_text("[pytest]\n")
            (folder / "inferforge.toml").write_text(LIMITS)
            whole = time.monotonic()
            begin(folder, "whole", options).wait()
            whole = time.monotonic() - whole
            seen, most, orphans = 0, 0, 0
            for k in range(arguments.kills):
                moment_s = whole * (k + 0.5) / arguments.kills
                at, count, left = one_kill(folder, f"{engine}-{os.getpid()}-{k}", options, moment_s)
                seen, most, orphans = seen + count, max(most, count), orphans + left
                if arguments.show:
                    print(f"{engine} {moment_s:6.2f} s: {at}, {left} left", flush=True)
        rows.append(
            (engine, arguments.kills, f"{whole:.1f} s", f"{seen / arguments.kills:.1f}", most, orphans)
        )
        total += orphans
    print(
        tabulate(rows, headers=("engine", "kills", "whole run", "processes (mean)", "(most)", "outlived it"))
    )
    return 1 if total else 0


if __name__ == "__main__":
    sys.exit(main())
