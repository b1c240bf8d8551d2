"""Boots one server, or says why it did not become ready. Nothing is left behind when it fails."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx
import psutil

from pytest_inferforge import engines, processes, tls
from pytest_inferforge.errors import EngineError
from pytest_inferforge.servers import ports
from pytest_inferforge.servers.server import Server, exit_words

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_inferforge.engines.protocol import Engine, Launch
    from pytest_inferforge.servers.spec import ServerSpec

_FIRST_PAUSE_S = 0.01
_LONGEST_PAUSE_S = 0.25
_PROBE_S = 5.0  # SGLang's /health generates a token and takes a second


def boot(
    spec: ServerSpec,
    *,
    run_dir: Path,
    number: int = 1,
    clock: Callable[[], float] = time.monotonic,
) -> Server:
    """Start the server that `spec` asks for and wait until it can be used.

    `run_dir` gets its log, `ENGINE-NUMBER.log`.

    Raises:
        UsageError: the spec asks for something that cannot be; nothing was started.
        EngineError: it did not become ready; it was ended, and the end of its log is in the error.
    """
    engine = engines.engine(spec.engine)
    engine.check(spec)
    run_dir.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as undo:
        if engine.STARTS_PROCESS:
            server, launch, process = _start(spec, engine, run_dir, number, clock, undo)
        else:
            launch, process = engine.launch(spec, 0, run_dir), None
            server = Server(spec, engine, url=launch.base_url, number=number, clock=clock)
        wait = _Wait(server=server, engine=engine, process=process, clock=clock)
        budget_s = launch.boot_timeout_s if spec.boot_timeout_s is None else spec.boot_timeout_s
        _await_ready(wait, budget_s)
        _ask(server, engine, launch)
        undo.pop_all()
    return server


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wait:
    server: Server
    engine: Engine
    process: processes.Process | None
    clock: Callable[[], float]


def _start(
    spec: ServerSpec,
    engine: Engine,
    run_dir: Path,
    number: int,
    clock: Callable[[], float],
    undo: contextlib.ExitStack,
) -> tuple[Server, Launch, processes.Process]:
    lease = ports.lease(spec.port)
    undo.callback(lease.release)
    launch = engine.launch(spec, lease.port, run_dir)
    log = run_dir / f"{spec.engine}-{number}.log"
    process = processes.start(
        launch.argv,
        env={**os.environ, **dict(launch.env), **dict(spec.env)},
        log_path=log,
        grace_s=launch.grace_s,
    )
    undo.callback(process.stop)
    server = Server(
        spec, engine, url=launch.base_url, number=number, clock=clock, process=process, lease=lease, log=log
    )
    return server, launch, process


def _await_ready(wait: _Wait, budget_s: float) -> None:
    began_s = wait.clock()
    pause_s = _FIRST_PAUSE_S
    seen = "it was never asked"
    with wait.server.client(timeout_s=_PROBE_S) as client:
        while True:
            answer = _probe(wait.engine, client)
            passed_s = wait.clock() - began_s
            code = wait.process.poll() if wait.process else None
            if code is not None:
                raise _failed(
                    wait, "ended while booting", f"{answer or seen}; it {exit_words(code)}", passed_s
                )
            if answer is None:
                _check_owner(wait)
                wait.server.ready_s = passed_s if wait.process else None
                return
            seen = answer
            if passed_s >= budget_s:
                running = "; its process still runs" if wait.process else ""
                what = f"did not become ready in {budget_s:g} s"
                raise _failed(wait, what, f"{seen}{running}", passed_s)
            if wait.process is None:
                time.sleep(pause_s)
            else:
                wait.process.wait(pause_s)
            pause_s = min(pause_s * 1.3, _LONGEST_PAUSE_S)


def _probe(engine: Engine, client: httpx.Client) -> str | None:
    """None when the server is ready, else what was seen.

    Raises:
        EngineError: waiting is of no use.
    """
    try:
        return engine.ready(client)
    except httpx.ConnectError as error:
        if (why := tls.distrust(error)) is not None:
            raise EngineError(
                f"the certificate of {str(client.base_url).rstrip('/')} is not trusted",
                seen=f"{_asked(error)} -> certificate verify failed: {why}",
                do="name a file with the certificates of its authority, --infer-tls-ca=FILE,"
                " or check none with --infer-tls-insecure",
            ) from error
        refused = "refused" in str(error).lower()
        return f"{_asked(error)} -> {'connection refused' if refused else error}"
    except httpx.TimeoutException as error:
        return f"{_asked(error)} -> no answer in {_PROBE_S:g} s"
    except httpx.HTTPError as error:
        return f"{_asked(error)} -> {type(error).__name__}: {error}"


def _asked(error: httpx.HTTPError) -> str:
    try:
        return f"{error.request.method} {error.request.url.path}"
    except RuntimeError:
        return "the request"


def _check_owner(wait: _Wait) -> None:
    """An answer counts when it comes from our process; a port may have been snatched between test and use."""
    if wait.process is None:
        return
    port = httpx.URL(wait.server.url).port or 80
    family = wait.process.descendants()
    for pid in family:
        with contextlib.suppress(psutil.Error):
            sockets = psutil.Process(pid).net_connections(kind="tcp")
            if any(s.status == psutil.CONN_LISTEN and s.laddr and s.laddr.port == port for s in sockets):
                return
    strangers = tuple(process for process in ports.listeners(port) if process.pid not in family)
    if strangers:
        raise EngineError(
            f"port {port} on {ports.HOST} is answered by another process than {wait.server.engine}",
            seen=ports.who(strangers),
            do="end that process, or choose another port (without one, a free port is found)",
            log_tail=wait.server.log_tail(),
            log_path=str(wait.server.log),
        )


def _ask(server: Server, engine: Engine, launch: Launch) -> None:
    """What the running server says of itself."""
    try:
        with server.client() as client:
            server.dialect_name = engine.dialect(server.spec, client)
            server.version = engine.version(client)
            server.facts = dict(launch.facts) | engine.facts(client)
            server.model = launch.model or _first_model(client)
    except (httpx.HTTPError, ValueError, LookupError) as error:
        raise EngineError(
            f"{server.engine} was ready, but does not say what it is",
            seen=f"{type(error).__name__}: {error}",
            do=f"look at its answers by hand: {server.url}/v1/models",
            log_path=str(server.log) if server.log else None,
        ) from error


def _first_model(client: httpx.Client) -> str:
    answer = client.get("/v1/models")
    listed = answer.json().get("data") if answer.is_success else None
    if not listed:
        raise EngineError(
            "the model's name is not known", seen=f"GET /v1/models -> {answer.status_code}", do="give a model"
        )
    return str(listed[0]["id"])


def _failed(wait: _Wait, what: str, seen: str, passed_s: float) -> EngineError:
    log = wait.server.log
    who = wait.server.engine
    if log is None:
        who = f"the server at {wait.server.url}"
        do = f"check that a server runs at {wait.server.url} and can be reached from here"
    else:
        do = f"read the end of its log below; the whole log is {log}"
    return EngineError(
        f"{who} {what}",
        seen=processes.redact(f"{seen} after {passed_s:.1f} s", wait.server.secrets),
        do=do,
        log_tail=wait.server.log_tail(),
        log_path=str(log) if log else None,
    )
