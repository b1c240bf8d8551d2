"""Servers that do not come up: each ends in an error of the usual form, and leaves nothing behind."""

from __future__ import annotations

import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING

import psutil
import pytest

from pytest_inferforge import engines
from pytest_inferforge.engines.protocol import Launch
from pytest_inferforge.errors import EngineError, UsageError
from pytest_inferforge.servers import ports
from pytest_inferforge.servers.pool import ServerPool
from pytest_inferforge.servers.spec import ServerSpec
from pytest_inferforge.servers.supervisor import boot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import httpx

    from pytest_inferforge.servers.server import Server

NEVER_READY = """
    import os, sys, time
    print("loading", os.environ.get("SOME_TOKEN"), flush=True)
    open(sys.argv[1], "w").write(str(os.getpid()))
    time.sleep(600)
"""
DIES = """
    import sys
    print("ValueError: no kernel for this device", file=sys.stderr)
    print("RuntimeError: see above", file=sys.stderr)
    sys.exit(3)
"""


def serves(generate: str = "self.say(200)", first: str = "") -> str:
    """A server that is ready at once, and does `generate` when asked to; `first` comes before all."""
    return f"""
import http.server, json, os, signal, sys, time
{textwrap.dedent(first)}
class Route(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    asked = 0
    def do_GET(self):
        self.say(200, json.dumps({{"data": [{{"id": "m"}}]}}))
    def do_POST(self):
        Route.asked += 1
        self.rfile.read(int(self.headers["Content-Length"]))
        chat = "chat" in self.path
{textwrap.indent(textwrap.dedent(generate), "        ")}
    def say(self, status, text="{{}}"):
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())
    def log_message(self, *_):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Route)
open(sys.argv[1], "w").write(str(os.getpid()))
if os.environ.get("WITH_CHILD"):
    if os.fork() == 0:
        os.setsid()
        time.sleep(600)
server.serve_forever()
"""


def ready(client: httpx.Client) -> str | None:
    status = client.get("/health").status_code
    return None if status == 200 else f"GET /health -> {status}"


@pytest.fixture
def engine_running(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., ServerSpec]:
    """An engine called stub, whose server is the given Python code; `at` is where it is asked instead."""

    def of(code: str, *, boot_timeout_s: float = 0.7, at: int | None = None, **fields: object) -> ServerSpec:
        def launch(_: object, port: int, __: Path) -> Launch:
            argv = (sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "pid"), str(port))
            return Launch(
                argv=argv,
                base_url=f"http://127.0.0.1:{at or port}",
                boot_timeout_s=60,
                grace_s=0.5,
                model="m",
            )

        stub = SimpleNamespace(
            STARTS_PROCESS=True,
            check=lambda _: None,
            launch=launch,
            ready=ready,
            dialect=lambda *_: "openai",
            version=lambda _: "1",
            facts=lambda _: {},
        )
        monkeypatch.setitem(sys.modules, "stub_engine", stub)
        monkeypatch.setitem(engines.ENGINES, "stub", "stub_engine")
        env = (("SOME_TOKEN", "hunter22"),)
        return ServerSpec(engine="stub", boot_timeout_s=boot_timeout_s, env=env, **fields)  # type: ignore[arg-type]

    return of


def pid_of(tmp_path: Path) -> int:
    return int((tmp_path / "pid").read_text())


def test_a_server_that_never_answers_is_ended_with_its_log_shown(
    engine_running: Callable[..., ServerSpec], tmp_path: Path
) -> None:
    with pytest.raises(EngineError, match=r"stub did not become ready in 0\.7 s") as caught:
        boot(engine_running(NEVER_READY), run_dir=tmp_path)
    assert "GET /health -> connection refused; its process still runs after 0." in str(caught.value.seen)
    assert caught.value.do == f"read the end of its log below; the whole log is {tmp_path / 'stub-1.log'}"
    assert caught.value.log_tail == "loading [redacted]"
    assert not psutil.pid_exists(pid_of(tmp_path))


def test_a_server_that_dies_is_not_waited_for(
    engine_running: Callable[..., ServerSpec], tmp_path: Path
) -> None:
    with pytest.raises(EngineError, match="stub ended while booting") as caught:
        boot(engine_running(DIES), run_dir=tmp_path, number=4)
    assert "it ended with exit code 3 after 0." in str(caught.value.seen)
    assert "first error in its log: ValueError: no kernel for this device" in str(caught.value.seen)
    assert str(caught.value.log_tail).endswith("RuntimeError: see above")
    assert caught.value.log_path == str(tmp_path / "stub-4.log")


def test_a_server_that_was_killed_for_its_memory_is_told_so(
    engine_running: Callable[..., ServerSpec], tmp_path: Path
) -> None:
    with pytest.raises(EngineError, match="stub ended while booting") as caught:
        boot(engine_running("import os; os.kill(os.getpid(), 9)"), run_dir=tmp_path)
    assert "it was killed by SIGKILL" in str(caught.value.seen)
    assert str(caught.value.do).startswith("SIGKILL, and nobody here sent it")


