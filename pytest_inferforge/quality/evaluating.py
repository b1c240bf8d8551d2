"""An evaluation, seen from the test: lm-eval runs in a process of its own, because it takes over whatever
process it runs in (random numbers, threads, logging, an event loop)."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sys
from typing import TYPE_CHECKING, Any

import msgspec

from pytest_inferforge import processes
from pytest_inferforge.dialects import DIALECTS
from pytest_inferforge.errors import InferforgeError, MeasuringError, UsageError
from pytest_inferforge.quality.evaluation import ERROR, EVALUATION, JOB, Evaluation

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from pytest_inferforge.quality.evaluation import Job

INSTALL = "pip install 'pytest-inferforge[quality]'"
_CHILD = "pytest_inferforge.quality.lm_eval_child"
_LOG = "lm-eval.log"
_GRACE_S = 2.0
_EXIT_S = 10.0  # from the end of its output to its exit
_QUIET = {
    "TQDM_DISABLE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "LMEVAL_LOG_LEVEL": "ERROR",
    "LMEVAL_DISABLE_MULTIPROC": "1",
    "PYTHONHASHSEED": "0",
    "PYTHONUNBUFFERED": "1",
}
_OFFLINE = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")


def installed() -> bool:
    """Whether lm-eval is here; it is not imported."""
    return importlib.util.find_spec("lm_eval") is not None


def require() -> None:
    """Raises:
    UsageError: lm-eval is not installed.
    """
    if not installed():
        raise UsageError("lm-eval is not installed", seen="no package lm_eval here", do=INSTALL)


def evaluate(job: Job, *, folder: Path, on_progress: Callable[[int, int], None] | None = None) -> Evaluation:
    """Ask the server all tasks of the job; `folder` is made, and keeps the log.

    `on_progress` is told how many items of how many are finished. Data sets are looked for in local files
    and caches only, unless the environment says HF_HUB_OFFLINE=0.

    Raises:
        UsageError: lm-eval or a task's data are not here, or the server cannot be asked so.
        MeasuringError: the server or the evaluating process is gone.
    """
    require()
    _check(job)
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    for name in (EVALUATION, ERROR):
        (folder / name).unlink(missing_ok=True)
    (folder / JOB).write_bytes(msgspec.json.encode(job))
    process = processes.start(
        [sys.executable, "-P", "-m", _CHILD, str(folder)],
        env=environment(os.environ),
        log_path=folder / _LOG,
        grace_s=_GRACE_S,
        stdout_pipe=True,
    )
    try:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                if on_progress is not None:
                    told = json.loads(line)
                    on_progress(told["done"], told["total"])
        code = process.wait(_EXIT_S)
    finally:
        process.stop()
        shutil.rmtree(folder / "datasets", ignore_errors=True)
    return _result(folder, code)


def environment(ours: Mapping[str, str]) -> dict[str, str]:
    """What the evaluating process sees: quiet, and offline where the user did not decide it."""
    decided = any(name in ours for name in _OFFLINE)
    return {**({} if decided else dict.fromkeys(_OFFLINE, "1")), **ours, **_QUIET}


def _check(job: Job) -> None:
    if job.target.dialect not in DIALECTS:
        raise UsageError("no such dialect", seen=job.target.dialect, do=f"known: {', '.join(DIALECTS)}")
    if not job.tasks:
        raise UsageError("nothing to evaluate", seen="no tasks", do="name a task, such as forge_arithmetic")
    names = [task.name for task in job.tasks]
    if len(set(names)) < len(names):
        raise UsageError("a task is named twice", seen=", ".join(names), do="name each once")
    for what, value, least in (
        ("limit", job.limit, 1),
        ("concurrency", job.concurrency, 1),
        ("retries", job.retries, 0),
        ("repeat", job.repeat, 0),
        ("max_gen_toks", job.max_gen_toks, 1),
    ):
        if value is not None and value < least:
            raise UsageError(f"{what} is too small", seen=str(value), do=f"give {least} or more")


def _result(folder: Path, code: int | None) -> Evaluation:
    if (folder / ERROR).is_file():
        raise _told(json.loads((folder / ERROR).read_text(encoding="utf-8")))
    if not (folder / EVALUATION).is_file():
        log = folder / _LOG
        ended = "did not end" if code is None else f"ended with code {code}"
        raise MeasuringError(
            f"the evaluating process {ended} without a result",
            seen=processes.tail(log) or "nothing in its log",
            do=f"the whole log is {log}",
        )
    return msgspec.json.decode((folder / EVALUATION).read_bytes(), type=Evaluation)


def _told(error: Mapping[str, Any]) -> InferforgeError:
    kind = UsageError if error["kind"] == "usage" else MeasuringError
    return kind(error["what"], seen=error["seen"], do=error["do"])
