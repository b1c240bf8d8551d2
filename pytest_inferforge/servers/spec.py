"""What a test needs of a server: a value that can be compared, hashed, printed and stored."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pytest_inferforge.errors import UsageError
from pytest_inferforge.redaction import HIDDEN, command_without_secrets, is_secret, without_secrets


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSpec:
    """One server, as asked for. Tests whose specs are equal can share a boot.

    `engine` is a name in `engines.ENGINES`; `model` a path, a hub id or a name (None: the engine's default),
    `revision` that of a model on the hub.
    `settings` are pairs of the engine-neutral vocabulary, in any order; `args` go to the engine verbatim;
    `env` is added to its environment, None: the value that the variable has here. One of `python` (the
    interpreter of the engine's environment), `command` (run verbatim, with `{port}` in it) and `image` (of a
    container) may say where the engine is. `gpus`: how many it gets, None: as many as its settings need.
    `profile`: boot it so that its own profiler can be used. `url` is for engines that start nothing.
    `restart`: the command that restarts the server behind an URL. `api_key_env` names the
    environment variable with the API key; the key itself is never part of a spec. `port`: None for any that
    is free; `boot_timeout_s`: None for the engine's own. `ca_file`: of the authority behind an https URL,
    None: this system's. `proxies`: those of the environment are used for an URL.
    """

    engine: str
    model: str | None = None
    revision: str | None = None
    settings: tuple[tuple[str, object], ...] = ()
    args: tuple[str, ...] = ()
    env: tuple[tuple[str, str | None], ...] = field(default=(), repr=False)
    python: str | None = None
    command: str | None = None
    image: str | None = None
    gpus: int | None = None
    profile: bool = False
    url: str | None = None
    restart: str | None = None
    api_key_env: str | None = None
    port: int | None = None
    boot_timeout_s: float | None = None
    ca_file: str | None = None
    verify_tls: bool = True
    proxies: bool = False

    def __post_init__(self) -> None:
        for name in ("settings", "env"):
            object.__setattr__(self, name, _sorted(name, getattr(self, name)))

    def describe(self) -> str:
        """One line for reports: `llama.cpp forge-tiny max_num_seqs=8`."""
        words = [self.engine]
        words += [word for word in (self.url, self.model, self.image) if word]
        if self.command:
            words.append(command_without_secrets(self.command))
        words += [f"{name}={_plain(value)}" for name, value in self.settings]
        return " ".join([*words, *without_secrets(self.args)])

    def identity(self) -> dict[str, object]:
        """What makes this server this server, as plain JSON values without secrets, for the fingerprint.

        The port, the key and the patience of the boot do not.
        """
        return {
            "engine": self.engine,
            "model": self.model,
            "revision": self.revision,
            "settings": {name: _plain(value) for name, value in self.settings},
            "args": without_secrets(self.args),
            "env": {name: _shown(name, value) for name, value in self.env},
            "url": self.url,
            "python": self.python,
            "command": command_without_secrets(self.command) if self.command else None,
            "image": self.image,
            "gpus": self.gpus,
        }


def pairs(mapping: Mapping[str, object]) -> tuple[tuple[str, object], ...]:
    """A mapping as `ServerSpec.settings` takes it; tables and lists in it become tuples.

    >>> pairs({"seed": 1, "speculative": {"method": "ngram", "tokens": 4}})
    (('seed', 1), ('speculative', (('method', 'ngram'), ('tokens', 4))))
    """
    return tuple(sorted((name, _frozen(value)) for name, value in mapping.items()))


def environment(given: Iterable[tuple[str, str | None]]) -> dict[str, str]:
    """`ServerSpec.env` with the values of what is handed on by name; variables not set here are left out."""
    found = {name: os.environ.get(name) if value is None else value for name, value in given}
    return {name: value for name, value in found.items() if value is not None}


def _shown(name: str, value: str | None) -> str:
    if is_secret(name):
        return HIDDEN
    return os.environ.get(name, "") if value is None else value


def _sorted(field_name: str, given: tuple[tuple[str, object], ...]) -> tuple[tuple[str, object], ...]:
    names = [name for name, _ in given]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"{name!r} is given twice in {field_name}", do="give it once")
    return tuple(sorted(given, key=lambda pair: pair[0]))


def _frozen(value: object) -> object:
    if isinstance(value, Mapping):
        return pairs(value)
    if isinstance(value, list | tuple):
        return tuple(_frozen(part) for part in value)
    return value


def _plain(value: object) -> object:
    """JSON's view of a frozen value: pairs with names become a table again, other tuples a list."""
    if not isinstance(value, tuple):
        return value
    if value and all(
        isinstance(part, tuple) and len(part) == 2 and isinstance(part[0], str) for part in value
    ):
        return {name: _plain(part) for name, part in value}
    return [_plain(part) for part in value]