def test_an_interrupt_while_booting_leaves_nothing_behind(
    engine_running: Callable[..., ServerSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = engine_running(NEVER_READY)

    def interrupted(_: object) -> None:
        if (tmp_path / "pid").exists() and (tmp_path / "pid").read_text():
            raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["stub_engine"], "ready", lambda client: interrupted(client) or "not yet")
    with pytest.raises(KeyboardInterrupt):
        boot(spec, run_dir=tmp_path)
    assert not psutil.pid_exists(pid_of(tmp_path))


def test_a_url_where_nobody_answers_is_an_error(tmp_path: Path) -> None:
    spec = ServerSpec(engine="url", url="http://127.0.0.1:1", boot_timeout_s=0.1)
    with pytest.raises(
        EngineError, match=r"the server at http://127\.0\.0\.1:1 did not become ready in 0\.1 s"
    ) as caught:
        boot(spec, run_dir=tmp_path)
    assert "GET /health -> connection refused after 0." in str(caught.value.seen)
    assert "http://127.0.0.1:1" in str(caught.value.do)


# -- the first token


def test_a_server_that_says_ready_but_generates_nothing_is_an_error(
    engine_running: Callable[..., ServerSpec], tmp_path: Path
) -> None:
    spec = engine_running(serves("self.say(500, 'no model for hunter22')"), boot_timeout_s=20)
    with pytest.raises(EngineError, match="stub said that it is ready, but generates nothing") as caught:
        boot(spec, run_dir=tmp_path)
    assert str(caught.value.seen).startswith(
        "POST /v1/completions -> 500 no model for [redacted];"
        " POST /v1/chat/completions -> 500 no model for [redacted] after "
    )
    assert not psutil.pid_exists(pid_of(tmp_path))


def test_one_api_that_generates_is_enough(engine_running: Callable[..., ServerSpec], tmp_path: Path) -> None:
    server = boot(
        engine_running(serves("self.say(200 if chat else 404)"), boot_timeout_s=20), run_dir=tmp_path
    )
    server.stop()
    assert server.first_token_s is not None


def test_a_server_that_is_busy_at_first_is_asked_again(
    engine_running: Callable[..., ServerSpec], tmp_path: Path
) -> None:
    generate = "self.say(200 if Route.asked > 6 else 503 if chat else 404, 'loading')"
    server = boot(engine_running(serves(generate), boot_timeout_s=20), run_dir=tmp_path)
    server.stop()
    assert server.ready_s is not None
    assert server.first_token_s is not None
    assert server.first_token_s - server.ready_s > 0.5  # it is not hammered with requests


def test_a_model_that_is_loaded_by_the_first_request_is_in_the_time_of_the_first_token(
    engine_running: Callable[..., ServerSpec], tmp_path: Path
) -> None:
    server = boot(engine_running(serves("time.sleep(2); self.say(200)"), boot_timeout_s=20), run_dir=tmp_path)
    server.stop()
    assert server.ready_s is not None
    assert server.first_token_s is not None
    assert server.ready_s < 2 <= server.first_token_s - server.ready_s < 4


def test_a_server_that_dies_of_its_first_request_is_told_so(
    engine_running: Callable[..., ServerSpec], tmp_path: Path
) -> None:
    generate = "print('RuntimeError: no kernel', file=sys.stderr, flush=True); os._exit(5)"
    with pytest.raises(EngineError, match="stub ended at its first request") as caught:
        boot(engine_running(serves(generate), boot_timeout_s=20), run_dir=tmp_path)
    assert "it ended with exit code 5 after " in str(caught.value.seen)
    assert "first error in its log: RuntimeError: no kernel" in str(caught.value.seen)


# -- ports, and servers that stay


@pytest.mark.parametrize("child", ["", "1"])
def test_a_server_that_ignores_sigterm_is_killed_and_its_port_is_free(
    child: str, engine_running: Callable[..., ServerSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WITH_CHILD", child)  # in a session of its own, with the port in its hands
    code = serves(first="signal.signal(signal.SIGTERM, signal.SIG_IGN)")
    server = boot(engine_running(code, boot_timeout_s=20), run_dir=tmp_path)
    pids = server.pids
    assert len(pids) == 1 + bool(child)
    port = int(server.url.rpartition(":")[2])
    report = server.stop()
    assert report is not None
    assert (report.exit_code, set(report.forced), report.left) == (-signal.SIGKILL, set(pids), ())
    assert ports.is_free(port)
    assert not server.alive()


def test_a_port_that_stays_busy_is_an_error_that_names_who_holds_it(
    engine_running: Callable[..., ServerSpec], tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    spec = engine_running(serves(), boot_timeout_s=20, port=port)
    boot(spec, run_dir=tmp_path).stop()
    (tmp_path / "pid").unlink()
    with socket.create_server(("127.0.0.1", port)):
        with pytest.raises(EngineError, match=f"port {port} on 127.0.0.1 is taken") as caught:
            boot(spec, run_dir=tmp_path)
        assert f"process {os.getpid()} (" in str(caught.value.seen)
    assert not (tmp_path / "pid").exists()
    boot(spec, run_dir=tmp_path).stop()  # the lease was given back


class Elsewhere(http.server.BaseHTTPRequestHandler):
    """Answers, in this very process; `began_s` is when it says it was started."""

    began_s: float | None = None

    def do_GET(self) -> None:
        metrics = b"" if self.began_s is None else f"process_start_time_seconds {self.began_s}\n".encode()
        models = json.dumps({"data": [{"id": "m"}]}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(metrics if self.path == "/metrics" else models)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The port of a server that nobody here started."""
    monkeypatch.setattr(Elsewhere, "began_s", None)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("command", [None, "serve --port {port}"])
def test_an_answer_of_somebody_else_does_not_count(
    command: str | None, elsewhere: int, engine_running: Callable[..., ServerSpec], tmp_path: Path
) -> None:
    spec = engine_running(NEVER_READY, boot_timeout_s=20, at=elsewhere, command=command)
    with pytest.raises(EngineError, match="is answered by another process than stub") as caught:
        boot(spec, run_dir=tmp_path)
    assert f"process {os.getpid()} (" in str(caught.value.seen)


# -- a server behind a URL, restarted by a command

RESTART = """
    import os, signal, subprocess, sys, time
    pid, port = sys.argv[1:]
    if os.path.exists(pid):
        old = int(open(pid).read())
        os.unlink(pid)
        os.kill(old, signal.SIGTERM)
        while os.path.exists(f"/proc/{old}/status") and "Z (" not in open(f"/proc/{old}/status").read():
            time.sleep(0.01)
    subprocess.Popen([sys.executable, "-c", open(f"{pid}.py").read(), pid, port], start_new_session=True)
"""


@pytest.fixture
def restartable(tmp_path: Path) -> Iterator[Callable[[], Server]]:
    """Attaches to a server that a script (re)starts; the session's pool restarts it."""
    (tmp_path / "pid.py").write_text(serves())
    script = tmp_path / "restart.py"
    script.write_text(textwrap.dedent(RESTART))
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    command = f"{sys.executable} {script} {tmp_path / 'pid'} {port}"
    subprocess.run(command.split(), check=True)
    pool = ServerPool(tmp_path / "run")
    spec = ServerSpec(engine="url", url=f"http://127.0.0.1:{port}", restart=command)
    yield lambda: pool.fresh(spec)
    pool.close()
    os.kill(pid_of(tmp_path), signal.SIGKILL)


def test_a_server_behind_a_url_is_restarted_by_its_command(
    restartable: Callable[[], Server], tmp_path: Path
) -> None:
    first = restartable()
    before = pid_of(tmp_path)
    second = restartable()
    after = pid_of(tmp_path)
    assert before != after
    assert (first.number, second.number) == (1, 2)
    assert (first.alive(), second.alive()) == (False, True)
    second.stop()
    assert psutil.pid_exists(after)  # it is not ours


def restarting(elsewhere: int, command: str, tmp_path: Path) -> Server:
    spec = ServerSpec(engine="url", url=f"http://127.0.0.1:{elsewhere}", restart=command)
    return boot(spec, run_dir=tmp_path, restart=True)


def test_a_restart_command_that_fails_is_an_error_with_its_words(
    elsewhere: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_TOKEN", "hunter22")
    command = "sh -c 'echo no such unit for $SOME_TOKEN >&2; exit 5'"
    with pytest.raises(EngineError, match="the restart command failed") as caught:
        restarting(elsewhere, command, tmp_path)
    assert str(caught.value.seen).endswith("-> exit code 5: no such unit for [redacted]")


def test_a_restart_command_that_cannot_be_run_is_an_error(elsewhere: int, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="no-such-program cannot be started"):
        restarting(elsewhere, "no-such-program now", tmp_path)
    with pytest.raises(UsageError, match="the restart command cannot be read"):
        restarting(elsewhere, "systemctl 'restart", tmp_path)


def test_a_command_that_did_not_restart_it_is_found_out(
    elsewhere: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Elsewhere, "began_s", 1763700000.5)
    with pytest.raises(EngineError, match="the server was not restarted") as caught:
        restarting(elsewhere, "true", tmp_path)
    assert f"true ended well, but the process at http://127.0.0.1:{elsewhere} is the one" in str(
        caught.value.seen
    )


def test_a_server_that_does_not_say_when_it_began_is_believed(elsewhere: int, tmp_path: Path) -> None:
    assert restarting(elsewhere, "true", tmp_path).alive()
