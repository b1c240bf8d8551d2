"""`inferforge calibrate`: what the gate can do on this machine, from sessions in which nothing is changed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_inferforge.baselines import open_store
from pytest_inferforge.baselines.rows import read_rows
from pytest_inferforge.calibration import concluding, requests, summing
from pytest_inferforge.cli import pytest_runs
from pytest_inferforge.cli.terminal import add_store, say
from pytest_inferforge.errors import MeasuringError, UsageError
from pytest_inferforge.pytest_plugin import settings
from pytest_inferforge.pytest_plugin.judging import CLASS
from pytest_inferforge.records import RunVerdict
from pytest_inferforge.report import calibration_lines, document
from pytest_inferforge.table import RequestTable

if TYPE_CHECKING:
    import argparse

    from pytest_inferforge.baselines import Store
    from pytest_inferforge.calibration.requests import OfRequests
    from pytest_inferforge.calibration.summing import Failed
    from pytest_inferforge.cli.terminal import Commands
    from pytest_inferforge.records import SessionResult

_CALIBRATE = (
    "measure this machine's noise with sessions in which nothing is changed, and say what the gate can do"
)
_NAME = "calibration"  # of the baseline in the scratch store
_SESSIONS, _BOOTS, _SIMULATED = 5, 3, 1000
_OFTEN = 500  # simulated sessions from one word to the next


def add(commands: Commands) -> None:
    """Declare `calibrate`."""
    usage = "inferforge calibrate [OPTION ...] [--] PYTEST-ARGUMENT ..."
    command = commands.add_parser("calibrate", help=_CALIBRATE, description=_CALIBRATE, usage=usage)
    number = pytest_runs.whole_number
    command.add_argument(
        "--sessions", metavar="N", type=number, default=_SESSIONS, help=f"how many (default: {_SESSIONS})"
    )
    command.add_argument(
        "--boots", metavar="N", type=number,
        help=f"of the server, in each (default: {_BOOTS}; 1 behind a URL that nothing restarts)",
    )  # fmt: skip
    add_store(command)
    command.add_argument("--json", dest="json_path", metavar="PATH", help="write everything to this file")
    command.add_argument(
        "--simulate", metavar="N", type=int, default=_SIMULATED,
        help=f"sessions for the false-alarm rate, 0 for none (default: {_SIMULATED})",
    )  # fmt: skip
    pytest_runs.add_pytest_arguments(command)
    command.set_defaults(run=_calibrate)


def _calibrate(option: argparse.Namespace) -> int:
    arguments = pytest_runs.pytest_arguments(option)
    found = pytest_runs.settings_of_pytest(
        arguments, "calibrate", also_ours={"boots": "write --boots before the --, without --infer-"}
    )
    values = found.server.values
    bootable = "url" not in values or "restart_command" in values
    boots = option.boots or (_BOOTS if bootable else 1)
    folder = pytest_runs.scratch(
        settings.store_of(option.infer_store, Path.cwd(), Path.cwd()).absolute(), "calibration"
    )
    store = open_store(folder)
    say(f"{option.sessions} sessions of {boots} boots, nothing changed between them; stored in {folder}")
    try:
        sessions, failed = _measured(arguments, option.sessions, boots, store, folder)
    except KeyboardInterrupt:
        say(f"interrupted; what was measured is in {folder}")
        return 1
    least = found.judge.min_sessions
    if len(sessions) < least:
        raise MeasuringError(
            f"{len(sessions)} of {option.sessions} sessions could be used, and {least} are needed",
            seen="\n".join(f"session {f.number}: {f.why}; {f.log}" for f in failed)
            or f"--sessions {option.sessions}",
            do="free this machine of other work, mend what the logs say, or ask for more sessions",
        )
    rows = _of_requests(sessions, store, found.judge.batches)
    if option.simulate > 0:
        say("simulating sessions of this suite without a change")
    concluded = concluding.conclude(
        sessions,
        rows,
        failed,
        gate_as=concluding.GateAsSetUp(
            boots=found.boots, pairs=found.gate.pairs, bootable=bootable, options=found.judge
        ),
        boots=boots,
        simulated=max(0, option.simulate),
        seed=found.load.seed,
        store=str(folder),
        on_session=lambda number, of: None if number % _OFTEN else say(f"  {number} of {of}"),
    )
    if not concluded.noises:
        raise UsageError(
            "nothing of this suite is gated",
            seen=f"{len(sessions)} sessions without a gated metric",
            do="give its load tests an infer_workload marker, or infer_load a name",
        )
    for line in ("", *calibration_lines.lines(concluded)):
        say(line)
    if option.json_path is not None:
        document.write(Path(option.json_path), summing.document(concluded))
    return 0


def _measured(
    arguments: list[str], wanted: int, boots: int, store: Store, folder: Path
) -> tuple[tuple[SessionResult, ...], list[Failed]]:
    """The sessions that were stored, oldest first, and those that are not what they should be.

    Raises:
        UsageError, MeasuringError: the first one measured nothing.
    """
    ours = [
        f"--infer-boots={boots}",
        f"--infer-save={_NAME}",
        f"--infer-store={folder}",
        "--infer-policy=observe",
    ]
    numbers: dict[str, int] = {}
    logs: dict[int, Path] = {}
    failed = []
    for number in range(1, wanted + 1):
        logs[number] = folder / f"session-{number}.log"
        ran = pytest_runs.run([*arguments, *ours], logs[number])
        pytest_runs.told(number, wanted, ran)
        new = [s for s in _stored(store) if s.id not in numbers]
        numbers |= {s.id: number for s in new}
        if not new:
            pytest_runs.refuse_empty(ran, first=number == 1)
            why = f"pytest ended with exit code {ran.exit_code}"
            failed.append(summing.Failed(number=number, why=why, log=str(ran.log), stored=False))
    sessions = _stored(store)
    every = dict.fromkeys(t.nodeid for s in sessions for t in s.tests)
    for s in sessions:
        if missing := [nodeid for nodeid in every if nodeid not in {t.nodeid for t in s.tests}]:
            log = str(logs[numbers[s.id]])
            why = f"without {', '.join(missing)}"
            failed.append(summing.Failed(number=numbers[s.id], why=why, log=log, stored=True))
    return tuple(replace(s, complete=True, accepted=True) for s in sessions), failed


def _stored(store: Store) -> tuple[SessionResult, ...]:
    return store.load(_NAME) if _NAME in store.names() else ()


def _of_requests(sessions: tuple[SessionResult, ...], store: Store, batches: int) -> list[OfRequests]:
    """What the request rows of every valid boot tell; a file is of the boot whose metrics it gives."""
    found = []
    for session in sessions:
        waiting = {
            (test.nodeid, boot.boot)
            for test in session.tests
            for boot in test.boots
            if boot.verdict is RunVerdict.VALID
        }
        for path in sorted(store.run_folder(session.id).glob("*.jsonl.gz")):
            table = RequestTable.from_records(list(read_rows(path)))
            for test in session.tests:
                part = table.of_class(test.nodeid.partition(CLASS)[2])
                told = requests.told(part, test.gated)
                for boot in test.boots:
                    if (test.nodeid, boot.boot) in waiting and requests.belongs(boot, told):
                        waiting.remove((test.nodeid, boot.boot))
                        found.append(requests.of_boot(test, part, batches))
                        break
    return found
