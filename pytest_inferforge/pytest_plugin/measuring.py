"""One workload on one running server: prompts of exact length, load, what came back. Knows no pytest."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pytest_inferforge import floor as floors
from pytest_inferforge import measures, validity
from pytest_inferforge.baselines import rows
from pytest_inferforge.dialects import DIALECTS
from pytest_inferforge.errors import EngineError
from pytest_inferforge.loadgen import crew as crews
from pytest_inferforge.loadgen.planning import Target
from pytest_inferforge.loadgen.transports import unused_proxy
from pytest_inferforge.pytest_plugin import profiling, tokens, watching
from pytest_inferforge.records import BootResult, RunVerdict
from pytest_inferforge.run import RunBoot
from pytest_inferforge.workload import schedule as schedules

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from pytest_inferforge.floor import Floor
    from pytest_inferforge.loadgen.fleet import Drive, Enough
    from pytest_inferforge.loadgen.plan import Progress
    from pytest_inferforge.measures import Limits
    from pytest_inferforge.options import LoadOptions
    from pytest_inferforge.servers.server import Server
    from pytest_inferforge.servers.spec import ServerSpec
    from pytest_inferforge.telemetry.gpu import Gpus
    from pytest_inferforge.workload.prompts import WordBank
    from pytest_inferforge.workload.schedule import Schedule
    from pytest_inferforge.workload.spec import Api, Workload

    OnProgress = Callable[[Progress, Schedule], None]

_STUCK = "the server does not answer any more: it is ended, and the next test gets a fresh boot"
_UNWATCHED = "not ended early: the rows of Ray workers are not seen before they end"
_CACHE_FACTS = ("num_gpu_blocks", "max_total_num_tokens")  # of vLLM and SGLang
_PROFILED_REQUESTS = 16
_CAPACITY_RATE_PER_S = 150.0  # some 10 000 chunks a second: enough to see what one costs


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A measurement that is asked for. `boot`: 1, 2, ... of this test; `stopping`: what may end it early."""

    workload: Workload
    boot: int
    name: str
    limits: Limits
    on_progress: OnProgress | None
    stopping: Callable[[Schedule], Enough] | None = None


