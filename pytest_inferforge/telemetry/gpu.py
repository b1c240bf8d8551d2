"""What GPUs did while a load ran, from samples of them: numbers, and whether their state spoils a boot.

How samples are taken: `pytest_inferforge.telemetry.nvml`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import TYPE_CHECKING, Protocol

from pytest_inferforge.units import format_value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

_GROWN_BYTES = 128 * 2**20  # a CUDA context alone takes more than that
_FOREIGN_BYTES = 256 * 2**20  # held before the boot; what an idle driver holds is less


class ClockLimit(StrEnum):
    """What holds a GPU's clocks down, as a report says it."""

    SETTING = "application clocks are set"
    POWER_CAP = "software power cap"
    HW_SLOWDOWN = "hardware slowdown"
    SYNC_BOOST = "sync boost"
    SW_THERMAL = "software thermal slowdown"
    HW_THERMAL = "hardware thermal slowdown"
    POWER_BRAKE = "power brake"
    DISPLAY = "display clocks are set"


SPOILING = frozenset({ClockLimit.HW_THERMAL, ClockLimit.POWER_BRAKE, ClockLimit.SW_THERMAL})
"""A power cap is what a GPU at full load runs into; these are a machine that does not cool or feed it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """A GPU, or a slice of one (`mig`); `memory_bytes`: all it has."""

    uuid: str
    name: str
    memory_bytes: int | None
    mig: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuSample:
    """One GPU at one moment; None: it does not tell.

    `use_ratio`: share of the last moments in which anything ran on it. `energy_j` counts since the driver was
    loaded. `pids`: processes that compute on it, as far as they can be seen from here.
    """

    time_s: float
    uuid: str
    use_ratio: float | None = None
    memory_bytes: int | None = None
    power_w: float | None = None
    energy_j: float | None = None
    clock_hz: float | None = None
    memory_clock_hz: float | None = None
    temperature_c: float | None = None
    limits: frozenset[ClockLimit] | None = None
    pids: frozenset[int] = frozenset()


class Gpus(Protocol):
    """The GPUs of this machine."""

    @property
    def devices(self) -> tuple[Gpu, ...]: ...
    @property
    def driver(self) -> str | None: ...
    @property
    def cuda(self) -> str | None:
        """The newest CUDA version that the driver can do."""

    def sample(self, time_s: float) -> tuple[GpuSample, ...]:
        """One sample a GPU; never raises for what a GPU does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Energy:
    """`integrated`: from samples of the power, where there is no counter."""

    joules: float
    seconds: float
    integrated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """Why a boot on these GPUs may not be judged, and what is merely worth knowing; a sentence each."""

    invalid: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def serving(
    samples: Sequence[GpuSample], before: Sequence[GpuSample] | None, ours: Iterable[int]
) -> frozenset[str] | None:
    """The GPUs that a server uses, by uuid; empty: none; None: that cannot be told.

    Those with one of its processes (`ours`). Where none is seen (from inside a container a driver shows other
    numbers, or nothing), those on which more memory is in use than `before` the server was started.
    """
    own = set(ours)
    if seen := frozenset(s.uuid for s in samples if s.pids & own):
        return seen
    if before is None:
        return None
    held = {s.uuid: s.memory_bytes or 0 for s in before}
    return frozenset(
        s.uuid
        for s in samples
        if s.memory_bytes is not None and s.memory_bytes - held.get(s.uuid, 0) > _GROWN_BYTES
    )


def metrics(samples: Sequence[GpuSample]) -> dict[str, float]:
    """Metrics by id: means over all samples. What no sample tells is absent."""
    columns: dict[str, Callable[[GpuSample], float | None]] = {
        "gpu_use_ratio": lambda s: s.use_ratio,
        "gpu_clock_hz": lambda s: s.clock_hz,
        "gpu_memory_clock_hz": lambda s: s.memory_clock_hz,
    }
    known = {
        metric_id: [value for s in samples if (value := of(s)) is not None]
        for metric_id, of in columns.items()
    }
    return {metric_id: math.fsum(values) / len(values) for metric_id, values in known.items() if values}


def peak_bytes(samples: Sequence[GpuSample]) -> int | None:
    """The most memory in use on all the GPUs together; None: one of them does not tell."""
    at: dict[float, int] = {}
    for s in samples:
        if s.memory_bytes is None:
            return None
        at[s.time_s] = at.get(s.time_s, 0) + s.memory_bytes
    return max(at.values(), default=None)


