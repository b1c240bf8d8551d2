"""Servers that do not come up: each ends in an error of the usual form, and leaves nothing behind."""

from __future__ import annotations

import sys
import textwrap
from types import SimpleNamespace
from typing import TYPE_CHECKING

import psutil
import pytest

from pytest_inferforge import engines
from pytest_inferforge.engines.protocol import Launch
from pytest_inferforge.errors import EngineError
from pytest_inferforge.servers.spec import ServerSpec
from pytest_inferforge.servers.supervisor import boot

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import httpx

NEVER_READY = """
    import os, sys, time
    print("loading", os.environ.get("SOME_TOKEN"), flush=True)
    open(sys.argv[1], "w").write(str(os.getpid()))
    time.sleep(600)
"""
DIES = """
    import sys
    print("out of memory", file=sys.stderr)
    sys.exit(3)
"""


def ready(client: httpx.Client) -> str | None:
    status = client.get("/health").status_code
    return None if status == 200 else f"GET /health -> {status}"


@pytest.fixture
def engine_running(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], ServerSpec]:
    """An engine called stub, whose server is the given Python code."""

    def of(code: str) -> ServerSpec:
        def launch(_: object, port: int, __: Path) -> Launch:
            argv = (sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "pid"))
            return Launch(argv=argv, base_url=f"http://127.0.0.1:{port}", boot_timeout_s=60, grace_s=0.5)

        stub = SimpleNamespace(STARTS_PROCESS=True, check=lambda _: None, launch=launch, ready=ready)
        monkeypatch.setitem(sys.modules, "stub_engine", stub)
        monkeypatch.setitem(engines.ENGINES, "stub", "stub_engine")
        return ServerSpec(engine="stub", boot_timeout_s=0.7, env=(("SOME_TOKEN", "hunter22"),))

    return of


def test_a_server_that_never_answers_is_ended_with_its_log_shown(
    engine_running: Callable[[str], ServerSpec], tmp_path: Path
) -> None:
    with pytest.raises(EngineError, match=r"stub did not become ready in 0\.7 s") as caught:
        boot(engine_running(NEVER_READY), run_dir=tmp_path)
    assert "GET /health -> connection refused; its process still runs after 0." in str(caught.value.seen)
    assert caught.value.do == f"read the end of its log below; the whole log is {tmp_path / 'stub-1.log'}"
    assert caught.value.log_tail == "loading [redacted]"
    assert not psutil.pid_exists(int((tmp_path / "pid").read_text()))


def test_a_server_that_dies_is_not_waited_for(
    engine_running: Callable[[str], ServerSpec], tmp_path: Path
) -> None:
    with pytest.raises(EngineError, match="stub ended while booting") as caught:
        boot(engine_running(DIES), run_dir=tmp_path, number=4)
    assert "it ended with exit code 3 after 0." in str(caught.value.seen)
    assert caught.value.log_tail == "out of memory"
    assert caught.value.log_path == str(tmp_path / "stub-4.log")


def test_an_interrupt_while_booting_leaves_nothing_behind(
    engine_running: Callable[[str], ServerSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = engine_running(NEVER_READY)

    def interrupted(_: object) -> None:
        if (tmp_path / "pid").exists() and (tmp_path / "pid").read_text():
            raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["stub_engine"], "ready", lambda client: interrupted(client) or "not yet")
    with pytest.raises(KeyboardInterrupt):
        boot(spec, run_dir=tmp_path)
    assert not psutil.pid_exists(int((tmp_path / "pid").read_text()))


def test_a_url_where_nobody_answers_is_an_error(tmp_path: Path) -> None:
    spec = ServerSpec(engine="url", url="http://127.0.0.1:1", boot_timeout_s=0.1)
    with pytest.raises(
        EngineError, match=r"the server at http://127\.0\.0\.1:1 did not become ready in 0\.1 s"
    ) as caught:
        boot(spec, run_dir=tmp_path)
    assert "GET /health -> connection refused after 0." in str(caught.value.seen)
    assert "http://127.0.0.1:1" in str(caught.value.do)
