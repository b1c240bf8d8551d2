"""`inferforge selfcheck`: a slowdown is planted, and the gate of this suite has to see it."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_inferforge import units
from pytest_inferforge.baselines import open_store
from pytest_inferforge.calibration.proving import Proof, red
from pytest_inferforge.cli import pytest_runs
from pytest_inferforge.cli.serving import spec_of
from pytest_inferforge.cli.terminal import add_store, say
from pytest_inferforge.engines import files
from pytest_inferforge.errors import MeasuringError, UsageError
from pytest_inferforge.metrics import metric
from pytest_inferforge.pytest_plugin import settings
from pytest_inferforge.pytest_plugin.cmdline import add_boot_options
from pytest_inferforge.records import Comparison, ComparisonVerdict
from pytest_inferforge.report import comparing_lines
from pytest_inferforge.servers.gpus import Leases
from pytest_inferforge.servers.supervisor import boot
from pytest_inferforge.telemetry import nvml
from pytest_inferforge.testing.slowing_proxy import SlowingProxy

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from pytest_inferforge.baselines import Store
    from pytest_inferforge.cli.terminal import Commands
    from pytest_inferforge.pytest_plugin.settings import Settings

_SELFCHECK = "plant a slowdown between pytest and the server; exit code 0: the gate sees it, and nothing else"
_NAME = "selfcheck"  # of the baseline in the scratch store
_SESSIONS, _SLOWDOWN = 5, "10 %"
_URL = "--infer-url"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Behind:
    """The server behind the proxy: where it is, and the options by which pytest measures it."""

    url: str
    options: tuple[str, ...]
    described: str


def add(commands: Commands) -> None:
    """Declare `selfcheck`."""
    usage = "inferforge selfcheck [OPTION ...] [--] PYTEST-ARGUMENT ..."
    command = commands.add_parser("selfcheck", help=_SELFCHECK, description=_SELFCHECK, usage=usage)
    command.add_argument(
        "--slowdown", metavar="SHARE", default=_SLOWDOWN,
        help=f'what is planted: everything takes so much longer (default: "{_SLOWDOWN}")'.replace("%", "%%"),
    )  # fmt: skip
    command.add_argument(
        "--sessions", metavar="N", type=pytest_runs.whole_number, default=_SESSIONS,
        help=f"stored before it (default: {_SESSIONS})",
    )  # fmt: skip
    add_store(command)
    pytest_runs.add_pytest_arguments(command)
    command.set_defaults(run=_selfcheck)


def _selfcheck(option: argparse.Namespace) -> int:
    arguments = pytest_runs.pytest_arguments(option)
    found = pytest_runs.settings_of_pytest(
        arguments, "selfcheck", also_ours={"boots": "leave it out: behind the proxy nothing can be booted"}
    )
    slowdown = units.parse(option.slowdown, "change")
    least = found.judge.min_sessions
    if slowdown <= 0.0:
        raise UsageError("no slowdown to plant", seen=option.slowdown, do='write --slowdown "10 %"')
    if option.sessions < least:
        seen, do = f"--sessions {option.sessions}", f"write --sessions {least} or more"
        raise UsageError(f"below {least} stored sessions nothing is judged", seen=seen, do=do)
    folder = pytest_runs.scratch(
        settings.store_of(option.infer_store, Path.cwd(), Path.cwd()).absolute(), "selfcheck"
    )
    try:
        with _server(arguments, found, folder) as behind:
            proof = _proof(behind, option.sessions, slowdown, found, folder)
    except KeyboardInterrupt:
        say(f"interrupted; what was measured is in {folder}")
        return 1
    return _tell(proof)


@contextlib.contextmanager
def _server(arguments: Sequence[str], found: Settings, folder: Path) -> Iterator[_Behind]:
    """The server that the arguments name: as it is behind their URL, else booted here once."""
    url = found.server.values.get("url")
    if url is not None:
        rest = pytest_runs.without_options(arguments, [_URL])
        yield _Behind(url=str(url), options=tuple(rest), described=str(url))
        return
    names: list[str] = []
    add_boot_options(lambda name, **_: names.append(name))
    rest = pytest_runs.without_options(arguments, names)
    notes: list[str] = []
    spec = spec_of("default", found, notes)
    for note in notes:
        say(note)
    say(f"booting {spec.describe()}")
    gpus = nvml.open_gpus()
    server = boot(
        spec,
        run_dir=folder / "server",
        notes=files.running_folder(),
        say=say,
        leases=Leases(gpus) if gpus else None,
    )
    try:
        told = [f"--infer-model={server.model}", f"--infer-set=dialect={server.dialect_name}"]
        if spec.api_key_env is not None:
            told.append(f"--infer-api-key-env={spec.api_key_env}")
        yield _Behind(url=server.url, options=(*rest, *told), described=f"{spec.describe()} at {server.url}")
    finally:
        server.stop()


def _proof(behind: _Behind, sessions: int, slowdown: float, found: Settings, folder: Path) -> Proof:
    """Store sessions, judge an unchanged one, judge a slowed one."""
    share = units.format_value(slowdown, "change")
    say(f"server: {behind.described}")
    say(
        f"{sessions} sessions through a proxy that slows nothing, an unchanged one, and one slowed by {share}"
    )
    store = open_store(folder)
    ours = [f"--infer-store={folder}", "--infer-policy=observe"]

    def ran(proxy: SlowingProxy, number: int, *more: str) -> pytest_runs.Ran:
        done = pytest_runs.run(
            [*behind.options, f"{_URL}={proxy.url}", *ours, *more], folder / f"session-{number}.log"
        )
        pytest_runs.told(number, sessions + 2, done)
        return done

    def judged(proxy: SlowingProxy, number: int) -> tuple[Comparison, ...]:
        path = folder / f"session-{number}.json"
        done = ran(proxy, number, f"--infer-compare={_NAME}", f"--infer-json={path}")
        if not path.exists():
            raise MeasuringError(
                "pytest judged nothing",
                seen=f"exit code {done.exit_code}; the end of {done.log}:\n{done.said}",
                do="mend what it says; the whole log is there",
            )
        return _comparisons(json.loads(path.read_text(encoding="utf-8")))

    with SlowingProxy(behind.url, slowdown=0.0) as proxy:
        for number in range(1, sessions + 1):
            done = ran(proxy, number, f"--infer-save={_NAME}")
            if not _stored(store):
                pytest_runs.refuse_empty(done, first=number == 1)
            if number == 1:
                _check_reached(store, proxy.url)
        stored = _stored(store)
        if stored < found.judge.min_sessions:
            raise MeasuringError(
                f"{stored} of {sessions} sessions were measured, and {found.judge.min_sessions} are needed",
                seen=f"the logs in {folder}",
                do="free this machine of other work, or mend what the logs say",
            )
        unchanged = judged(proxy, sessions + 1)
    with SlowingProxy(behind.url, slowdown=slowdown) as proxy:
        slowed = judged(proxy, sessions + 2)
    return Proof(
        slowdown=slowdown,
        sessions=stored,
        power=found.judge.power,
        unchanged=unchanged,
        slowed=slowed,
    )


def _stored(store: Store) -> int:
    return len(store.load(_NAME)) if _NAME in store.names() else 0


def _check_reached(store: Store, url: str) -> None:
    """A test with a server of its own is not behind the proxy."""
    tests = [test for session in store.load(_NAME) for test in session.tests]
    if apart := [test.nodeid for test in tests if test.server.get("url") != url]:
        raise UsageError(
            "tests with a server of their own cannot be slowed down",
            seen=", ".join(apart),
            do="leave them out with -k or --deselect, or take pin=True off their infer_server",
        )


def _comparisons(document: dict[str, Any]) -> tuple[Comparison, ...]:
    """Those of a JSON document, as records."""
    known = {f.name for f in fields(Comparison)}
    found = []
    for c in document["comparisons"]:
        given = {name: value for name, value in c.items() if name in known}
        parts = [c["nodeid"], c["name"], f"class={c['class']}" if c["class"] else None]
        given["nodeid"] = "::".join(part for part in parts if part)
        given["verdict"] = ComparisonVerdict(c["verdict"])
        given["slots"] = tuple((side, value) for side, value in c["slots"])
        found.append(Comparison(**given))
    return tuple(found)


def _tell(proof: Proof) -> int:
    share = units.format_value(proof.slowdown, "change")
    for what, expected, seen in (
        ("unchanged", "not red", proof.unchanged),
        (f"slowed by {share}", "red", proof.slowed),
    ):
        found = red(seen)
        say(f"\n{what}: expected {expected}, seen {'red' if found else 'not red'}\n")
        for line in comparing_lines.by_test(seen, {}):
            say(line)
        for c in found:
            unit = metric(c.metric).quantity.unit
            before, now = (units.format_value(value, unit) for value in (c.reference_value, c.value))
            ratio = "" if c.ratio is None else f", ratio {c.ratio:.3g}"
            say(f"red: {c.nodeid} {c.metric}, {before} -> {now}{ratio}")
    say(
        "\nchecked was the gate's judgement by stored sessions: behind the proxy no server is booted in turns"
    )
    for fault in proof.faults:
        say(f"not as expected: {fault}")
    if not proof.faults:
        say(f"as expected: the gate on this machine sees {share}, and nothing where nothing is")
    return 1 if proof.faults else 0
