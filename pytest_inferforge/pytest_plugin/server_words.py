"""Which server a test runs on: what is said on the command line, in markers and files. Knows no pytest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pytest_inferforge import engines, units
from pytest_inferforge.errors import UsageError
from pytest_inferforge.options import SessionOptions
from pytest_inferforge.pytest_plugin.layers import Layer, nearest
from pytest_inferforge.servers.spec import ServerSpec, is_secret, pairs

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_inferforge.pytest_plugin.settings import Settings
    from pytest_inferforge.workload.spec import Workload

WAYS = ("command", "image", "python", "url")
WORDS = (
    "backend", "model", "url", "port", "boot_timeout", "args", "env", "python", "command", "image", "gpus",
    "restart_command", "api_key_env", "revision",
)  # fmt: skip
"""What is said about a server beside its settings."""


def command_line(option: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """What the options say; `settings` are those of --infer-set."""
    timeout = option["infer_boot_timeout"]
    said = {
        "backend": option["infer_backend"],
        "model": option["infer_model"],
        "url": option["infer_url"],
        "port": option["infer_port"],
        "python": option["infer_python"],
        "command": option["infer_command"],
        "image": option["infer_image"],
        "restart_command": option["infer_restart_command"],
        "api_key_env": option["infer_api_key_env"],
        "boot_timeout": None if timeout is None else units.parse(timeout, "s"),
        "args": tuple(option["infer_arg"]) or None,
        "env": option["infer_env"] or None,
    }
    return {**{name: value for name, value in said.items() if value is not None}, **settings}


def named(file: Mapping[str, Any]) -> dict[str, Layer]:
    """The servers that a project's file names: `[servers.NAME]`, words and settings in one table.

    Raises:
        UsageError: what stands there is no table.
    """
    found: dict[str, Layer] = {}
    for name, table in file.items():
        if not isinstance(table, dict):
            raise UsageError(
                f"servers.{name} is not a table", seen=repr(table), do=f"write a [servers.{name}] table"
            )
        found[name] = Layer(source=f"the server {name}", values=table)
    return found


def choose(servers: Mapping[str, Layer], name: object) -> Layer:
    """The server of that name.

    Raises:
        UsageError: there is none.
    """
    if isinstance(name, str) and name in servers:
        return servers[name]
    known = ", ".join(servers) or "none: write a [servers.NAME] table"
    raise UsageError(
        "no server has that name", seen=repr(name), do=nearest(str(name), servers, f"known: {known}")
    )


def with_named(layers: Iterable[Layer], servers: Mapping[str, Layer]) -> list[Layer]:
    """Layers, each with the server that it names right below it."""
    found: list[Layer] = []
    for layer in layers:
        values = {key: value for key, value in layer.values.items() if key != "server"}
        found.append(Layer(source=layer.source, values=values, pinned=layer.pinned))
        if "server" in layer.values:
            below = choose(servers, layer.values["server"])
            found.append(Layer(source=layer.source, values=below.values, pinned=layer.pinned))
    return found


def server_spec(
    words: Mapping[str, Any], settings: Settings, notes: list[str], workload: Workload | None
) -> ServerSpec:
    """Which server a test runs on, from merged words.

    Behind a URL a backend only says which dialect is spoken. There, and in a command that was given verbatim,
    a test's needs of its server cannot be seen to: they are left out with a note, except those asked for on
    the command line, which are refused.
    """
    given = {name: value for name, value in words.items() if name not in WORDS}
    url, backend, command = words.get("url"), words.get("backend"), words.get("command")
    if url is not None or command is not None:
        asked = {name for name in given if name in settings.server.values or name == "dialect"}
        if left_out := [f"{name}={value}" for name, value in given.items() if name not in asked]:
            where = "behind a URL" if url is not None else "in a command given verbatim"
            notes.append(f"{where} nothing can be set: {', '.join(left_out)} left to its owner")
        given = {name: value for name, value in given.items() if name in asked}
    if url is not None:
        if backend not in (None, "url", "anthropic"):
            given.setdefault("dialect", backend)
        backend = "anthropic" if "anthropic" in (backend, given.get("dialect")) else "url"
    elif command is not None and backend is None:
        backend = engines.recognised(command)
    timeout = words.get("boot_timeout")
    return ServerSpec(
        engine=backend or SessionOptions().default_backend,
        model=words.get("model"),
        revision=words.get("revision"),
        settings=pairs(given),
        args=_texts(words.get("args", ()), "args"),
        env=environment(words.get("env", ())),
        python=words.get("python"),
        command=command,
        image=words.get("image"),
        gpus=words.get("gpus"),
        profile=settings.profile != "never",
        url=url,
        restart=words.get("restart_command"),
        api_key_env=words.get("api_key_env") or (settings.default_key_env if url is not None else None),
        port=words.get("port"),
        boot_timeout_s=units.parse(timeout, "s") if isinstance(timeout, str) else timeout,
        ca_file=settings.ca_file if url is not None else None,
        verify_tls=settings.verify_tls or url is None,
        proxies=url is not None and workload is not None and workload.transport == "httpx",
    )


def environment(given: object) -> tuple[tuple[str, str | None], ...]:
    """A table, or texts NAME and NAME=VALUE, as `ServerSpec.env` takes it.

    Raises:
        UsageError: a secret with its value: it would be seen and stored.
    """
    if isinstance(given, Mapping):
        found: dict[str, str | None] = {str(name): str(value) for name, value in given.items()}
    else:
        found = {}
        for text in _texts(given, "env"):
            name, equals, said = text.partition("=")
            found[name] = said if equals else None
    for name, value in found.items():
        if value is not None and is_secret(name):
            raise UsageError(
                "a secret is handed on by its name alone, never with its value",
                seen=f"{name}=...",
                do=f"set {name} in the environment of pytest, and write --infer-env={name}",
            )
    return tuple(found.items())


def _texts(given: object, name: str) -> tuple[str, ...]:
    if isinstance(given, str) or not isinstance(given, list | tuple):
        raise UsageError(f"{name} is not a list of texts", seen=repr(given), do=f'write {name} = ["..."]')
    return tuple(str(part) for part in given)


def boots_again(specs: Sequence[ServerSpec]) -> bool:
    """Whether every one of them can be booted a second time."""
    return all(engines.engine(spec.engine).STARTS_PROCESS or spec.restart is not None for spec in specs)
