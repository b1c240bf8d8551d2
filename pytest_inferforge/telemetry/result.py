"""From what was seen while a load ran to its metrics, and to what was wrong meanwhile."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_inferforge.telemetry import gpu, host, prometheus

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_inferforge.exposition import Exposition
    from pytest_inferforge.telemetry.gpu import Gpus, GpuSample
    from pytest_inferforge.telemetry.host import HostSample
    from pytest_inferforge.telemetry.prometheus import Scrape


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One look at everything. `scrape` None: it failed, or there is nothing to scrape."""

    time_s: float
    scrape: Scrape | None = None
    gpus: tuple[GpuSample, ...] = ()
    host: HostSample | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Telemetry:
    """What was measured beside the requests of one run.

    `metrics`: by metric id; what was not measured is absent. `notes`: sentences for a person. A run with
    `invalid_reasons` is not to be judged. `facts`: for the fingerprint. `restarted`: the server's counters
    began anew, so that what it counted is not known.
    """

    metrics: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    invalid_reasons: tuple[str, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    restarted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """`whole`: from before the first request to after the last one; `steady`: while requests were sent."""

    whole: tuple[Round, ...]
    steady: tuple[Round, ...]


def reckon(
    rounds: Sequence[Round],
    marks: Mapping[str, float],
    *,
    exposition: Exposition | None,
    gpus: Gpus | None,
    before: Sequence[GpuSample] | None,
    failures: Sequence[str],
    output_tokens: int | None,
    requests: int | None,
) -> Telemetry:
    """Everything from the rounds of one run.

    marks: phase -> when it began. `before`: the GPUs before the server was started. `failures`: why scrapes
    failed. `output_tokens`, `requests`: what the client counted, of the whole load; None: the server's count
    is taken where it has one.
    """
    seen = windows(rounds, marks)
    if seen is None:
        return Telemetry(notes=("nothing was measured beside the requests: no load was seen",))
    found, notes = _Found(), list(_of_failures(failures, rounds))
    if exposition is not None:
        _server(seen, exposition, requests, found)
    if gpus is not None:
        tokens = output_tokens if output_tokens is not None else found.generated
        _gpus(seen, gpus, before, tokens, found)
    _host(seen, found)
    return Telemetry(
        metrics=found.metrics,
        notes=(*notes, *found.notes),
        invalid_reasons=tuple(found.invalid),
        facts=found.facts,
        restarted=found.restarted,
    )


def windows(rounds: Sequence[Round], marks: Mapping[str, float]) -> Windows | None:
    """Which rounds tell about the load; None: it was not marked, or nobody looked.

    The whole begins with the last round after the warm-up and before the load (one with a scrape, if there
    is any), else with the first one under load, and ends with the first one after the end. Means are over the
    rounds in which requests were being sent, or were still answered when sending took less than half of the
    time: as the steady window of the rates. Rounds of an idle server at the edges are in no mean.
    """
    load_s = marks.get("load")
    if load_s is None or not rounds:
        return None
    end_s = marks.get("end", rounds[-1].time_s)
    ready_s = marks.get("ready", load_s)
    idle = [k for k, r in enumerate(rounds) if ready_s <= r.time_s <= load_s]
    told = [k for k in idle if rounds[k].scrape is not None]
    under_load = next((k for k, r in enumerate(rounds) if r.time_s >= load_s), None)
    begin = (told or idle)[-1] if idle else under_load
    if begin is None:
        return None
    end = next((k for k, r in enumerate(rounds) if r.time_s >= end_s), len(rounds) - 1)
    drain_s = marks.get("drain", end_s)
    stop_s = drain_s if drain_s - load_s >= 0.5 * (end_s - load_s) else end_s
    return Windows(
        whole=tuple(rounds[begin : end + 1]),
        steady=tuple(r for r in rounds[begin : end + 1] if load_s <= r.time_s < stop_s),
    )


# -- private ---------------------------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class _Found:
    metrics: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    invalid: list[str] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)
    restarted: bool = False
    generated: float | None = None


def _of_failures(failures: Sequence[str], rounds: Sequence[Round]) -> Sequence[str]:
    if not failures:
        return ()
    return (f"{len(failures)} of {len(rounds)} scrapes of the server's metrics failed: {failures[0]}",)


def _server(seen: Windows, exposition: Exposition, requests: int | None, found: _Found) -> None:
    """What the server says of itself."""
    scrapes = [r.scrape for r in seen.whole if r.scrape is not None]
    found.metrics |= prometheus.over([r.scrape for r in seen.steady if r.scrape is not None], exposition)
    if len(scrapes) < 2:
        found.notes.append("the server's counters were not read both before and after the load")
        return
    first, last = scrapes[0], scrapes[-1]
    if prometheus.restarted(first, last, exposition):
        found.restarted = True
        found.notes.append("the server's counters began anew while it was measured: what it counted is lost")
        return
    if late := [edge for edge, r in (("begin", seen.whole[0]), ("end", seen.whole[-1])) if r.scrape is None]:
        found.notes.append(f"the server's counters miss the {' and the '.join(late)} of the load")
        requests = None  # they are not the ones that were counted
    found.generated = prometheus.generated(first, last, exposition)
    found.metrics |= prometheus.between(first, last, exposition, requests=requests)


def _gpus(
    seen: Windows,
    gpus: Gpus,
    before: Sequence[GpuSample] | None,
    tokens: float | None,
    found: _Found,
) -> None:
    """The GPUs that the server uses; nothing of others."""
    whole = [s for r in seen.whole for s in r.gpus]
    pids = frozenset[int]().union(*(r.host.pids for r in seen.whole if r.host is not None))
    uuids = gpu.serving(whole, before, pids)
    if uuids is None:
        found.notes.append(
            "which GPUs the server uses cannot be told: none of its processes is seen on one, and nobody"
            " looked at them before it was started"
        )
        return
    devices = [device for device in gpus.devices if device.uuid in uuids]
    if not devices:
        return
    found.facts |= gpu.facts(devices, gpus)
    whole = [s for s in whole if s.uuid in uuids]
    steady = [s for r in seen.steady for s in r.gpus if s.uuid in uuids]
    found.metrics |= gpu.metrics(steady)
    if (most := gpu.peak_bytes(whole)) is not None:
        found.metrics["peak_vram_bytes"] = float(most)
    power = gpu.energy(steady) or gpu.energy(whole)
    if power is not None:
        found.metrics["gpu_power_w"] = power.joules / power.seconds
    if (taken := gpu.energy(whole)) is not None:
        found.metrics["energy_j"] = taken.joules
        if tokens:
            found.metrics["energy_j_per_output_tok"] = taken.joules / tokens
        if taken.integrated:
            found.notes.append(
                "the GPU counts no energy: it was integrated from samples of its power, one a second"
            )
    state = gpu.health(whole, devices, before, pids)
    found.invalid += state.invalid
    found.notes += state.notes


def _host(seen: Windows, found: _Found) -> None:
    steady = [r.host for r in seen.steady if r.host is not None]
    whole = [r.host for r in seen.whole if r.host is not None]
    found.metrics |= host.metrics(steady) or host.metrics(whole)
    found.metrics |= host.peaks(whole)
