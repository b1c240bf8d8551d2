"""A server that breaks on purpose, and the real worker that is driven against it."""

from collections.abc import Callable

import pytest

from pytest_inferforge.loadgen import fleet
from pytest_inferforge.loadgen.fleet import Drive
from pytest_inferforge.testing.timetable import Timetable, TimetableServer, TrueTimes


@pytest.fixture
def drive_timetable(load_plan, tmp_path) -> Callable[..., tuple[Drive, dict[str, TrueTimes]]]:
    """Drive a plan against a timetable; returns what the client says and what happened."""

    def drive(timetable: Timetable, *, on_progress=None, **plan):
        with TimetableServer(timetable) as server:
            driven = fleet.drive(
                [load_plan(server.url, **plan)],
                api_key=None,
                folder=tmp_path,
                name="worker",
                on_progress=on_progress,
            )
            return driven, server.true_times()

    return drive
