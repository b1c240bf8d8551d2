"""What logs of servers that did not boot say, in the shapes in which engines write it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_inferforge.servers import diagnosis

# a line of a log -> what is to be done has to speak of it
LOGS = {
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 3 GiB.": "memory_fraction, max_model_len",
    "ggml_backend_alloc: failed to allocate buffer of size 68719476736": "ran out of memory",
    "RuntimeError: Not enough memory. Please try to increase --mem-fraction-static.": "ran out of memory",
    "ValueError: Free memory on device cuda:0 (10.2/23.7 GiB) on startup is less than desired GPU memory": (
        "another program holds the device's memory"
    ),
    "ValueError: Available memory on node 0 (12.6/23.4 GiB) on startup is less than desired": (
        "memory_fraction asks for more than there is"
    ),
    "ValueError: No available memory for the cache blocks. Try increasing `gpu_memory`": "kv_cache_bytes",
    "ValueError: max seq len (131072) is larger than the maximum number of tokens that can be stored": (
        "lower max_model_len"
    ),
    "GatedRepoError: 403 Client Error. Access to model org/model is restricted.": "--infer-env=HF_TOKEN",
    "Repository Not Found for url: https://hub/api/models/org/model.": "check its name",
    "LocalEntryNotFoundError: no snapshot here and outgoing traffic has been disabled.": "HF_HUB_OFFLINE",
    "OSError: [Errno 28] No space left on device: '/cache/x'": "a disk is full",
    "[Errno 98] while attempting to bind on address ('127.0.0.1', 8000): address already in use": (
        "its port was taken"
    ),
    "api_server.py: error: unrecognized arguments: --no-such-flag": "does not know an argument",
    "launch_server.py: error: argument --kv-cache-dtype: invalid choice: 'fp8'": "does not know an argument",
    "launch_server.py: error: argument --port: invalid int value: 'x'": "does not know an argument",
    "Error: No such option: --no-such-flag": "--infer-arg",  # click
    "error: unexpected argument '--no-such-flag' found": "--infer-arg",  # clap
    "error: invalid argument: --no-such-flag": "--infer-arg",  # llama.cpp
    "Error: unknown flag: --no-such-flag": "--infer-arg",  # Go
    "llama-server: error while loading shared libraries: libcudart.so.12: cannot open": "library is missing",
}


@pytest.mark.parametrize(("line", "do"), LOGS.items())
def test_a_sign_is_told_from_a_log(line: str, do: str) -> None:
    log = (
        f"INFO 11-21 loading\n{line}\nTraceback (most recent call last):\n  File x\nRuntimeError: see above\n"
    )
    assert do in str(diagnosis.hint(log, 1))


def test_every_sign_is_found_in_one_of_these_logs() -> None:
    for pattern, _ in diagnosis._SIGNS:
        assert any(re.search(pattern, line) for line in LOGS), pattern


def test_what_is_no_sign_gives_no_advice() -> None:
    log = "INFO 11-21 Starting to load model\nWARNING: --seed is not set\nGET /health 200\n"
    assert diagnosis.hint(log, 1) is None
    assert diagnosis.hint("", None) is None


@pytest.mark.parametrize("code", [-9, 137])
def test_a_kill_that_nobody_here_sent_is_the_kernels(code: int) -> None:
    assert "takes too much memory" in str(diagnosis.hint("loading", code))
    assert "disk is full" in str(diagnosis.hint("No space left on device", code))  # the log knows better


def test_the_first_error_is_picked_and_not_its_echo() -> None:
    log = """\
(Worker_TP0 pid=71) ERROR 11-21 [worker.py:310] WorkerProc failed to start.
(Worker_TP0 pid=71) ERROR 11-21 [worker.py:310] Traceback (most recent call last):
(Worker_TP0 pid=71) ERROR 11-21 [worker.py:310]   File "/x/model.py", line 12, in load
(Worker_TP0 pid=71) ERROR 11-21 [worker.py:310] KeyError: 'lm_head.weight'
(EngineCore_0 pid=41) ERROR 11-21 [core.py:90] Exception: WorkerProc initialization failed
RuntimeError: Engine core initialization failed. See root cause above.
"""
    assert diagnosis.first_error(log) == "KeyError: 'lm_head.weight'"


def test_a_class_with_its_module_is_named_by_its_last_part() -> None:
    assert diagnosis.first_error("torch.OutOfMemoryError: CUDA out of memory.") == (
        "OutOfMemoryError: CUDA out of memory."
    )


@pytest.mark.parametrize(
    "log", ["", "loading", "KeyError:", "no error: all is well", "errors: 0", "Error: bad"]
)
def test_a_log_without_an_exception_has_no_first_error(log: str) -> None:
    assert diagnosis.first_error(log) is None


@given(st.text())
def test_a_first_error_is_one_line_of_bounded_length(text: str) -> None:
    found = diagnosis.first_error(f"ValueError: {text}")
    assert found is None or (len(found) <= 300 and "\n" not in found)


def test_a_long_error_is_cut() -> None:
    assert len(str(diagnosis.first_error("ValueError: " + "x" * 1000))) == 300
