"""Real pytest sessions for the commands that need some: what may be asked of them, and how they are run."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_inferforge import processes
from pytest_inferforge.cli.terminal import OptionsOf, say
from pytest_inferforge.errors import MeasuringError, UsageError
from pytest_inferforge.pytest_plugin import settings
from pytest_inferforge.pytest_plugin.cmdline import add_options

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_inferforge.pytest_plugin.settings import Settings

_GRACE_S = 30.0  # a pytest that is ended ends its server first
_LONG_S = 3600.0
_SAID_LINES = 15
_NEVER_RAN = {2: "it was interrupted, or could not collect the tests", 3: "an internal error of pytest",
              4: "it refused its arguments", 5: "no tests were selected"}  # fmt: skip
_OURS = (
    "save", "compare", "against", "attach", "quick", "plan", "session_id", "policy", "json", "store",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """One pytest session that ended. `said`: the end of its output, which is in `log`."""

    exit_code: int
    seconds: float
    log: Path

    @property
    def said(self) -> str:
        return processes.tail(self.log, _SAID_LINES)


def pytest_arguments(option: argparse.Namespace) -> list[str]:
    """What stands behind our own options; `--` divides them, unless a word without dashes does."""
    given: list[str] = option.pytest_arguments
    return given[1:] if given[:1] == ["--"] else given


def add_pytest_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare them."""
    parser.add_argument(
        "pytest_arguments", metavar="PYTEST-ARGUMENT", nargs=argparse.REMAINDER,
        help="tests, -k, --infer-backend=..., ...; -- stands before the first one if that is an option",
    )  # fmt: skip


def settings_of_pytest(arguments: Sequence[str], command: str, *, also_ours: Mapping[str, str]) -> Settings:
    """What these arguments of pytest, and the project's file, say to the plugin.

    `also_ours`: other options that the command gives itself -> what to do instead.

    Raises:
        UsageError: an option that the command gives itself, there or in PYTEST_ADDOPTS; or one that is none.
    """
    environ = settings.environment()
    everywhere = [*shlex.split(environ.get("PYTEST_ADDOPTS", "")), *arguments]
    option = _read(everywhere)
    for name in (*_OURS, *also_ours):
        if option[f"infer_{name}"] not in (None, False):
            word = f"--infer-{name.replace('_', '-')}"
            raise UsageError(
                f"inferforge {command} says {word} itself",
                seen=" ".join(everywhere),
                do=also_ours.get(name, "leave it out"),
            )
    return settings.read(option, Path.cwd(), Path.cwd(), environ)


def without_options(arguments: Sequence[str], options: Sequence[str]) -> list[str]:
    """The arguments without these options and their values."""
    known = _Parser()
    for name in options:
        known.add_argument(name, action="append")
    return known.parse_known_args(list(arguments))[1]


def run(arguments: Sequence[str], log: Path) -> Ran:
    """One pytest session where we are, its output into `log`.

    Raises:
        MeasuringError: it ran no test at all; the end of what it said is in the error.
    """
    began = time.monotonic()
    argv = [sys.executable, "-m", "pytest", *arguments]
    process = processes.start(
        argv, env={**os.environ, "PYTHONUNBUFFERED": "1"}, log_path=log, cwd=Path.cwd(), grace_s=_GRACE_S
    )
    try:
        while (code := process.wait(_LONG_S)) is None:
            pass
    finally:
        process.stop()
    ran = Ran(exit_code=code, seconds=time.monotonic() - began, log=log)
    if code in _NEVER_RAN:
        raise MeasuringError(
            f"pytest ran no test: {_NEVER_RAN[code]}",
            seen=f"exit code {code}; the end of {log}:\n{ran.said}",
            do=f"mend it with: pytest {shlex.join(arguments)}",
        )
    return ran


def refuse_empty(ran: Ran, *, first: bool) -> None:
    """A session that measured nothing: when it is the first one, the others would not either.

    Raises:
        UsageError: pytest passed, so there was nothing to measure.
        MeasuringError: something failed; the end of what it said is in the error.
    """
    if not first:
        return
    if ran.exit_code == 0:
        raise UsageError(
            "this suite has no load tests",
            seen=f"pytest passed and measured nothing; {ran.log}",
            do="name tests that use infer_run, or infer_load with a name",
        )
    raise MeasuringError(
        "the first session measured nothing",
        seen=f"exit code {ran.exit_code}; the end of {ran.log}:\n{ran.said}",
        do="mend what it says; the whole log is there",
    )


def scratch(store: Path, command: str) -> Path:
    """A new folder for the sessions of one command; git ignores it."""
    folder = store / command / time.strftime("%Y%m%dT%H%M%S")
    number = 1
    while folder.exists():
        number += 1
        folder = folder.with_name(f"{folder.name.partition('-')[0]}-{number}")
    folder.mkdir(parents=True)
    ignore = folder.parent / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n", encoding="utf-8")
    return folder


def whole_number(text: str) -> int:
    """For argparse: at least 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return number


def told(number: int, of: int, ran: Ran) -> None:
    """A line about a session that ended."""
    left = "" if number == of else f", about {(of - number) * ran.seconds / 60.0:.1f} min more"
    say(f"session {number} of {of}: {ran.seconds:.1f} s{left}")


class _Parser(argparse.ArgumentParser):
    """Of the options of ours that stand among those of pytest; it says nothing and ends nothing."""

    def __init__(self) -> None:
        super().__init__(add_help=False, allow_abbrev=False, exit_on_error=False)

    def error(self, message: str) -> Any:
        raise UsageError("pytest would not understand that", seen=message, do="see pytest -h")


def _read(arguments: Sequence[str]) -> dict[str, Any]:
    known = _Parser()
    add_options(OptionsOf(known))  # type: ignore[arg-type]
    try:
        return vars(known.parse_known_args(list(arguments))[0])
    except argparse.ArgumentError as error:
        raise UsageError("pytest would not understand that", seen=str(error), do="see pytest -h") from error
