"""What is looked at beside a load."""

from types import SimpleNamespace

import pytest

from pytest_inferforge.pytest_plugin.watching import Compiling, MemoryOf


def at(phase, elapsed_ns=0):
    return SimpleNamespace(phase=phase, elapsed_ns=elapsed_ns)


@pytest.fixture
def server(tmp_path):
    log = tmp_path / "engine.log"
    log.write_text("Compiling a graph, as every boot does\n")
    return SimpleNamespace(log=log, compiling=r"Compiling|torch\.compile", memory_bytes=lambda: 5)


def test_what_was_compiled_before_the_load_does_not_matter(server):
    watched = Compiling(server)
    watched.look(at("warmup"))
    with server.log.open("a") as log:
        log.write("Compiling once more\n")
    watched.look(at("load"))
    watched.look(at("load"))
    assert watched.reason() is None


def test_what_is_compiled_under_load_is_said_with_its_line(server):
    watched = Compiling(server)
    watched.look(at("load"))
    with server.log.open("a") as log:
        log.write("12:00 served\n12:01 Compiling for size 17\n12:02 Compiling for size 18\n")
    assert watched.reason() == "the engine compiled while it was measured: 12:01 Compiling for size 17"


def test_an_engine_that_never_says_and_one_without_a_log_say_nothing(server):
    server.compiling = None
    watched = Compiling(server)
    watched.look(at("load"))
    assert watched.reason() is None
    server.log = None
    watched = Compiling(server)
    watched.look(at("load"))
    assert watched.reason() is None


def test_a_run_without_a_load_says_nothing(server):
    assert Compiling(server).reason() is None


def test_memory_is_looked_at_under_load_and_not_more_often_than_once_a_second(server):
    memory = MemoryOf(server)
    memory.look(at("warmup"))
    memory.look(at("load", 10**9))
    memory.look(at("load", 2 * 10**9))
    assert memory.samples == [(1.0, 5)]
