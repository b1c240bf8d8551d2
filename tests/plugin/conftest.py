"""pytest driven from outside, as its users do."""

import datetime as dt
from dataclasses import replace

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


@pytest.fixture(scope="session")
def multiply():
    """A function that makes so many sessions of the newest one in a baseline, a day apart, 0.4 % of noise."""

    def make(store, name, count):
        newest = store.load(name)[-1]
        for k in range(count):
            factor = 1.0 + 0.004 * (-1) ** k
            tests = tuple(replace(t, boots=tuple(_scaled(b, factor) for b in t.boots)) for t in newest.tests)
            began = dt.datetime.fromisoformat(newest.started_at) - dt.timedelta(days=k + 1)
            store.save(name, replace(newest, id=f"copy-{k}", started_at=began.isoformat(), tests=tests))

    return make


def _scaled(boot, factor):
    return replace(boot, metrics={name: value * factor for name, value in boot.metrics.items()})
