"""Which server a test runs on: what is said on the command line, in markers and files. Knows no pytest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pytest_inferforge import engines, units
from pytest_inferforge.errors import UsageError
from pytest_inferforge.options import SessionOptions
from pytest_inferforge.pytest_plugin.layers import WAYS, Layer, merge, nearest
from pytest_inferforge.redaction import is_secret, without_secrets
from pytest_inferforge.servers.spec import ServerSpec, pairs
from pytest_inferforge.servers.spec import environment as environment_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_inferforge.pytest_plugin.settings import Settings
    from pytest_inferforge.workload.spec import Workload

_TEXTS = (
    "backend", "model", "revision", "url", "python", "command", "image", "restart_command", "api_key_env",
)  # fmt: skip
_NUMBERS = {"port": (1, 65_535), "gpus": (0, 1024)}
WORDS = (*_TEXTS, *_NUMBERS, "boot_timeout", "args", "env")
"""What is said about a server beside its settings."""
_OF_A_BOOT = ("args", "env", "gpus", "port", "revision")  # mean nothing for a server that runs already
_OF_AN_ENGINE = ("gpus", "revision")  # nor do these for a command that was given verbatim


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


def merged(layers: Iterable[Layer], servers: Mapping[str, Layer], notes: list[str]) -> dict[str, Any]:
    """What is said about a server, strongest first, each layer with the server that it names right below it.

    A command says which engine it starts, so that a weaker layer's backend does not.

    Raises:
        UsageError: a server that is not named in the project's file.
    """
    found: list[Layer] = []
    for layer in layers:
        values = {key: value for key, value in layer.values.items() if key != "server"}
        found.append(_with_engine(layer, values))
        if "server" in layer.values:
            found.append(_with_engine(layer, choose(servers, layer.values["server"]).values))
    return merge(found, notes)


def _with_engine(layer: Layer, values: Mapping[str, Any]) -> Layer:
    if isinstance(values.get("command"), str) and "backend" not in values:
        values = {**values, "backend": engines.recognised(values["command"])}
    return Layer(source=layer.source, values=values, pinned=layer.pinned)


def server_spec(
    words: Mapping[str, Any], settings: Settings, notes: list[str], workload: Workload | None
) -> ServerSpec:
    """Which server a test runs on, from merged words.

    Behind a URL a backend only says which dialect is spoken. There, and in a command that was given verbatim,
    a test's needs of its server cannot be seen to: they are left out with a note, except those asked for on
    the command line, which are refused.

    Raises:
        UsageError: words that are none, or that contradict each other.
    """
    _check(words, settings.server.values)
    url, backend, command = words.get("url"), words.get("backend"), words.get("command")
    if url is not None or command is not None:
        words = _left_to_its_owner(words, settings.server.values, notes)
    given = {name: value for name, value in words.items() if name not in WORDS}
    if url is not None:
        if backend not in (None, "url", "anthropic", "custom"):
            given.setdefault("dialect", backend)
        backend = "anthropic" if "anthropic" in (backend, given.get("dialect")) else "url"
    timeout = words.get("boot_timeout")
    env = environment(words.get("env", ()))
    for name, _ in env:
        if name not in environment_of(env):
            notes.append(f"{name} is to be handed on, and is not set here")
    return ServerSpec(
        engine=backend or SessionOptions().default_backend,
        model=words.get("model"),
        revision=words.get("revision"),
        settings=pairs(given),
        args=_texts(words.get("args", ()), "args"),
        env=env,
        python=words.get("python"),
        command=command,
        image=words.get("image"),
        gpus=words.get("gpus"),
        profile=settings.profile != "never",
        url=url,
        restart=words.get("restart_command") if url is not None else None,
        api_key_env=words.get("api_key_env") or (settings.default_key_env if url is not None else None),
        port=words.get("port"),
        boot_timeout_s=units.parse(timeout, "s") if isinstance(timeout, str) else timeout,
        ca_file=settings.ca_file if url is not None else None,
        verify_tls=settings.verify_tls or url is None,
        proxies=url is not None and workload is not None and workload.transport == "httpx",
    )


def _left_to_its_owner(
    words: Mapping[str, Any], asked: Mapping[str, Any], notes: list[str]
) -> dict[str, Any]:
    """The words without what a server behind a URL, or in a command given verbatim, cannot be told."""
    behind_url = words.get("url") is not None
    meaningless = _OF_A_BOOT if behind_url else _OF_AN_ENGINE
    takes_dialect = behind_url or "dialect" in engines.engine(words["backend"]).SETTINGS
    lost = {
        name: value
        for name, value in words.items()
        if name in meaningless or (name not in WORDS and not (name == "dialect" and takes_dialect))
    }
    if here := {name: value for name, value in lost.items() if name in asked}:
        raise UsageError(
            "a server behind a URL cannot be told how to run"
            if behind_url
            else "settings are not written into a command that was given verbatim",
            seen=_shown(here),
            do="say it where that server is started"
            if behind_url
            else "write the engine's own flags into the command",
        )
    if lost:
        where = "behind a URL" if behind_url else "in a command given verbatim"
        notes.append(f"{where} nothing can be set: {_shown(lost)} left to its owner")
    return {name: value for name, value in words.items() if name not in lost}


def _shown(words: Mapping[str, Any]) -> str:
    said = [name if name == "env" else f"{name}={value}" for name, value in words.items() if name != "args"]
    return ", ".join(without_secrets((*said, *_texts(words.get("args", ()), "args"))))


def _check(words: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Refuse words that are none; `asked`: those of the command line."""
    for name in _TEXTS:
        value = words.get(name, "-")
        if not isinstance(value, str):
            raise UsageError(f"{name} is not a text", seen=repr(value), do=f'write {name} = "..."')
        if not value.strip():  # a variable that was lost on the way must not mean a default
            raise UsageError(f"{name} is empty", seen=repr(value), do=f"say which {name}, or leave it out")
    for name, (low, high) in _NUMBERS.items():
        value = words.get(name, low)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise UsageError(
                f"{name} is not a whole number from {low} to {high}",
                seen=repr(value),
                do=f"write {name} = {low}",
            )
    timeout = words.get("boot_timeout", 1.0)
    if not isinstance(timeout, str | int | float) or isinstance(timeout, bool):
        raise UsageError("boot_timeout is no time", seen=repr(timeout), do='write boot_timeout = "10 min"')
    ways = [way for way in WAYS if way in words]
    if len(ways) > 1:
        raise UsageError(
            "a server is started in one way only",
            seen=" and ".join(ways),  # a URL may hold a password
            do="keep one of them",
        )
    if "backend" not in words and ("python" in words or "image" in words):
        raise UsageError(
            "which engine it is was not said",
            seen=f"{ways[0]}={words[ways[0]]}",
            do="write --infer-backend=vllm",
        )
    if "restart_command" in asked and "url" not in words:
        raise UsageError(
            "only a server behind a URL is restarted by a command",
            seen=f"--infer-restart-command={asked['restart_command']}",
            do="name that server with --infer-url; one that is started here is booted anew without it",
        )


def environment(given: object) -> tuple[tuple[str, str | None], ...]:
    """A table, or texts NAME and NAME=VALUE, as `ServerSpec.env` takes it.

    Raises:
        UsageError: a secret with its value: it would be seen and stored.
    """
    if isinstance(given, Mapping):
        found: dict[str, str | None] = {
            str(name): None if value is None else str(value) for name, value in given.items()
        }
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
