"""The kinds of arrivals; each prints as the text that `arrivals.parse` reads back to an equal value."""

from __future__ import annotations

import math
import shlex
from dataclasses import dataclass
from typing import Literal, get_args

from pytest_inferforge.workload import numbers

Process = Literal["poisson", "constant"]
STRESS_FACTOR = 1.5
_BURSTINESS = (0.001, 1000.0)  # beyond, bursts are longer than runs, or gaps as good as equal


@dataclass(frozen=True, slots=True)
class Poisson:
    """Independent users: exponential gaps with mean 1 / rate."""

    rate_per_s: float

    def __str__(self) -> str:
        return f"poisson {numbers.text(self.rate_per_s)} req/s"


@dataclass(frozen=True, slots=True)
class Constant:
    """Equal gaps of 1 / rate; the first request is due at once."""

    rate_per_s: float

    def __str__(self) -> str:
        return f"constant {numbers.text(self.rate_per_s)} req/s"


@dataclass(frozen=True, slots=True)
class Gamma:
    """Gamma gaps of shape `burstiness` with mean 1 / rate: 1 is Poisson, below 1 comes in bursts.

    The coefficient of variation of the gaps is 1 / sqrt(burstiness).

    Source: vLLM `vllm bench serve --burstiness` (benchmarks/serve.py).
    """

    rate_per_s: float
    burstiness: float

    def __str__(self) -> str:
        rate, burstiness = numbers.text(self.rate_per_s), numbers.text(self.burstiness)
        return f"gamma {rate} req/s burstiness={burstiness}"


@dataclass(frozen=True, slots=True)
class Stage:
    """A rate that goes evenly from start to end; both 0: a pause."""

    start_per_s: float
    end_per_s: float
    duration_s: float

    @property
    def requests(self) -> float:
        """How many are expected: the area under the rate."""
        return 0.5 * (self.start_per_s + self.end_per_s) * self.duration_s

    def __str__(self) -> str:
        start, end = numbers.text(self.start_per_s), numbers.text(self.end_per_s)
        duration = numbers.text(self.duration_s)
        if self.start_per_s == self.end_per_s:
            return f"{start} req/s for {duration} s"
        return f"ramp {start} -> {end} req/s over {duration} s"


@dataclass(frozen=True, slots=True)
class Stages:
    """A rate that changes with time, stage after stage; random or equal unit gaps stretched by it."""

    process: Process
    stages: tuple[Stage, ...]

    def __str__(self) -> str:
        word = "" if self.process == "poisson" else f"{self.process} "
        texts, last = [], None
        for stage in self.stages:
            held = stage.start_per_s == stage.end_per_s == last
            texts.append(f"hold {numbers.text(stage.duration_s)} s" if held else str(stage))
            last = stage.end_per_s
        return word + ", ".join(texts)


@dataclass(frozen=True, slots=True)
class Burst:
    """`requests` at once, and again every `every_s` seconds; None: once."""

    requests: int
    every_s: float | None = None

    def __str__(self) -> str:
        again = "" if self.every_s is None else f" every {numbers.text(self.every_s)} s"
        return f"burst {self.requests}{again}"


@dataclass(frozen=True, slots=True)
class Closed:
    """`concurrency` users, each sending its next request when the last was answered.

    They start evenly spread over the first `ramp_s` seconds; 0: all at once.
    """

    concurrency: int
    ramp_s: float = 0.0

    def __str__(self) -> str:
        ramp = f" ramp {numbers.text(self.ramp_s)} s" if self.ramp_s else ""
        return f"closed {self.concurrency}{ramp}"


@dataclass(frozen=True, slots=True)
class Trace:
    """The due times and lengths of a recorded file; due times are multiplied by `time_scale`.

    `format`: one of `traces.FORMATS`; None: seen from the file.
    """

    path: str
    time_scale: float = 1.0
    format: str | None = None

    def __str__(self) -> str:
        scale = "" if self.time_scale == 1.0 else f" time_scale={numbers.text(self.time_scale)}"
        form = "" if self.format is None else f" format={shlex.quote(self.format)}"
        return f"trace {shlex.quote(self.path)}{scale}{form}"


