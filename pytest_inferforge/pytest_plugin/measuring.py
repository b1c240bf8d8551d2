"""One workload on one running server: prompts of exact length, load, what came back. Knows no pytest."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import httpx

from pytest_inferforge import measures, validity
from pytest_inferforge.baselines import store
from pytest_inferforge.dialects import DIALECTS
from pytest_inferforge.errors import EngineError, MeasuringError
from pytest_inferforge.loadgen import fleet
from pytest_inferforge.loadgen.planning import make_plan
from pytest_inferforge.records import BootResult, RunVerdict
from pytest_inferforge.run import RunBoot
from pytest_inferforge.workload import prompts
from pytest_inferforge.workload import schedule as schedules

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_inferforge.loadgen.plan import Progress
    from pytest_inferforge.measures import Limits
    from pytest_inferforge.options import LoadOptions
    from pytest_inferforge.servers.server import Server
    from pytest_inferforge.servers.spec import ServerSpec
    from pytest_inferforge.workload.prompts import WordBank
    from pytest_inferforge.workload.schedule import Schedule
    from pytest_inferforge.workload.spec import Api, Workload

    OnProgress = Callable[[Progress, Schedule], None]

_COUNT_TIMEOUT_S = 120.0


class Measurer:
    """Measures workloads; remembers what it learned of each server's tokenizer, and numbers its runs."""

    def __init__(self, *, run_dir: Path, session_id: str, load: LoadOptions) -> None:
        self._run_dir = run_dir
        self._session_id = session_id
        self._load = load
        self._banks: dict[tuple[ServerSpec, Api], WordBank] = {}
        self._schedules: dict[Workload, Schedule] = {}
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

    def measure(
        self,
        workload: Workload,
        server: Server,
        *,
        boot: int,
        name: str,
        limits: Limits,
        on_progress: OnProgress | None,
    ) -> RunBoot:
        """Measure once, and once more when the client did not keep up. `boot`: 1, 2, ... of this test.

        Raises:
            EngineError: the server died; the end of its log is in the error.
            MeasuringError: no prompt of that length can be made, or the client did not start.
        """
        found = self._measure_once(workload, server, boot, name, limits, on_progress)
        if found.result.verdict is RunVerdict.VALID:
            return found
        again = self._measure_once(workload, server, boot, name, limits, on_progress)
        said = f"measured again, because the first attempt was INVALID: {'; '.join(found.result.reasons)}"
        return replace(again, notes=(said, *again.notes))

    def _measure_once(
        self,
        workload: Workload,
        server: Server,
        boot: int,
        name: str,
        limits: Limits,
        on_progress: OnProgress | None,
    ) -> RunBoot:
        position = self._positions.get(server.number, 0) + 1
        self._positions[server.number] = position
        if position > 1:
            server.reset_cache()
        schedule = self.schedule(workload)
        self._runs += 1
        dialect = DIALECTS[server.dialect_name]
        plan = make_plan(
            schedule,
            base_url=server.url,
            model=server.model,
            dialect=dialect,
            bank=self._bank(server, workload.api),
            id_prefix=f"{self._session_id}-{self._runs}",
            salt=f"{self._session_id}/{self._runs}",
            connect_lead_s=self._load.connect_lead_s,
        )
        file_name = f"{_slug(name)}-boot{server.number}-{self._runs}"
        drive = fleet.drive(
            plan,
            api_key=server.api_key,
            folder=self._run_dir,
            name=file_name,
            on_progress=None if on_progress is None else lambda progress: on_progress(progress, schedule),
        )
        store.write_rows(self._run_dir / f"{file_name}.jsonl.gz", drive.table)
        if not server.alive():
            raise server_died(server, name)
        reasons = validity.reasons_against(
            drive.table, lost=drive.lost, fault=drive.fault, limits=limits, options=self._load
        )
        notes = list(validity.oddities(drive.table))
        if drive.warmup_failed:
            notes.append(
                f"{drive.warmup_failed} of {drive.warmup} warm-up requests failed: {drive.warmup_reason}"
            )
        metrics = measures.all_metrics(drive.table, limits)
        if server.ready_s is not None:
            metrics["ready_s"] = server.ready_s
        return RunBoot(
            result=BootResult(
                boot=boot,
                ready_s=server.ready_s,
                requests=drive.table.request_counts(drive.warmup),
                metrics=metrics,
                verdict=RunVerdict.INVALID if reasons else RunVerdict.VALID,
                reasons=reasons,
                position=position,
            ),
            requests=drive.table,
            server_number=server.number,
            client_cpu_share=drive.cpu_s / drive.wall_s if drive.wall_s else 0.0,
            client_priority=drive.priority,
            notes=tuple(notes),
        )

    def _bank(self, server: Server, api: Api) -> WordBank:
        key = (server.spec, api)
        if key not in self._banks:
            with server.client(timeout_s=_COUNT_TIMEOUT_S) as client:
                self._banks[key] = prompts.learn(lambda text: count_tokens(client, server, api, text))
        return self._banks[key]


def count_tokens(client: httpx.Client, server: Server, api: Api, text: str) -> int:
    """How many prompt tokens the server counts for a text, template included: its usage of a short answer.

    Raises:
        MeasuringError: it does not answer, refuses, or reports no usage.
    """
    dialect = DIALECTS[server.dialect_name]
    path = dialect.chat_path if api == "chat" else dialect.completions_path
    content: dict[str, object] = (
        {"messages": [{"role": "user", "content": text}]} if api == "chat" else {"prompt": text}
    )
    body = {"model": server.model, dialect.max_tokens_field: 1, "temperature": 0.0, **content}
    what = "the server could not be asked how long a prompt is"
    try:
        answer = client.post(path, json=body)
    except httpx.HTTPError as error:
        raise MeasuringError(what, seen=f"POST {path} -> {error!r}", do=server.exit_report()) from error
    if not answer.is_success:
        raise MeasuringError(
            what, seen=f"POST {path} -> {answer.status_code} {answer.text[:200]}", do="see the server's log"
        )
    try:
        return int(answer.json()["usage"]["prompt_tokens"])
    except (KeyError, TypeError, ValueError) as error:
        raise MeasuringError(
            what,
            seen=f"no usage.prompt_tokens in {answer.text[:200]}",
            do="prompts of an exact length need a server that reports usage",
        ) from error


def server_died(server: Server, name: str) -> EngineError:
    """The error of a run whose server was gone at its end."""
    return EngineError(
        f"{server.engine} was gone when {name} had been measured",
        seen=server.exit_report(),
        do="read the end of its log below" + (f"; the whole log is {server.log}" if server.log else ""),
        log_tail=server.log_tail(),
        log_path=str(server.log) if server.log else None,
    )


def _slug(name: str) -> str:
    """A file name from a node id."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name.rpartition("/")[2]).strip("-.")[:80]
