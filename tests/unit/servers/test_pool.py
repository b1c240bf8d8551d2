from __future__ import annotations

from pathlib import Path

import pytest

from pytest_inferforge.errors import EngineError
from pytest_inferforge.servers import pool as pool_module
from pytest_inferforge.servers.pool import ServerPool
from pytest_inferforge.servers.spec import ServerSpec

A = ServerSpec(engine="llama.cpp", settings=(("seed", 1),))
B = ServerSpec(engine="llama.cpp", settings=(("seed", 2),))
URL = ServerSpec(engine="url", url="http://127.0.0.1:1")
RESTARTED = ServerSpec(engine="url", url="http://127.0.0.1:1", restart="restart it")


class StubServer:
    def __init__(self, spec: ServerSpec, number: int, events: list[str]) -> None:
        self.spec = spec
        self.number = number
        self.lives = True
        self.events = events
        events.append(f"boot {number}")

    def alive(self) -> bool:
        return self.lives

    def stop(self) -> None:
        self.events.append(f"stop {self.number}")


def _cannot_boot(_: ServerSpec, **__: object) -> None:
    raise EngineError("no")


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    seen: list[str] = []
    monkeypatch.setattr(pool_module, "boot", lambda spec, *, number, **_: StubServer(spec, number, seen))
    return seen


def test_equal_specs_share_a_boot(events: list[str]) -> None:
    pool = ServerPool(Path())
    first = pool.lease(A)
    assert pool.lease(ServerSpec(engine="llama.cpp", settings=(("seed", 1),))) is first
    assert events == ["boot 1"]


def test_another_spec_ends_the_server_before_the_next_is_booted(events: list[str]) -> None:
    pool = ServerPool(Path())
    pool.lease(A)
    pool.lease(B)
    pool.lease(A)
    pool.close()
    pool.close()
    assert events == ["boot 1", "stop 1", "boot 2", "stop 2", "boot 3", "stop 3"]
    assert pool.boots == 3


def test_a_dead_server_is_not_reused(events: list[str]) -> None:
    pool = ServerPool(Path())
    first = pool.lease(A)
    assert isinstance(first, StubServer)
    first.lives = False
    assert pool.lease(A).number == 2
    assert events == ["boot 1", "stop 1", "boot 2"]


def test_fresh_and_restart_always_boot(events: list[str]) -> None:
    pool = ServerPool(Path())
    pool.fresh(A)
    pool.fresh(A)
    assert pool.restart().number == 3


def test_a_failed_boot_leaves_no_server_and_can_be_tried_again(
    events: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = ServerPool(Path())
    pool.lease(A)
    with monkeypatch.context() as patch:
        patch.setattr(pool_module, "boot", _cannot_boot)
        with pytest.raises(EngineError, match="no"):
            pool.lease(B)
    assert pool.live is None
    assert pool.restart().number == 3
    assert events == ["boot 1", "stop 1", "boot 3"]


def test_nothing_to_restart_is_said(events: list[str]) -> None:
    with pytest.raises(EngineError, match="no server to restart"):
        ServerPool(Path()).restart()


def test_a_url_is_restarted_by_its_command(events: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def boot(spec: ServerSpec, *, number: int, restart: bool, **_: object) -> StubServer:
        asked.append(restart)
        return StubServer(spec, number, events)

    monkeypatch.setattr(pool_module, "boot", boot)
    pool = ServerPool(Path())
    first = pool.fresh(RESTARTED)
    assert pool.lease(RESTARTED) is first
    pool.fresh(RESTARTED)
    pool.restart()
    assert asked == [False, True, True]  # attached to, then restarted
    pool.fresh(A)
    pool.restart()
    assert asked[3:] == [False, False]  # a boot of ours is a restart already


def test_a_server_behind_a_url_that_is_gone_is_attached_to_again(
    events: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    def boot(spec: ServerSpec, *, number: int, restart: bool, **_: object) -> StubServer:
        asked.append(restart)
        return StubServer(spec, number, events)

    monkeypatch.setattr(pool_module, "boot", boot)
    pool = ServerPool(Path())
    first = pool.lease(RESTARTED)
    assert isinstance(first, StubServer)
    first.lives = False
    assert pool.lease(RESTARTED).number == 2
    assert asked == [False, False]


def test_what_boots_take_long_for_is_handed_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    given: dict[str, object] = {}

    def boot(spec: ServerSpec, *, number: int, **more: object) -> StubServer:
        given.update(more)
        return StubServer(spec, number, [])

    monkeypatch.setattr(pool_module, "boot", boot)
    ServerPool(tmp_path, notes=tmp_path / "notes", say=print).lease(A)
    assert (given["run_dir"], given["notes"], given["say"]) == (tmp_path, tmp_path / "notes", print)


def test_a_url_is_attached_once_and_never_restarted(events: list[str]) -> None:
    pool = ServerPool(Path())
    assert pool.lease(URL) is pool.lease(URL)
    for again in (pool.restart, lambda: pool.fresh(URL)):
        with pytest.raises(EngineError, match="a URL cannot be restarted"):
            again()
    assert events == ["boot 1"]
