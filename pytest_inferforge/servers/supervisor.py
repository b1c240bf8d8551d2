"""Boots one server, or says why it did not become ready. Nothing is left behind when it fails."""

from __future__ import annotations

import contextlib
import os
import shlex
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import httpx
import psutil

from pytest_inferforge import asking, engines, processes, tls
from pytest_inferforge.dialects import DIALECTS
from pytest_inferforge.errors import EngineError, UsageError
from pytest_inferforge.servers import diagnosis, ports, prefetch
from pytest_inferforge.servers.server import Server, exit_words
from pytest_inferforge.servers.spec import environment

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_inferforge.engines.protocol import Engine, Launch
    from pytest_inferforge.servers.gpus import Leases
    from pytest_inferforge.servers.spec import ServerSpec

_FIRST_PAUSE_S = 0.01
_LONGEST_PAUSE_S = 0.25
_LOG_LINES, _LOG_BYTES = 5000, 1_000_000  # of a log's end that are searched for the reason
_RESTART_S = 600.0
_FIRST_PROMPT = "Hello"
_FIRST_TOKEN_S = 60.0  # at least, also when the probe took the whole budget
_PROBE_S = 5.0  # SGLang's /health generates a token and takes a second


def boot(
    spec: ServerSpec,
    *,
    run_dir: Path,
    number: int = 1,
    clock: Callable[[], float] = time.monotonic,
    notes: Path | None = None,
    restart: bool = False,
    say: Callable[[str], None] | None = None,
    leases: Leases | None = None,
) -> Server:
    """Start the server that `spec` asks for and wait until it can be used.

    `run_dir` gets its log, `ENGINE-NUMBER.log`. `notes`: see `processes.start`. `restart`: run the spec's own
    command to restart what is not started here. `say` is told what takes long.
    `leases`: the GPUs of this session.

    Raises:
        UsageError: the spec asks for something that cannot be; nothing was started.
        EngineError: it did not become ready; it was ended, and the end of its log is in the error.
    """
    engine = engines.engine(spec.engine)
    engine.check(spec)
    run_dir.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as undo:
        if engine.STARTS_PROCESS:
            server, launch, process = _start(spec, engine, run_dir, number, clock, undo, notes, say, leases)
        else:
            launch, process = engine.launch(spec, 0, run_dir), None
            server = Server(spec, engine, url=launch.base_url, number=number, clock=clock)
            before = _restart(server) if restart else None
        wait = _Wait(server=server, engine=engine, process=process, clock=clock, began_s=clock())
        budget_s = launch.boot_timeout_s if spec.boot_timeout_s is None else spec.boot_timeout_s
        _await_ready(wait, budget_s)
        if process is None and restart and before is not None and server.started_at() == before:
            raise _not_restarted(server)
        _ask(server, engine, launch)
        if process is not None:
            _first_token(wait, budget_s)
        undo.pop_all()
    return server


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wait:
    server: Server
    engine: Engine
    process: processes.Process | None
    clock: Callable[[], float]
    began_s: float


def _start(
    spec: ServerSpec,
    engine: Engine,
    run_dir: Path,
    number: int,
    clock: Callable[[], float],
    undo: contextlib.ExitStack,
    notes: Path | None,
    say: Callable[[str], None] | None,
    leases: Leases | None,
) -> tuple[Server, Launch, processes.Process]:
    lease = ports.lease(spec.port)
    undo.callback(lease.release)
    launch = engine.launch(spec, lease.port, run_dir)
    if launch.fetch is not None:
        fetched = prefetch.fetch(spec, launch.fetch, run_dir=run_dir, number=number, say=say)
        launch = replace(launch, facts=(*launch.facts, *fetched.items()))
    log = run_dir / f"{spec.engine}-{number}.log"
    chosen = leases.take(spec) if leases is not None else ()
    before = leases.sample() if leases is not None else None
    shown = leases.environment(spec, chosen) if leases is not None else {}
    process = processes.start(
        launch.argv,
        env={**os.environ, **shown, **dict(launch.env), **environment(spec.env)},
        log_path=log,
        grace_s=launch.grace_s,
        cleanup=launch.cleanup,
        notes=notes,
    )
    undo.callback(process.stop)
    server = Server(
        spec, engine, url=launch.base_url, number=number, clock=clock, process=process, lease=lease, log=log
    )
    if leases is not None and before is not None:
        server.hold(leases, before, tuple(gpu.uuid for gpu in chosen))
    return server, launch, process


