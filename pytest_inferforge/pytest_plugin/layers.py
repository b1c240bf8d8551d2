"""Whose word counts: command line > marker > project's file, key by key. Knows no pytest."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pytest_inferforge.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

COMMAND_LINE = "the command line"
WAYS = ("command", "image", "python", "url")
"""The ways to have a server."""
_PLACE = re.compile(r"\{(\w+)\}")
_RIVALS = (("requests", "duration"), WAYS)  # one takes the place of the others
_UNSAID = ("url", "command", "args", "env")  # may hold a password


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A marker as it was written; `own`: on the test function itself, not on its class or module."""

    name: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    own: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """What one source says. Nothing may override a pinned one."""

    source: str
    values: Mapping[str, Any]
    pinned: bool = False


def filled(mark: Mark, values: Mapping[str, object]) -> Mark:
    """A parametrized test's values in the texts of its markers: "poisson {rate} req/s".

    A text that is nothing but a place takes the value as it is, type included. Braces around anything that
    is no parameter stay as they are.
    """
    if not values:
        return mark

    def fill(part: object) -> object:
        if isinstance(part, dict):
            return {name: fill(value) for name, value in part.items()}
        if not isinstance(part, str):
            return part
        if (whole := _PLACE.fullmatch(part)) and whole[1] in values:
            return values[whole[1]]
        return _PLACE.sub(lambda found: str(values.get(found[1], found[0])), part)

    return replace(
        mark,
        args=tuple(fill(part) for part in mark.args),
        kwargs={name: fill(part) for name, part in mark.kwargs.items()},
    )


def of_marks(marks: Sequence[Mark], name: str) -> list[Layer]:
    """The markers of one name as layers, closest first.

    Raises:
        UsageError: an argument without a name.
    """
    layers = []
    for mark in marks:
        if mark.name != name:
            continue
        if mark.args:
            raise UsageError(
                f"{name} takes named arguments only", seen=repr(mark.args[0]), do=f"write {name}(name=value)"
            )
        values = {key: value for key, value in mark.kwargs.items() if key != "pin"}
        layers.append(Layer(source=f"a {name} marker", values=values, pinned=bool(mark.kwargs.get("pin"))))
    return layers


def merge(layers: Sequence[Layer], notes: list[str]) -> dict[str, Any]:
    """Layers, strongest first, as one; where a pin keeps the command line out, a note says so.

    `requests` and `duration` stand for each other, and so do the ways to have a server: the stronger layer's
    wins. Two in one layer stay, and are an error of that layer.
    """
    merged: dict[str, Any] = {}
    for layer in sorted(layers, key=lambda layer: not layer.pinned):
        stronger = dict(merged)
        for key, value in layer.values.items():
            holder = key if key in stronger else _rival(key, stronger)
            if holder is None:
                merged[key] = value
            elif layer.source == COMMAND_LINE and (holder != key or stronger[key] != value):
                pinned, asked = _told(holder, stronger[holder]), _told(key, value)
                notes.append(f"{pinned} is pinned; {asked} was asked for on {COMMAND_LINE}")
    return merged


def _rival(key: str, stronger: Mapping[str, Any]) -> str | None:
    """What a stronger layer says in the place of `key`."""
    for group in _RIVALS:
        if key in group:
            return next((other for other in group if other != key and other in stronger), None)
    return None


def _told(key: str, value: object) -> str:
    return key if key in _UNSAID else f"{key}={value}"


def nearest(name: str, known: Iterable[str], otherwise: str) -> str:
    """What to do about a name that nobody knows."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {near[0]}?" if near else otherwise