def energy(samples: Sequence[GpuSample]) -> Energy | None:
    """What all the GPUs together took from the first sample to the last; None: one of them does not tell.

    From the counter of each where it has one that did not fall, else from its power by the trapezoid rule.
    """
    joules, integrated, seconds = 0.0, False, 0.0
    for of_one in _by_gpu(samples).values():
        first, last = of_one[0], of_one[-1]
        if last.time_s <= first.time_s:
            return None
        seconds = max(seconds, last.time_s - first.time_s)
        if first.energy_j is not None and last.energy_j is not None and last.energy_j >= first.energy_j:
            joules += last.energy_j - first.energy_j
            continue
        known = [(s.time_s, s.power_w) for s in of_one if s.power_w is not None]
        if len(known) < 2:
            return None
        integrated = True
        joules += math.fsum((t1 - t0) * (w0 + w1) / 2.0 for (t0, w0), (t1, w1) in pairwise(known))
    return Energy(joules=joules, seconds=seconds, integrated=integrated) if seconds > 0.0 else None


def health(
    samples: Sequence[GpuSample],
    devices: Sequence[Gpu],
    before: Sequence[GpuSample] | None,
    ours: Iterable[int],
) -> Health:
    """What held the clocks of the server's GPUs down, and who else was on them.

    Where processes cannot be told apart, what was in use `before` the server was started is foreign.
    """
    own = set(ours)
    invalid: list[str] = []
    notes: list[str] = []
    names = _names(devices)
    held = {s.uuid: s for s in before or ()}
    for uuid, of_one in _by_gpu(samples).items():
        name = names.get(uuid, uuid)
        for limit, words in _limits(of_one).items():
            (invalid if limit in SPOILING else notes).append(f"{name}: {words}")
        if (foreign := _foreign(of_one, held.get(uuid), own)) is not None:
            invalid.append(f"{name}: {foreign}")
    return Health(invalid=tuple(invalid), notes=tuple(notes))


def facts(devices: Sequence[Gpu], gpus: Gpus) -> dict[str, str]:
    """For the fingerprint: which GPUs these are, and what drives them."""
    counted: dict[str, int] = {}
    for device in devices:
        counted[device.name] = counted.get(device.name, 0) + 1
    named = ", ".join(f"{n} x {name}" if n > 1 else name for name, n in sorted(counted.items()))
    found = {"gpu": named, "gpu_driver": gpus.driver, "gpu_cuda": gpus.cuda}
    return {key: value for key, value in found.items() if value}


# -- private ---------------------------------------------------------------------------------------------


def _by_gpu(samples: Sequence[GpuSample]) -> dict[str, list[GpuSample]]:
    found: dict[str, list[GpuSample]] = {}
    for s in samples:
        found.setdefault(s.uuid, []).append(s)
    return found


def _names(devices: Sequence[Gpu]) -> Mapping[str, str]:
    """A GPU's name, with its number where several have the same."""
    found: dict[str, str] = {}
    for device in devices:
        same = [d.uuid for d in devices if d.name == device.name]
        number = f" ({same.index(device.uuid) + 1} of {len(same)})" if len(same) > 1 else ""
        found[device.uuid] = device.name + number
    return found


def _limits(samples: Sequence[GpuSample]) -> dict[ClockLimit, str]:
    """What was seen, in how many of the samples, and how hot it was then."""
    told = [s for s in samples if s.limits is not None]
    found: dict[ClockLimit, str] = {}
    for limit in ClockLimit:
        seen = [s for s in told if limit in (s.limits or ())]
        if not seen:
            continue
        hottest = max((s.temperature_c for s in seen if s.temperature_c is not None), default=None)
        heat = f", at up to {hottest:.0f} °C" if hottest is not None and "thermal" in limit else ""
        found[limit] = f"{limit} in {len(seen)} of {len(told)} samples{heat}"
    return found


def _foreign(samples: Sequence[GpuSample], before: GpuSample | None, own: set[int]) -> str | None:
    seen = frozenset[int]().union(*(s.pids for s in samples))
    if seen & own:
        others = sorted(seen - own)
        if not others:
            return None
        return f"it was shared with process{'es' if len(others) > 1 else ''} {', '.join(map(str, others))}"
    if before is None or (before.memory_bytes or 0) <= _FOREIGN_BYTES:
        return None
    held = format_value(before.memory_bytes, "bytes")
    return f"{held} of its memory were in use before the server was started"