class Measurer:
    """Measures workloads; remembers what it learned of each server's tokenizer, and numbers its runs."""

    def __init__(
        self, *, run_dir: Path, session_id: str, load: LoadOptions, gpus: Gpus | None = None
    ) -> None:
        self._run_dir = run_dir
        self._session_id = session_id
        self._load = load
        self._gpus = gpus
        self._cache_sizes: dict[ServerSpec, float] = {}  # of the first boot
        self._crew = crews.parse(load.workers)
        self._banks: dict[tuple[ServerSpec, Api, bool], WordBank] = {}
        self._schedules: dict[Workload, Schedule] = {}
        self._floors: dict[tuple[Workload, int], Floor] = {}
        self._capacity_per_s: dict[str, float] = {}  # of one worker, by transport
        self._positions: dict[int, int] = {}  # boot -> runs so far
        self._runs = 0

    def schedule(self, workload: Workload) -> Schedule:
        """The schedule of a workload; equal ones are drawn once."""
        if workload not in self._schedules:
            self._schedules[workload] = schedules.build(
                workload,
                warmup_waves=self._load.warmup_waves,
                warmup_max_concurrency=self._load.warmup_max_concurrency,
            )
        return self._schedules[workload]

    def measure(self, asked: Asked, server: Server) -> RunBoot:
        """Measure once, and once more when the client did not keep up.

        Raises:
            EngineError: the server died; the end of its log is in the error.
            MeasuringError: no prompt of that length can be made, or the client did not start.
        """
        found = self._measure_once(asked, server)
        if found.result.verdict is RunVerdict.VALID:
            return found
        again = self._measure_once(asked, server)
        said = f"measured again, because the first attempt was INVALID: {'; '.join(found.result.reasons)}"
        return replace(again, notes=(said, *again.notes))

    def profile(self, workload: Workload, server: Server) -> str:
        """A few requests of a workload under the engine's own profiler; a sentence of what came of it."""
        short = workload.quick(_PROFILED_REQUESTS)

        def drive() -> None:
            self._runs += 1
            schedule = self.schedule(short)
            self._drive(schedule, self._target(schedule, server), 1, f"profile-{self._runs}", server.api_key)

        return profiling.record(server, self._run_dir, drive)

    def _measure_once(self, asked: Asked, server: Server) -> RunBoot:
        position = self._positions.get(server.number, 0) + 1
        self._positions[server.number] = position
        if position > 1:
            server.reset_cache()
        schedule = self.schedule(asked.workload)
        workers = self._workers(asked.workload)
        floor = self._floor(asked, workers)
        target = self._target(schedule, server)
        began = server.started_at()
        memory, compiling = watching.MemoryOf(server), watching.Compiling(server)

        def on_progress(progress: Progress) -> None:
            telemetry.mark(progress.phase)
            memory.look(progress)
            compiling.look(progress)
            if asked.on_progress is not None:
                asked.on_progress(progress, schedule)

        self._runs += 1
        file_name = f"{_slug(asked.name)}-boot{server.number}-{self._runs}"
        with watching.sampler(server, self._gpus) as telemetry:
            enough = asked.stopping(schedule) if asked.stopping and not self._crew.ray else None
            drive = self._drive(schedule, target, workers, file_name, server.api_key, on_progress, enough)
        seen = telemetry.result(
            output_tokens=int(np.maximum(drive.table.counts["output_tokens"], 0).sum()),
            requests=int(drive.table.ok.sum()),
        )
        rows.write_rows(self._run_dir / f"{file_name}.jsonl.gz", drive.table)
        if not server.alive():
            raise server_died(server, asked.name)
        stuck = bool(drive.table.failed.any()) and not server.answers()
        ended = server.started_at()
        client = validity.Client(
            lost=drive.lost,
            fault=drive.fault,
            cpu_share=drive.cpu_share,
            loop_lag_p99_s=max((w.loop_lag_p99_s for w in drive.workers), default=0.0),
            floor_s=None if floor is None else floor.ttft_error_p99_s,
            salted={c.name for k, c in enumerate(asked.workload.classes) if schedule.salted(k)},
            counted={c.name for c in asked.workload.classes if c.images is None},
            exact_output=target.dialect.exact_length,
            transport=asked.workload.transport,
            restarted=None if began == ended else f"its process began at {ended}, before it was {began}",
        )
        reasons = (
            *validity.reasons_against(drive.table, client, limits=asked.limits, options=self._load),
            *seen.invalid_reasons,
            *(said for said in (compiling.reason(), self._other_cache(server)) if said is not None),
        )
        metrics = measures.all_metrics(drive.table, asked.limits) | dict(seen.metrics)
        said = seen.notes if seen.metrics else ()  # a load that was over before anybody looked
        if server.ready_s is not None:
            metrics["ready_s"] = server.ready_s
        if server.first_token_s is not None:
            metrics["boot_first_token_s"] = server.first_token_s
        return RunBoot(
            result=BootResult(
                boot=asked.boot,
                ready_s=server.ready_s,
                requests=drive.table.request_counts(drive.warmup),
                metrics=metrics,
                tails=measures.tails(drive.table),
                verdict=RunVerdict.INVALID if reasons else RunVerdict.VALID,
                reasons=reasons,
                position=position,
            ),
            requests=drive.table,
            server_number=server.number,
            client_cpu_share=drive.cpu_share,
            client_priority=_together(w.priority for w in drive.workers),
            client_workers=max(1, len(drive.workers)),
            client_floor=floor,
            server_memory=tuple(memory.samples),
            facts=seen.facts,
            notes=(
                *((_STUCK,) if stuck else ()),
                *((_UNWATCHED,) if asked.stopping and enough is None else ()),
                *_notes(drive, asked.workload, server),
                *said,
            ),
            stopped=drive.stopped and len(drive.table) < (asked.workload.expected_requests or math.inf),
        )

    def _other_cache(self, server: Server) -> str | None:
        """A boot whose cache came out larger or smaller than its peers' is another server."""
        size = next((float(server.facts[name]) for name in _CACHE_FACTS if name in server.facts), None)
        if size is None:
            return None
        first = self._cache_sizes.setdefault(server.spec, size)
        if abs(size / first - 1.0) <= self._load.cache_size_limit:
            return None
        return f"its KV cache came out as {size:g}, that of the first boot as {first:g}"

    # -- the client ---------------------------------------------------------------------------------

    def _drive(
        self,
        schedule: Schedule,
        target: Target,
        workers: int,
        name: str,
        api_key: str | None,
        on_progress: Callable[[Progress], None] | None = None,
        enough: Enough | None = None,
    ) -> Drive:
        return crews.drive(
            self._crew,
            workers,
            schedule,
            target,
            api_key=api_key,
            folder=self._run_dir,
            name=name,
            id_prefix=f"{self._session_id}-{self._runs}",
            salt=f"{self._session_id}/{self._runs}",
            connect_lead_s=self._load.connect_lead_s,
            on_progress=on_progress,
            enough=enough,
        )

    def _workers(self, workload: Workload) -> int:
        """As many as were asked for, or as the load needs of what one was seen to manage here."""
        if self._crew.count is not None:
            return crews.most(workload, self._crew.count)
        wanted = floors.chunks_per_s(workload)
        if wanted <= crews.FEW_CHUNKS_PER_S[workload.transport]:
            return 1
        if workload.transport not in self._capacity_per_s:
            busy = floors.floor_workload(workload.at_rate(_CAPACITY_RATE_PER_S), self._load)
            seen = floors.measure(
                busy, self._floor_drive(1), replace(self._load, floor_attempts=1), enough_s=0.0
            )
            self._capacity_per_s[workload.transport] = 1.0 / seen.cpu_per_chunk_s
        capacity_per_s = self._capacity_per_s[workload.transport]
        found = crews.needed(wanted, capacity_per_s, self._load.worker_cpu_wanted)
        return crews.most(workload, found)

    def _floor(self, asked: Asked, workers: int) -> Floor | None:
        """The client's own error at this load, measured once a session for equal ones.

        Not of workers on other machines: between them and a server here lies the network.
        """
        if not self._load.floor_requests or self._crew.ray:
            return None
        key = (floors.floor_workload(asked.workload, self._load), workers)
        if key not in self._floors:
            self._floors[key] = floors.measure(
                asked.workload,
                self._floor_drive(workers),
                self._load,
                enough_s=self._floor_limit_s(asked.workload),
            )
        return self._floors[key]

    def _floor_limit_s(self, workload: Workload) -> float:
        own = self._load.floor_limit_s
        return own if workload.transport == "wire" else max(own, self._load.httpx_lag_limit_s)

    def _floor_drive(self, workers: int) -> Callable[[Schedule, Target], Drive]:
        def drive(schedule: Schedule, target: Target) -> Drive:
            self._runs += 1
            return self._drive(schedule, target, workers, f"floor-{self._runs}", None)

        return drive

    # -- the server ---------------------------------------------------------------------------------

    def _target(self, schedule: Schedule, server: Server) -> Target:
        synthetic = [c for c in schedule.workload.classes if c.prompts is None]
        banks = {
            c.api: self._bank(server, c.api, ids=any(x.token_ids for x in synthetic if x.api == c.api))
            for c in synthetic
        }
        return Target(
            base_url=server.url,
            model=server.model,
            dialect=DIALECTS[server.dialect_name],
            banks=banks,
            ca_file=server.spec.ca_file,
            verify_tls=server.spec.verify_tls,
            proxies=server.spec.proxies,
        )

    def _bank(self, server: Server, api: Api, *, ids: bool) -> WordBank:
        key = (server.spec, api, ids)
        if key not in self._banks:
            self._banks[key] = tokens.learn(server, api, ids=ids, tokenizer=self._load.tokenizer)
        return self._banks[key]


def server_died(server: Server, name: str) -> EngineError:
    """The error of a run whose server was gone at its end."""
    return EngineError(
        f"{server.engine} was gone when {name} had been measured",
        seen=server.exit_report(),
        do="read the end of its log below" + (f"; the whole log is {server.log}" if server.log else ""),
        log_tail=server.log_tail(),
        log_path=str(server.log) if server.log else None,
    )


def _notes(drive: Drive, workload: Workload, server: Server) -> tuple[str, ...]:
    notes = list(validity.oddities(drive.table))
    if workload.transport == "wire" and (said := unused_proxy(server.url, os.environ)) is not None:
        notes.append(said)
    if drive.warmup_failed:
        notes.append(
            f"{drive.warmup_failed} of {drive.warmup} warm-up requests failed: {drive.warmup_reason}"
        )
    return tuple(notes)


def _together(words: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(words)) or "unknown"


def _slug(name: str) -> str:
    """A file name from a node id."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name.rpartition("/")[2]).strip("-.")[:80]
