"""Settings: each value is what its name promises or a usage error, and is written as the engine wants it.

An engine's table has for every setting it takes how the value is read and where it is put:

    SETTINGS = {"max_num_seqs": (whole(), flag("--max-num-seqs")), ...}
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_inferforge.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_inferforge.engines.protocol import Spec


@dataclass(slots=True)
class Written:
    """What settings came to: arguments, environment, and the content of a configuration file."""

    argv: list[str] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)


Read = Callable[[object], object]
"""The value as the engine's table takes it; ValueError with what to give instead."""
Put = Callable[[Written, Any], None]
Table = Mapping[str, tuple[Read, Put]]


@dataclass(frozen=True, slots=True)
class Speculative:
    """`speculative={"method": "ngram"|"draft"|"eagle"|"mtp", "model": ..., "tokens": 4}`.

    `model`: of the draft, None where the method needs none. `tokens`: drafted a step.
    """

    method: str
    model: str | None
    tokens: int


def write(spec: Spec, table: Table) -> Written:
    """All settings of the spec, as this engine wants them.

    Raises:
        UsageError: a setting that the engine does not have, a value it does not take.
    """
    refuse_unknown(spec, tuple(table))
    written = Written()
    for name, value in spec.settings:
        read, put = table[name]
        try:
            put(written, read(value))
        except ValueError as error:
            raise _refused(spec, name, value, str(error)) from error
    return written


def refuse_unknown(spec: Spec, takes: tuple[str, ...]) -> None:
    """Raises UsageError for the first setting that is not in `takes`."""
    for name, value in spec.settings:
        if name not in takes:
            near = difflib.get_close_matches(name, takes, n=1, cutoff=0.75)
            hint = f"did you mean {near[0]}? " if near else ""
            raise UsageError(
                f"{spec.engine} has no setting {name!r}",
                seen=f"{name}={value!r}",
                do=f"{hint}it takes {', '.join(takes) if takes else 'no settings'}",
            )


def value_of(spec: Spec, name: str, read: Read, default: Any) -> Any:
    """One setting's value, `default` where it is not set.

    Raises:
        UsageError: `read` does not take it.
    """
    value = dict(spec.settings).get(name)
    if value is None:
        return default
    try:
        return read(value)
    except ValueError as error:
        raise _refused(spec, name, value, str(error)) from error


# -- how a value is read -----------------------------------------------------------------------------------


def whole(low: int = 1, high: int = 2**31 - 1) -> Read:
    """A whole number from `low` to `high`."""

    def read(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise ValueError(f"give a whole number from {low} to {high}")
        return value

    return read


def yes_no() -> Read:
    """True or False."""

    def read(value: object) -> bool:
        if not isinstance(value, bool):
            raise ValueError("give true or false")
        return value

    return read


def share() -> Read:
    """A number above 0, at most 1."""

    def read(value: object) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= 1:
            raise ValueError("give a share above 0 and at most 1, like 0.9")
        return float(value)

    return read


def one_of(choices: Iterable[str], renamed: Mapping[str, str] | None = None) -> Read:
    """One of `choices`; those in `renamed` become what the engine calls them."""
    other = dict(renamed or {})
    names = (*choices, *other)

    def read(value: object) -> str:
        if value not in names:
            raise ValueError(f"choose one of {', '.join(names)}")
        return other.get(str(value), str(value))

    return read


def word() -> Read:
    """A text that only the engine can judge."""

    def read(value: object) -> str:
        if not isinstance(value, str) or not value:
            raise ValueError("give a text")
        return value

    return read


def speculative(*methods: str) -> Read:
    """`Speculative`, of one of these methods."""

    def read(value: object) -> Speculative:
        wanted = f"give method ({', '.join(methods)}), model and tokens"
        try:
            given = dict(value) if isinstance(value, tuple) else {"method": value}
        except (TypeError, ValueError) as error:  # a list, not a table
            raise ValueError(wanted) from error
        unknown = set(given) - {"method", "model", "tokens"}
        method, model, tokens = given.get("method"), given.get("model"), given.get("tokens", 4)
        if unknown or method not in methods:
            raise ValueError(wanted)
        if method in ("draft", "eagle") and not isinstance(model, str):
            raise ValueError(f"the method {method} needs the model of the draft")
        return Speculative(str(method), None if model is None else str(model), int(whole()(tokens)))  # type: ignore[call-overload]

    return read


# -- where it is put ---------------------------------------------------------------------------------------


def flag(name: str) -> Put:
    """`--name VALUE`."""

    def put(written: Written, value: object) -> None:
        written.argv += [name, _text(value)]

    return put


def switch(on: str | None = None, off: str | None = None) -> Put:
    """A flag for yes, a flag for no; None: that is how the engine is anyway."""

    def put(written: Written, value: bool) -> None:
        chosen = on if value else off
        if chosen is not None:
            written.argv.append(chosen)

    return put


def only(value: object, why: str) -> Put:
    """The engine is always like that; anything else cannot be asked of it."""

    def put(written: Written, asked: object) -> None:
        if asked != value:
            raise ValueError(why)

    return put


def variable(name: str) -> Put:
    """An environment variable."""

    def put(written: Written, value: object) -> None:
        written.env[name] = _text(value)

    return put


def key(path: str) -> Put:
    """A dotted key of the configuration file."""

    def put(written: Written, value: object) -> None:
        *above, last = path.split(".")
        table = written.config
        for step in above:
            table = table.setdefault(step, {})
        table[last] = value

    return put


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    return value if isinstance(value, str) else json.dumps(value)


def _refused(spec: Spec, name: str, value: object, do: str) -> UsageError:
    return UsageError(f"{spec.engine} cannot take this {name}", seen=f"{name}={value!r}", do=do)
