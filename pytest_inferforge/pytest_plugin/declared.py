"""What a test declares, merged from its markers, the command line and the project's file. Knows no pytest."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pytest_inferforge import slo as slos
from pytest_inferforge import units
from pytest_inferforge.errors import UsageError
from pytest_inferforge.servers.spec import ServerSpec, pairs
from pytest_inferforge.workload import spec as workloads

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pytest_inferforge.pytest_plugin.settings import Settings
    from pytest_inferforge.slo import Slo
    from pytest_inferforge.workload.spec import Workload

_PLACE = re.compile(r"\{(\w+)\}")
_SERVER_WORDS = ("backend", "model", "url", "port", "boot_timeout", "args")
_GATED = {
    False: ("ttft_s.mean", "ttft_s.p99", "tpot_s.mean"),  # open loop: arrivals pin the throughput
    True: ("output_tok_per_s", "tpot_s.mean"),  # closed loop
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A marker as it was written; `own`: on the test function itself, not on its class or module."""

    name: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    own: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """One test that uses our fixtures. `workload` is None when it only uses `infer_server` or `infer_load`.

    `loads`: it asks for `infer_load` and measures by hand. `arguments`: of its workload markers, merged, as
    `infer_load` takes them for defaults. `notes`: what a person should know about how this was merged.
    """

    nodeid: str
    server: ServerSpec
    workload: Workload | None
    loads: bool
    arguments: Mapping[str, Any]
    slos: tuple[Slo, ...]
    gated: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """What its results are stored under."""
        return self.nodeid


def filled(mark: Mark, values: Mapping[str, object]) -> Mark:
    """A parametrized test's values in the texts of its markers: "poisson {rate} req/s".

    Braces around anything that is no parameter stay as they are.
    """
    if not values:
        return mark

    def fill(part: object) -> object:
        if not isinstance(part, str):
            return part
        return _PLACE.sub(lambda found: str(values.get(found[1], found[0])), part)

    return replace(
        mark,
        args=tuple(fill(part) for part in mark.args),
        kwargs={name: fill(part) for name, part in mark.kwargs.items()},
    )


def declare(nodeid: str, marks: Sequence[Mark], fixtures: Iterable[str], settings: Settings) -> Declared:
    """Merge what is said about one test; `marks` are closest first.

    Raises:
        UsageError: markers that contradict each other or the fixtures, or that cannot be read.
    """
    used = set(fixtures)
    notes: list[str] = []
    _check_fixtures(marks, used)
    server = server_spec(_merge(marks, "infer_server", notes, settings.server_set), settings, notes)
    arguments = _merge(marks, "infer_workload", notes, settings.workload_set)
    arguments = {**settings.file_workload, **arguments} if arguments else {}
    workload = None
    if "infer_run" in used:
        if not arguments:
            raise UsageError(
                "infer_run has nothing to measure",
                seen="no infer_workload marker",
                do='add @pytest.mark.infer_workload(arrivals="poisson 8 req/s", requests=1000,'
                " prompt_tokens=256, output_tokens=128)",
            )
        workload = workload_of(arguments, settings)
    checks = _slos(marks)
    return Declared(
        nodeid=nodeid,
        server=server,
        workload=workload,
        loads="infer_load" in used,
        arguments=arguments,
        slos=checks,
        gated=gated_metrics(workload, checks) if workload else (),
        notes=tuple(notes),
    )


def workload_of(arguments: Mapping[str, Any], settings: Settings) -> Workload:
    """A workload from merged arguments, cut down under --infer-quick."""
    workload = workloads.from_arguments(arguments, settings.load)
    return workload.quick(settings.load.quick_requests) if settings.quick else workload


def gated_metrics(workload: Workload, checks: Sequence[Slo]) -> tuple[str, ...]:
    """The metric ids that a comparison judges: the default ones of the loop, and what SLOs name."""
    named = [check.metric.id for check in checks if not check.implicit]
    return tuple(dict.fromkeys((*_GATED[workload.closed_loop], *named)))


