"""pytest driven from outside, as its users do."""

import pytest

from pytest_inferforge.testing.suite import Suite
from pytest_inferforge.testing.timetable import Timetable, TimetableServer

# Other programs of the machine that runs these tests may hold the client up: that is not what they are about.
CALM = """\
floor_requests = 0
[limits]
schedule_lag = "1 s"
loop_lag = "1 s"
worker_cpu = 10.0
achieved_rate = 1.0
dispersion = 100.0
"""


@pytest.fixture(scope="session")
def calm():
    return CALM


@pytest.fixture
def suite(tmp_path):
    folder = tmp_path / "suite"
    folder.mkdir()
    made = Suite(folder)
    made.write("pytest.ini", "[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    made.write("inferforge.toml", CALM)
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
