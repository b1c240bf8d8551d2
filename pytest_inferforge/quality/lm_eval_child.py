"""The evaluating process: `python -P -m pytest_inferforge.quality.lm_eval_child FOLDER`.

FOLDER holds `job.json`; it leaves `evaluation.json` there, or `error.json` where something cannot be done. On
standard output it writes a line `{"done": n, "total": m}` as items are finished, and nothing else.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import time
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from pytest_inferforge.dialects import DIALECTS
from pytest_inferforge.errors import InferforgeError, UsageError
from pytest_inferforge.quality.client import Client, summary
from pytest_inferforge.quality.evaluation import ERROR, EVALUATION, JOB, REQUESTS, Evaluation, Job

if TYPE_CHECKING:
    from collections.abc import Callable

_TELL_S = 0.2  # between two lines on progress


def main() -> None:
    folder = Path(sys.argv[1])
    tell = _progress()
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    job = msgspec.json.decode((folder / JOB).read_bytes(), type=Job)
    try:
        evaluation = run(job, folder, tell)
    except InferforgeError as error:
        said = {
            "kind": "usage" if isinstance(error, UsageError) else "measuring",
            "what": error.what,
            "seen": error.seen,
            "do": error.do,
        }
        (folder / ERROR).write_text(json.dumps(said), encoding="utf-8")
        return
    part = folder / f"{EVALUATION}.part"
    part.write_bytes(msgspec.json.encode(evaluation))
    part.replace(folder / EVALUATION)


def _progress() -> Callable[[int, int], None]:
    """Standard output is for this alone: what others print goes to the log."""
    lines = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    last = 0.0

    def tell(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if done == total or now - last >= _TELL_S:
            last = now
            lines.write(json.dumps({"done": done, "total": total}) + "\n")
            lines.flush()

    return tell


def run(job: Job, folder: Path, tell: Callable[[int, int], None]) -> Evaluation:
    """Ask all tasks.

    Raises:
        UsageError: a task cannot be made, or the server cannot be asked so.
        MeasuringError: the server answers nothing.
    """
    # lm-eval takes seconds to import; a job that cannot be read says so before.
    from pytest_inferforge.quality import running, tasks
    from pytest_inferforge.quality.adapter import ServerModel

    began = time.monotonic()
    loaded = [
        tasks.load(task, limit=job.limit, seed=job.seed, cache_dir=folder / "datasets") for task in job.tasks
    ]
    for one in loaded:
        running.check(one)
    total = sum(one.items(one.limit) for one in loaded)
    if job.repeat:
        total += sum(one.items(one.repeat_limit(job.repeat)) for one in loaded)
    with asyncio.Runner() as runner:
        client = runner.run(_client(job))
        try:
            model = ServerModel(client, job, runner, done=lambda done: tell(done, total))
            if not job.chat and client.dialect.completions_path is None:
                raise UsageError(
                    "the server offers no completions", seen=client.dialect.name, do="ask with chat=True"
                )
            if any(one.scores_texts for one in loaded):
                model.prepare_to_score()
            tell(0, total)
            ran = [running.run(one, job, model) for one in loaded]
        finally:
            runner.run(client.close())
            lines = (msgspec.json.encode(asked) + b"\n" for asked in client.asked)
            (folder / REQUESTS).write_bytes(b"".join(lines))
    return Evaluation(
        tasks=tuple(one.outcomes for one in ran),
        observed={one.outcomes.task: one.observed for one in ran},
        requests=summary(client.asked),
        route=model.route_name,
        lm_eval_version=version("lm_eval"),
        seconds=time.monotonic() - began,
        notes=tuple(note for one in ran for note in one.notes),
    )


async def _client(job: Job) -> Client:
    target = job.target
    return Client(
        target,
        DIALECTS[target.dialect],
        key=os.environ.get(target.api_key_env) if target.api_key_env else None,
        timeout_s=job.timeout_s,
        retries=job.retries,
        concurrency=job.concurrency,
    )


if __name__ == "__main__":
    main()
