"""A running server, as tests and the load see it."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import TYPE_CHECKING, Any, TypeVar

import httpx
import psutil

from pytest_inferforge import processes, tls
from pytest_inferforge.dialects import BEARER, DIALECTS
from pytest_inferforge.errors import EngineError, UsageError
from pytest_inferforge.exposition import EXPOSITIONS
from pytest_inferforge.redaction import is_secret
from pytest_inferforge.servers.spec import environment as environment_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_inferforge.engines.protocol import Engine, Profiler
    from pytest_inferforge.exposition import Exposition
    from pytest_inferforge.processes import Process, StopReport
    from pytest_inferforge.servers.gpus import Leases
    from pytest_inferforge.servers.ports import PortLease
    from pytest_inferforge.servers.spec import ServerSpec
    from pytest_inferforge.telemetry.gpu import GpuSample

ClientKind = TypeVar("ClientKind", httpx.Client, httpx.AsyncClient)

_RECOVER_S = 15.0  # from a pause that the load has outlived
_PAUSE_S = 0.2
_METRICS_PATH = "/metrics"  # where most publish them
_ANSWER_S = 10.0  # for requests beside the load; a test's own client may be given another timeout


class Server:
    """Made by `supervisor.boot`.

    `url` has no `/v1`; `model` is the id for requests; `log`, `pid`, `ready_s` (from the start of the process
    to its first good probe) and `first_token_s` (to its first token) are None for a server that was not
    started here. `number` counts the
    boots of a session from 1. `facts` are for the fingerprint. `dialect_name` is a key of
    `dialects.DIALECTS`. `gpus_before`: its GPUs before it was started.
    """

    def __init__(
        self,
        spec: ServerSpec,
        engine: Engine,
        *,
        url: str,
        number: int,
        clock: Callable[[], float],
        process: Process | None = None,
        lease: PortLease | None = None,
        log: Path | None = None,
    ) -> None:
        self.spec = spec
        self.url = url
        self.number = number
        self.log = log
        self.model = ""
        self.ready_s: float | None = None
        self.first_token_s: float | None = None
        self.gpus_before: tuple[GpuSample, ...] | None = None
        self.version: str | None = None
        self.dialect_name = ""
        self.facts: dict[str, str] = {}
        self._engine = engine
        self._process = process
        self._lease = lease
        self._clock = clock
        self._began_s = clock()
        self._stopped = False
        self._condemned = False
        self._leases: Leases | None = None
        self._gpus: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Server({self.spec.describe()!r}, url={self.url!r}, boot={self.number}, pid={self.pid})"

    @property
    def engine(self) -> str:
        """The engine's name."""
        return self.spec.engine

    @property
    def exposition(self) -> Exposition | None:
        """What its metrics are called; None where they are not known."""
        return EXPOSITIONS.get(self.dialect_name)

    @property
    def compiling(self) -> str | None:
        """Regular expression of log lines that say that something is compiled."""
        return self._engine.COMPILING

    @property
    def profiler(self) -> Profiler | None:
        """How its own profiler is switched on; None: it has none."""
        return self._engine.PROFILER

    @property
    def pid(self) -> int | None:
        """The server's process; what it starts itself is below that."""
        return self._process.pid if self._process else None

    @property
    def pids(self) -> tuple[int, ...]:
        """All its processes; empty for a server that was not started here, or runs in a container."""
        return self._process.descendants() if self._process and not self.spec.image else ()

    @property
    def api_key(self) -> str | None:
        """Read from the environment when it is asked for, and kept nowhere."""
        name = self.spec.api_key_env
        return (os.environ.get(name) or None) if name else None

    def client(self, *, timeout_s: float = _ANSWER_S) -> httpx.Client:
        """A client with the base URL and the key; proxies only where the spec says so. Close it.

        Raises:
            UsageError: the file of certificates cannot be read, or the proxy cannot be used.
        """
        return self._client(httpx.Client, timeout_s)

    def async_client(self, *, timeout_s: float = _ANSWER_S) -> httpx.AsyncClient:
        """The same for asyncio."""
        return self._client(httpx.AsyncClient, timeout_s)

    def _client(self, kind: type[ClientKind], timeout_s: float) -> ClientKind:
        arguments: dict[str, Any] = {
            "base_url": self.url,
            "headers": self._headers(),
            "verify": tls.context(self.spec.ca_file, verify=self.spec.verify_tls),
            "trust_env": self.spec.proxies,
            "follow_redirects": True,
            "timeout": timeout_s,
        }
        try:
            return kind(**arguments)
        except (ImportError, ValueError) as error:  # httpx: a SOCKS proxy without its package; no such scheme
            raise UsageError(
                "the proxy that the environment names cannot be used",
                seen=str(error),
                do="name an HTTP proxy, except this server in NO_PROXY, or install what is missing",
            ) from error

    def metrics(self) -> dict[str, float]:
        """One scrape: samples by name, labelled ones as `name{a="b"}` with the labels sorted.

        Some engines reset gauges at each scrape: two scrapers of one server disturb each other.

        Raises:
            EngineError: the server publishes none.
        """
        path = self.exposition.path if self.exposition is not None else _METRICS_PATH
        try:
            with self.client() as client:
                answer = client.get(path)
        except httpx.HTTPError as error:
            raise EngineError(
                f"{self.engine} does not answer", seen=f"GET {path} -> {error}", do=self.exit_report()
            ) from error
        if not answer.is_success:
            raise EngineError(
                f"{self.engine} publishes no metrics here",
                seen=f"GET {path} -> {answer.status_code}",
                do="switch them on at the server, or measure without them",
            )
        return parse_metrics(answer.text)

    def memory_bytes(self) -> int | None:
        """Resident memory of all its processes; None where they are not known, as `pids`."""
        total = 0
        for pid in self.pids:
            with contextlib.suppress(psutil.Error):
                total += psutil.Process(pid).memory_info().rss
        return total or None

    def started_at(self) -> str | None:
        """Tells one start of the server from another: when its process began, as its metrics say.

        None where it does not tell. Source: Prometheus client libraries, `process_start_time_seconds`.
        """
        if self._process is not None:
            return str(self.pid)  # its end is seen by `alive`
        try:
            said = self.metrics().get("process_start_time_seconds")
        except (EngineError, ValueError):
            return None
        return None if said is None else f"{said:.1f}"

    def alive(self) -> bool:
        """Does its process run? For a server that was not started here: does it answer?"""
        if self._stopped or self._condemned:
            return False
        if self._process is not None:
            return self._process.poll() is None
        try:
            with self.client() as client:
                return self._engine.ready(client) is None
        except (httpx.HTTPError, EngineError):
            return False

    def answers(self, *, within_s: float = _RECOVER_S) -> bool:
        """Does it answer its ready probe? One that does not is never used again: the next test boots afresh.

        A server that is stopped, or stuck, has a process that runs.
        """
        deadline = self._clock() + within_s
        with self.client(timeout_s=min(_ANSWER_S, within_s)) as client:
            while True:
                with contextlib.suppress(httpx.HTTPError, EngineError):
                    if self._engine.ready(client) is None:
                        return True
                ended = self._process is not None and self._process.poll() is not None
                if self._clock() >= deadline or ended or self._stopped:
                    self._condemned = True
                    return False
                time.sleep(_PAUSE_S)

    def exit_report(self) -> str:
        """How it ended, in words: `llama.cpp was killed by SIGKILL 12.3 s after its start`."""
        if self._process is None:
            return f"{self.engine} {self.url} was not started here"
        code = self._process.poll()
        if code is None:
            return f"{self.engine} runs (process {self.pid})"
        since_s = self._clock() - self._began_s
        return f"{self.engine} {exit_words(code)}, seen {since_s:.1f} s after its start"

    def log_tail(self) -> str:
        """The end of its log, without secrets that were printed there; empty without a log."""
        return processes.redact(processes.tail(self.log), self.secrets) if self.log else ""

    @property
    def secrets(self) -> tuple[str, ...]:
        """Values that must not appear in an error, whoever printed them."""
        environment = {**os.environ, **environment_of(self.spec.env)}
        key = self.spec.api_key_env
        return tuple(value for name, value in environment.items() if is_secret(name) or name == key)

    def reset_cache(self) -> bool:
        """Forget all cached prefixes; False where the engine cannot, or does not answer."""
        try:
            with self.client() as client:
                return self._engine.reset_cache(client)
        except httpx.HTTPError:
            return False

    def hold(self, leases: Leases, before: tuple[GpuSample, ...], gpus: tuple[str, ...]) -> None:
        """The GPUs it was given, by UUID, and what they were before."""
        self._leases, self.gpus_before, self._gpus = leases, before, gpus

    def stop(self) -> StopReport | None:
        """End it with everything it started, and give its port back; may be called again.

        None for a server that was not started here, which goes on.

        Raises:
            EngineError: a process of it survived SIGKILL, or memory of its GPUs is still held.
        """
        self._stopped = True
        report = self._process.stop() if self._process else None
        if self._lease is not None:
            self._lease.release()
        if report is not None and report.left:
            raise EngineError(
                f"{self.engine} could not be ended",
                seen=f"processes {', '.join(map(str, report.left))} survived SIGKILL",
                do="look at them with ps; a driver may hold them in the kernel",
                log_path=str(self.log),
            )
        if report is not None and self._leases is not None and self.gpus_before is not None:
            held, self._leases = self._leases.await_release(self.gpus_before, self._gpus), None
            if held is not None:
                raise EngineError(
                    f"{self.engine} left GPU memory behind",
                    seen=held,
                    do="look for its processes with nvidia-smi; until they are gone no boot is comparable",
                    log_path=str(self.log),
                )
        return report

    def _headers(self) -> dict[str, str]:
        dialect = DIALECTS.get(self.dialect_name or self.engine)  # before it was asked: by its engine's name
        name, before = BEARER if dialect is None else dialect.key_header
        always = {} if dialect is None else dict(dialect.headers)
        key = self.api_key
        return {**always, name: f"{before}{key}"} if key else always


def exit_words(code: int) -> str:
    """
    >>> exit_words(1), exit_words(-9)
    ('ended with exit code 1', 'was killed by SIGKILL')
    """
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


def parse_metrics(text: str) -> dict[str, float]:
    """Samples of a Prometheus text exposition, as `Server.metrics` returns them.

    >>> parse_metrics('a_total 3\\nb{le="1",job="x"} 0.5\\n')
    {'a_total': 3.0, 'b{job="x",le="1"}': 0.5}
    """
    from prometheus_client.parser import text_string_to_metric_families

    samples: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
            samples[f"{sample.name}{{{labels}}}" if labels else sample.name] = float(sample.value)
    return samples