def _restart(server: Server) -> str | None:
    """Run the spec's command; returns when the server's process had begun before, None where it never says.

    Raises:
        UsageError, EngineError: it cannot be run, or fails.
    """
    command = server.spec.restart
    assert command is not None
    before = server.started_at()
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise UsageError(
            "the restart command cannot be read", seen=f"{command}: {error}", do="mend its quotes"
        ) from error
    answer = processes.ask(words, timeout_s=_RESTART_S)
    if answer.code != 0:
        seen = f"{command} -> exit code {answer.code}: {answer.said}"
        raise EngineError(
            "the restart command failed",
            seen=processes.redact(seen, server.secrets),
            do="run it by hand; it has to return when the server begins to start",
        )
    return before


def _not_restarted(server: Server) -> EngineError:
    return EngineError(
        "the server was not restarted",
        seen=f"{server.spec.restart} ended well, but the process at {server.url} is the one from before",
        do="let the command stop the server before it starts it, and return after that",
    )


def _await_ready(wait: _Wait, budget_s: float) -> None:
    pause_s = _FIRST_PAUSE_S
    seen = "it was never asked"
    with wait.server.client(timeout_s=_PROBE_S) as client:
        while True:
            answer = _probe(wait.engine, client)
            passed_s = wait.clock() - wait.began_s
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
    if wait.server.spec.image or wait.server.spec.command:
        # A daemon of somebody else may listen for it since it was started.
        strangers = tuple(process for process in strangers if _older(process, wait.process.pid))
    if strangers:
        raise EngineError(
            f"port {port} on {ports.HOST} is answered by another process than {wait.server.engine}",
            seen=ports.who(strangers),
            do="end that process, or choose another port (without one, a free port is found)",
            log_tail=wait.server.log_tail(),
            log_path=str(wait.server.log),
        )


def _older(process: psutil.Process, than: int) -> bool:
    try:
        return process.create_time() < psutil.Process(than).create_time()
    except psutil.Error:
        return False


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


def _first_token(wait: _Wait, budget_s: float) -> None:
    """Have one token generated: a probe may be green before the model is there.

    Raises:
        EngineError: it generates none in what is left of the budget.
    """
    server = wait.server
    dialect = DIALECTS[server.dialect_name]
    until_s = wait.began_s + max(budget_s, wait.clock() - wait.began_s + _FIRST_TOKEN_S)
    seen: list[str] = []
    while wait.process is not None and wait.process.poll() is None:
        seen = []
        for chat, path in asking.paths(dialect):
            body = asking.body(dialect, server.model, _FIRST_PROMPT, chat=chat, max_tokens=1)
            try:
                with server.client(timeout_s=max(_FIRST_TOKEN_S, until_s - wait.clock())) as client:
                    answer = client.post(path, json=body)
            except httpx.HTTPError as error:
                seen.append(f"POST {path} -> {type(error).__name__}: {error}")
                continue
            if answer.is_success:
                server.first_token_s = wait.clock() - wait.began_s
                return
            seen.append(f"POST {path} -> {answer.status_code} {answer.text[:200]}")
        if wait.clock() >= until_s or not any(_may_pass(line) for line in seen):
            break
        wait.process.wait(_LONGEST_PAUSE_S)
    code = wait.process.wait(_LONGEST_PAUSE_S) if wait.process else None  # its connection ends before it does
    passed_s = wait.clock() - wait.began_s
    if code is not None:
        told = "; ".join([*seen, f"it {exit_words(code)}"])
        raise _failed(wait, "ended at its first request", told, passed_s)
    raise _failed(wait, "said that it is ready, but generates nothing", "; ".join(seen), passed_s)


def _may_pass(seen: str) -> bool:
    """An answer that says to come back: too busy, still loading."""
    return " -> 503 " in seen or " -> 429 " in seen


def _first_model(client: httpx.Client) -> str:
    answer = client.get("/v1/models")
    try:
        return str(answer.raise_for_status().json()["data"][0]["id"])
    except (httpx.HTTPStatusError, LookupError, TypeError) as error:
        raise EngineError(
            "the model's name is not known", seen=f"GET /v1/models -> {answer.status_code}", do="give a model"
        ) from error


def _failed(wait: _Wait, what: str, seen: str, passed_s: float) -> EngineError:
    log = wait.server.log
    who = wait.server.engine
    seen = f"{seen} after {passed_s:.1f} s"
    if log is None:
        who = f"the server at {wait.server.url}"
        do = f"check that a server runs at {wait.server.url} and can be reached from here"
    else:
        code = wait.process.poll() if wait.process else None
        whole = processes.tail(log, lines=_LOG_LINES, max_bytes=_LOG_BYTES)
        known = diagnosis.hint(whole, code)
        read = f"read the end of its log below; the whole log is {log}"
        do = read if known is None else f"{known}\n{read}"
        if (error := diagnosis.first_error(whole)) is not None:
            seen = f"{seen}\nfirst error in its log: {error}"
    return EngineError(
        f"{who} {what}",
        seen=processes.redact(seen, wait.server.secrets),
        do=do,
        log_tail=wait.server.log_tail(),
        log_path=str(log) if log else None,
    )
