"""Reading settings: each value is either what its name promises or a usage error."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from pytest_inferforge.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_inferforge.engines.protocol import Spec


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


def whole(spec: Spec, name: str, default: int | None, *, low: int = 1, high: int = 2**31 - 1) -> int | None:
    """A whole number from `low` to `high`; `default` where it is not set."""
    value = _value(spec, name)
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise _refused(spec, name, value, f"give a whole number from {low} to {high}")
    return value


def yes_no(spec: Spec, name: str, *, default: bool) -> bool:
    """True or False; `default` where it is not set."""
    value = _value(spec, name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise _refused(spec, name, value, "give true or false")
    return value


def one_of(spec: Spec, name: str, choices: Iterable[str], default: str) -> str:
    """One of `choices`; `default` where it is not set."""
    value = _value(spec, name)
    if value is None:
        return default
    names = tuple(choices)
    if value not in names:
        raise _refused(spec, name, value, f"choose one of {', '.join(names)}")
    return str(value)


def _value(spec: Spec, name: str) -> object | None:
    return dict(spec.settings).get(name)


def _refused(spec: Spec, name: str, value: object, do: str) -> UsageError:
    return UsageError(f"{spec.engine} cannot take this {name}", seen=f"{name}={value!r}", do=do)
