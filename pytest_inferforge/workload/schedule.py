"""One seed in, one schedule out: every due time and length, before anything is sent."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pytest_inferforge.workload import lengths as _lengths
from pytest_inferforge.workload.arrivals import Closed, Constant, Poisson

if TYPE_CHECKING:
    from pytest_inferforge.workload.spec import Workload

CLOSED_POOL = 4096  # lengths drawn for a closed loop that ends by time; then they repeat
_STREAMS = {"arrivals": 0, "prompt": 1, "output": 2, "warmup": 3}


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """What the workers execute.

    `due_s`: seconds from the origin, ascending, one a request; empty in a closed loop. Lengths are in
    tokens, one a request; a closed loop that ends by time starts over when it has used them all.
    `hash` is part of the workload's identity: equal workloads give equal schedules everywhere.
    """

    workload: Workload
    due_s: tuple[float, ...]
    prompt_tokens: tuple[int, ...]
    output_tokens: tuple[int, ...]
    warmup_concurrency: int
    warmup_prompt_tokens: tuple[int, ...]
    warmup_output_tokens: tuple[int, ...]
    hash: str

    @property
    def concurrency(self) -> int | None:
        arrivals = self.workload.arrivals
        return arrivals.concurrency if isinstance(arrivals, Closed) else None


def build(workload: Workload, *, warmup_waves: int, warmup_max_concurrency: int) -> Schedule:
    """Draw the schedule; arrivals, prompts, outputs and warm-up have a random stream each."""
    due = _due_times(workload, _stream(workload.seed, "arrivals"))
    n = _size(workload, due)
    prompt = _lengths.draw(workload.prompt_tokens, _stream(workload.seed, "prompt"), n)
    output = _lengths.draw(workload.output_tokens, _stream(workload.seed, "output"), n)
    concurrency = min(warmup_max_concurrency, _concurrency(workload))
    warmups = workload.warmup if workload.warmup is not None else warmup_waves * concurrency
    warm = _stream(workload.seed, "warmup")
    return Schedule(
        workload=workload,
        due_s=tuple(due),
        prompt_tokens=tuple(prompt),
        output_tokens=tuple(output),
        warmup_concurrency=max(1, min(concurrency, warmups)),
        warmup_prompt_tokens=tuple(_lengths.draw(workload.prompt_tokens, warm, warmups)),
        warmup_output_tokens=tuple(_lengths.draw(workload.output_tokens, warm, warmups)),
        hash=_hash(workload, due, prompt, output),
    )


def _stream(seed: int, name: str) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_STREAMS[name],)))


def _due_times(workload: Workload, rng: np.random.Generator) -> list[float]:
    arrivals, n, duration = workload.arrivals, workload.requests, workload.duration_s
    if isinstance(arrivals, Closed):
        return []
    rate = arrivals.rate_per_s
    if n is None:
        n = int(rate * (duration or 0) + 10 * (rate * (duration or 0)) ** 0.5 + 10)
    if isinstance(arrivals, Constant):
        due = np.arange(n) / rate
    elif isinstance(arrivals, Poisson):
        due = np.cumsum(rng.exponential(1.0 / rate, size=n))
    if duration is not None:
        due = due[due < duration]
    return [float(t) for t in due]


def _size(workload: Workload, due: list[float]) -> int:
    if not workload.closed_loop:
        return len(due)
    return workload.requests if workload.requests is not None else CLOSED_POOL


def _concurrency(workload: Workload) -> int:
    """How many requests to keep in flight while warming up: those of a second of arrivals, or the slots."""
    arrivals = workload.arrivals
    return arrivals.concurrency if isinstance(arrivals, Closed) else max(1, round(arrivals.rate_per_s))


def _hash(workload: Workload, due: list[float], prompt: list[int], output: list[int]) -> str:
    content = json.dumps([workload.identity(), [round(t * 1e9) for t in due], prompt, output], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]
