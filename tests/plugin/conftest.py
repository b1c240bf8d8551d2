"""pytest driven from outside, as its users do."""

import pytest

from pytest_inferforge.testing.suite import Suite
from pytest_inferforge.testing.timetable import Timetable, TimetableServer


@pytest.fixture
def suite(tmp_path, calm):
    folder = tmp_path / "suite"
    folder.mkdir()
    made = Suite(folder)
    made.write("pytest.ini", "[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    made.write("inferforge.toml", calm)
    return made


@pytest.fixture
def timetable():
    """A function that starts a timetable server and returns its URL; all are stopped at the end."""
    servers = []

    def start(**fields):
        defaults = {"ttft_s": 0.005, "gap_s": 0.001}
        server = TimetableServer(Timetable(**{**defaults, **fields}))
        servers.append(server.__enter__())
        return server.url

    yield start
    for server in servers:
        server.close()