@dataclass(frozen=True, slots=True)
class Stress:
    """A rate raised by `factor` from step to step, from low to high, until the server no longer keeps up."""

    low_per_s: float
    high_per_s: float
    factor: float = STRESS_FACTOR

    def __str__(self) -> str:
        factor = "" if self.factor == STRESS_FACTOR else f" factor={numbers.text(self.factor)}"
        return f"stress {numbers.text(self.low_per_s)} -> {numbers.text(self.high_per_s)} req/s{factor}"


Arrivals = Poisson | Constant | Gamma | Stages | Burst | Closed | Trace | Stress


def is_open(arrivals: Arrivals) -> bool:
    """Whether every due time is known before the first request is sent."""
    return not isinstance(arrivals, Closed | Stress)


def mean_rate_per_s(arrivals: Arrivals) -> float | None:
    """Requests a second over the whole of it; None: it depends on the server, a file, or the amount."""
    if isinstance(arrivals, Poisson | Constant | Gamma):
        return arrivals.rate_per_s
    if isinstance(arrivals, Stages):
        seconds = sum(stage.duration_s for stage in arrivals.stages)
        return sum(stage.requests for stage in arrivals.stages) / seconds
    if isinstance(arrivals, Burst) and arrivals.every_s is not None:
        return arrivals.requests / arrivals.every_s
    return None


def own_duration_s(arrivals: Arrivals) -> float | None:
    """How long it takes when nothing else is said; None: it does not say.

    >>> own_duration_s(Stages("poisson", (Stage(1.0, 5.0, 60.0), Stage(5.0, 5.0, 30.0))))
    90.0
    """
    if isinstance(arrivals, Stages):
        return math.fsum(stage.duration_s for stage in arrivals.stages)
    return None


def own_requests(arrivals: Arrivals) -> int | None:
    """How many requests it has when nothing else is said; None: it does not say."""
    return arrivals.requests if isinstance(arrivals, Burst) and arrivals.every_s is None else None


def fault(arrivals: Arrivals) -> str | None:
    """What is wrong with the numbers; None: nothing."""
    match arrivals:
        case Poisson(size) | Constant(size) | Gamma(size, _) | Closed(size, _) | Burst(size, _):
            least: float = size
        case Stages(_, stages):
            least = max((rate for s in stages for rate in (s.start_per_s, s.end_per_s)), default=0.0)
        case Stress(low, _, _):
            least = low
        case Trace(path, time_scale, _):
            readable = path and 0 < time_scale < math.inf
            return None if readable else "a trace needs a file and a time_scale above 0"
    if not least > 0:
        return "arrivals must be more than zero"
    if not math.isfinite(least):
        return "arrivals must be finite"
    return _fault_of_kind(arrivals)


def _fault_of_kind(arrivals: Arrivals) -> str | None:
    match arrivals:
        case Gamma(_, burstiness) if not _BURSTINESS[0] <= burstiness <= _BURSTINESS[1]:
            return f"burstiness must be from {_BURSTINESS[0]:g} to {_BURSTINESS[1]:g}"
        case Stages(process, _) if process not in get_args(Process):
            return f"stages are {' or '.join(get_args(Process))}"
        case Stages(_, stages) if not all(
            0 <= s.start_per_s < math.inf and 0 <= s.end_per_s < math.inf and 0 < s.duration_s < math.inf
            for s in stages
        ):
            return "a stage needs rates from 0 and a duration above 0, all finite"
        case Burst(_, every_s) if every_s is not None and not 0 < every_s < math.inf:
            return "the time between bursts must be more than zero and finite"
        case Closed(_, ramp_s) if not 0 <= ramp_s < math.inf:
            return "the ramp of a closed loop must be from zero and finite"
        case Stress(low, high, factor) if not (low < high < math.inf and 1 < factor < math.inf):
            return "stress needs a high rate above the low one and a factor above 1"
        case _:
            return None
