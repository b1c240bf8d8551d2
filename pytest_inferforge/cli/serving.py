"""Servers for the edit loop, and what this machine has: up, down, doctor."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_inferforge import engines, processes
from pytest_inferforge.cli.terminal import say, settings_of
from pytest_inferforge.engines import files, installation, launching
from pytest_inferforge.errors import EngineError, UsageError
from pytest_inferforge.pytest_plugin import server_words, settings
from pytest_inferforge.pytest_plugin.cmdline import add_boot_options
from pytest_inferforge.servers import kept
from pytest_inferforge.servers.gpus import Leases
from pytest_inferforge.servers.spec import ServerSpec
from pytest_inferforge.servers.supervisor import boot
from pytest_inferforge.telemetry import nvml

if TYPE_CHECKING:
    import argparse

    from pytest_inferforge.cli.terminal import Commands
    from pytest_inferforge.pytest_plugin.settings import Settings
    from pytest_inferforge.servers.server import Server

_UP = "bring a server up and keep it, for pytest --infer-attach"
_DOWN = "end a server that was brought up"
_STORE = "where it is kept, as for pytest (default: .inferforge)"
_DOCTOR = "say which engines, devices and programs this machine has"


def add(commands: Commands) -> None:
    """Declare up, keep, down and doctor."""
    up = commands.add_parser("up", help=_UP, description=_UP)
    keep = commands.add_parser("keep")  # what `up` starts; it has no help
    for command, run in ((up, _up), (keep, _keep)):
        command.add_argument("name", nargs="?", default="default", help="a server of the project's file")
        add_boot_options(command.add_argument)
        command.add_argument("--infer-store", metavar="DIR", help=_STORE)
        command.set_defaults(run=run)
    down = commands.add_parser("down", help=_DOWN, description=_DOWN)
    down.add_argument("name", nargs="?", default="default", help="what `up` was given")
    down.add_argument("--infer-store", metavar="DIR", help=_STORE)
    down.set_defaults(run=_down)
    doctor = commands.add_parser("doctor", help=_DOCTOR, description=_DOCTOR)
    doctor.add_argument("--infer-python", metavar="PYTHON", help="look for engines in its environment")
    doctor.set_defaults(run=_doctor)


def _up(option: argparse.Namespace) -> int:
    found = settings_of(option)
    notes: list[str] = []
    spec_of(option.name, found, notes)  # a mistake is said here, not in the keeper's log
    name = "" if option.name == "default" else option.name
    if (running := kept.find(found.store, option.name)) is not None:
        say(f"{option.name} is up already: {_described(running)}")
        say(f"to boot it anew: inferforge down {name}".rstrip())
        return 0
    log = found.store / "up" / f"{option.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    _ignore_in_git(found.store)
    argv = [sys.executable, "-m", "pytest_inferforge.cli", "keep", *option.arguments]
    keeper = processes.detach(argv, log_path=log)
    for note in notes:
        say(note)
    say(f"{option.name} boots; its keeper is process {keeper}, its log {log}")
    try:
        running = kept.await_note(option.name, found.store, keeper)
    except KeyboardInterrupt:
        with contextlib.suppress(ProcessLookupError):
            os.kill(keeper, signal.SIGTERM)
        say(f"{option.name} is ended before it was up", sys.stderr)
        return 1
    attach = f"--infer-attach={name}".rstrip("=")
    say(f"{option.name} is up: {_described(running)}\nuse it with: pytest {attach} ...")
    return 0


def _keep(option: argparse.Namespace) -> int:
    found = settings_of(option)
    spec = spec_of(option.name, found, [])
    gpus = nvml.open_gpus()

    def booted() -> Server:
        return boot(
            spec,
            run_dir=found.store / "up" / option.name,
            notes=files.running_folder(),
            say=say,
            leases=Leases(gpus) if gpus else None,  # until this process ends
        )

    return kept.keep(option.name, found.store, booted)


def _down(option: argparse.Namespace) -> int:
    store = settings.store_of(option.infer_store, Path.cwd(), Path.cwd())
    running = kept.require(store, option.name)
    if not kept.end(running):
        raise EngineError(
            f"{option.name} does not end",
            seen=f"its keeper, process {running.keeper[0]}, still runs",
            do="end that process",
            log_path=running.log,
        )
    say(f"{option.name} is down")
    return 0


def _doctor(option: argparse.Namespace) -> int:
    for name in engines.ENGINES:
        kind = getattr(engines.engine(name), "KIND", None)
        if kind is not None and kind.ways:
            spec = ServerSpec(engine=name, python=option.infer_python)
            say(f"{name:14} {_installed(spec, kind)}")
    embedded = importlib.util.find_spec("xllamacpp") is not None
    say(f"{'llama.cpp':14} {'embedded: xllamacpp' if embedded else '- no package xllamacpp here'}")
    try:
        say(f"{'containers':14} {launching.runtime()}")
    except EngineError as error:
        say(f"{'containers':14} - {error.seen}")
    gpus = nvml.open_gpus()
    for device in gpus.devices if gpus is not None else ():
        say(f"{'GPU':14} {device.name} {device.uuid}")
    if gpus is None:
        say(f"{'GPU':14} - none that NVML sees")
    return 0


def _installed(spec: ServerSpec, kind: launching.Kind) -> str:
    try:
        found = installation.find(spec, kind.ways, package=kind.package, install=kind.install)
    except EngineError as error:
        return f"- {error.seen}"
    return " ".join((*found.program, found.version or "")).rstrip()


def spec_of(name: str, found: Settings, notes: list[str]) -> ServerSpec:
    """The server that is to be brought up: `[servers.NAME]`, or what the options say.

    Raises:
        UsageError: there is none of that name, it cannot be as asked, or it is not started from here.
    """
    layers = [found.server]
    if name in found.servers:
        layers.append(found.servers[name])
    elif name != "default":
        server_words.choose(found.servers, name)
    words = server_words.merged([*layers, found.file_server], found.servers, [])
    spec = server_words.server_spec(words, found, notes, None)
    engine = engines.engine(spec.engine)
    engine.check(spec)
    if not engine.STARTS_PROCESS:
        raise UsageError(
            "a server behind a URL is not brought up from here",
            seen=spec.describe(),
            do="measure it as it is: pytest --infer-url=URL",
        )
    return spec


def _ignore_in_git(store: Path) -> None:
    ignore = store / "up" / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n", encoding="utf-8")


def _described(running: kept.Kept) -> str:
    return f"{running.engine} {running.model} at {running.url}"