def server_spec(merged: Mapping[str, Any], settings: Settings, notes: list[str]) -> ServerSpec:
    """Which server a test runs on. `merged`: its markers with the command line's settings over them."""
    pinned = bool(merged.get("pin"))
    words = {name: merged[name] for name in _SERVER_WORDS if name in merged}
    own = {name: value for name, value in merged.items() if name not in (*_SERVER_WORDS, "pin")}

    def choose(name: str, said: Any, default: Any = None) -> Any:
        marked = words.get(name)
        if said is not None and marked is not None and said != marked and pinned:
            notes.append(f"{name}={marked} is pinned; {said} was asked for on the command line")
            return marked
        return said if said is not None else marked if marked is not None else default

    url = choose("url", settings.url)
    backend = choose("backend", settings.backend)
    file_settings = {k: v for k, v in settings.file_server.items() if k not in own}
    given = {**file_settings, **own}
    if url is not None:
        if backend not in (None, "url"):
            given.setdefault("dialect", backend)
        backend = "url"
    timeout = words.get("boot_timeout")
    timeout_s = units.parse(timeout, "s") if isinstance(timeout, str) else timeout
    from pytest_inferforge.options import SessionOptions

    return ServerSpec(
        engine=backend or SessionOptions().default_backend,
        model=choose("model", settings.model),
        settings=pairs(given),
        args=tuple(words.get("args", ())),
        url=url,
        api_key_env=settings.api_key_env if url is not None else None,
        port=choose("port", settings.port),
        boot_timeout_s=settings.boot_timeout_s if settings.boot_timeout_s is not None else timeout_s,
    )


def _merge(marks: Sequence[Mark], name: str, notes: list[str], over: Mapping[str, Any]) -> dict[str, Any]:
    """Key by key: the command line wins, then the closest marker, except over a marker with pin=True."""
    merged: dict[str, Any] = {}
    pinned: set[str] = set()
    found = False
    for mark in marks:
        if mark.name != name:
            continue
        found = True
        if mark.args:
            raise UsageError(
                f"{name} takes named arguments only", seen=repr(mark.args[0]), do=f"write {name}(name=value)"
            )
        for key, value in mark.kwargs.items():
            merged.setdefault(key, value)
            if mark.kwargs.get("pin"):
                pinned.add(key)
    for key, value in over.items():
        if not found and name == "infer_workload":
            break
        if key in pinned and merged[key] != value:
            notes.append(f"{key}={merged[key]} is pinned; {value} was asked for on the command line")
            continue
        merged[key] = value
        _drop_rival(merged, key)
    if name == "infer_workload":
        merged.pop("pin", None)
    return merged


def _drop_rival(merged: dict[str, Any], key: str) -> None:
    """`requests` on the command line takes the place of a marker's `duration`, and the other way round."""
    rival = {"requests": "duration", "duration": "requests"}.get(key)
    if rival:
        merged.pop(rival, None)


def _slos(marks: Sequence[Mark]) -> tuple[Slo, ...]:
    """All limits of all markers, each once, outermost first."""
    found: dict[str, Slo] = {}
    for mark in reversed(marks):
        if mark.name != "infer_slo":
            continue
        if not mark.args and not mark.kwargs:
            raise UsageError("infer_slo without a limit", do='write infer_slo("ttft p99 < 300 ms")')
        for text in mark.args:
            if not isinstance(text, str):
                raise UsageError("an SLO is a text", seen=repr(text), do='write "ttft p99 < 300 ms"')
            found.setdefault(text, slos.parse(text))
        for keyword, value in mark.kwargs.items():
            parsed = slos.from_keyword(keyword, value)
            found.setdefault(parsed.text, parsed)
    return tuple(found.values())


def _check_fixtures(marks: Sequence[Mark], used: set[str]) -> None:
    """A marker of ours on a test that measures nothing would be a gate that never closes."""
    for mark in marks:
        needs = {"infer_server", "infer_run", "infer_load"} if mark.name == "infer_server" else {
            "infer_run", "infer_load"
        }  # fmt: skip
        if mark.name == "infer_server" and not mark.own:
            continue  # what every test of a module needs of the server, if it needs one
        if used & needs:
            continue
        asks = f"uses {', '.join(sorted(used))}" if used else "uses none of our fixtures"
        raise UsageError(
            f"{mark.name} on a test that measures nothing",
            seen=f"it {asks}",
            do=f"let the test ask for {' or '.join(sorted(needs))}, or take the marker off",
        )
