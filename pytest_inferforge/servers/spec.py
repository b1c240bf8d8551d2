"""What a test needs of a server: a value that can be compared, hashed, printed and stored."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from pytest_inferforge.errors import UsageError

_SECRET_NAME = re.compile(
    r"(^|[-_.])(api[-_]?keys?|access[-_]?key|token|secret|password|passwd|credentials?)$", re.IGNORECASE
)
HIDDEN = "[redacted]"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSpec:
    """One server, as asked for. Tests whose specs are equal can share a boot.

    `engine` is a name in `engines.ENGINES`; `model` a path, a hub id or a name (None: the engine's default).
    `settings` are pairs of the engine-neutral vocabulary, in any order; `args` go to the engine verbatim;
    `env` is added to its environment. `url` is for the engine "url" alone. `api_key_env` names the
    environment variable with the API key; the key itself is never part of a spec. `port`: None for any that
    is free; `boot_timeout_s`: None for the engine's own. `ca_file`: of the authority behind an https URL,
    None: this system's. `proxies`: those of the environment are used for an URL.
    """

    engine: str
    model: str | None = None
    settings: tuple[tuple[str, object], ...] = ()
    args: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    url: str | None = None
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
        words += [word for word in (self.url, self.model) if word]
        words += [f"{name}={_plain(value)}" for name, value in self.settings]
        return " ".join([*words, *without_secrets(self.args)])

    def identity(self) -> dict[str, object]:
        """What makes this server this server, as plain JSON values without secrets, for the fingerprint.

        The port, the key and the patience of the boot do not.
        """
        return {
            "engine": self.engine,
            "model": self.model,
            "settings": {name: _plain(value) for name, value in self.settings},
            "args": without_secrets(self.args),
            "env": {name: HIDDEN if is_secret(name) else value for name, value in self.env},
            "url": self.url,
        }


def pairs(mapping: Mapping[str, object]) -> tuple[tuple[str, object], ...]:
    """A mapping as `ServerSpec.settings` takes it; tables and lists in it become tuples.

    >>> pairs({"seed": 1, "speculative": {"method": "ngram", "tokens": 4}})
    (('seed', 1), ('speculative', (('method', 'ngram'), ('tokens', 4))))
    """
    return tuple(sorted((name, _frozen(value)) for name, value in mapping.items()))


def is_secret(name: str) -> bool:
    """Does an environment variable or a flag of that name hold a secret?

    >>> is_secret("HF_TOKEN"), is_secret("--api-key"), is_secret("--max-num-batched-tokens")
    (True, True, False)
    """
    return _SECRET_NAME.search(name) is not None


def without_secrets(args: tuple[str, ...]) -> list[str]:
    """Arguments with the values of `--api-key VALUE`, `--api-key=VALUE` and the like replaced."""
    shown: list[str] = []
    hide_next = False
    for argument in args:
        name, equals, _ = argument.partition("=")
        if hide_next and not argument.startswith("-"):
            shown.append(HIDDEN)
        else:
            shown.append(f"{name}={HIDDEN}" if equals and is_secret(name) else argument)
        hide_next = not equals and argument.startswith("-") and is_secret(argument)
    return shown


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
