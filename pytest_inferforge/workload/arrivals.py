"""When requests are due: open loop (the world does not wait) or closed loop (each user waits)."""

from __future__ import annotations

import math
import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

from pytest_inferforge import units
from pytest_inferforge.errors import UsageError
from pytest_inferforge.workload import numbers
from pytest_inferforge.workload.arrival_kinds import (
    STRESS_FACTOR,
    Arrivals,
    Burst,
    Closed,
    Constant,
    Gamma,
    Poisson,
    Process,
    Stage,
    Stages,
    Stress,
    Trace,
    fault,
    is_open,
    mean_rate_per_s,
    own_duration_s,
    own_requests,
)

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "Arrivals", "Burst", "Closed", "Constant", "Gamma", "Poisson", "Process", "Stage", "Stages", "Stress",
    "Trace", "is_open", "mean_rate_per_s", "own_duration_s", "own_requests", "parse",
]  # fmt: skip

_N = numbers.PATTERN
_UNIT = r"(?:req/s|rps|requests?/s|/s|per second)"
_RATE = rf"(?P<rate>{_N})(?P<unit>\s*{_UNIT})?"  # one without a unit is understood, to say what it lacks
_FROM = rf"(?P<low>{_N})(?:\s*{_UNIT})?\s*(?:->|\N{{RIGHTWARDS ARROW}}|to)\s*{_RATE}"
_STAGED = re.compile(r"\bramp\b|\bhold\b|\bfor\b|,", re.IGNORECASE)
_RAMP = re.compile(rf"ramp\s+{_FROM}\s+over\s+(?P<time>.+)", re.IGNORECASE)
_LEVEL = re.compile(rf"{_RATE}\s+for\s+(?P<time>.+)", re.IGNORECASE)
_HOLD = re.compile(r"hold\s+(?:for\s+)?(?P<time>.+)", re.IGNORECASE)
_SECONDS = re.compile(rf"({_N})\s*s", re.IGNORECASE)

_STAGES_FORM = '"ramp 1 -> 20 req/s over 60 s, hold 120 s" or "5 req/s for 60 s, 10 req/s for 60 s"'
_ALL_FORMS = (
    '"poisson 8 req/s", "constant 2 req/s", "gamma 8 req/s burstiness=0.5",'
    ' "ramp 1 -> 20 req/s over 60 s, hold 120 s", "burst 64 every 10 s", "closed 32",'
    ' "trace conversation.jsonl" or "stress 2 -> 64 req/s"'
)


def parse(value: Arrivals | str) -> Arrivals:
    """Arrivals from their text; typed ones pass through.

    Raises:
        UsageError: not one of the known forms, or a number that is out of its range.

    >>> parse("poisson 8 req/s")
    Poisson(rate_per_s=8.0)
    >>> parse("closed 32")
    Closed(concurrency=32, ramp_s=0.0)
    >>> parse("ramp 1 -> 20 req/s over 1 min, hold 2 min").stages[1]
    Stage(start_per_s=20.0, end_per_s=20.0, duration_s=120.0)
    """
    arrivals = value if isinstance(value, Arrivals) else _parse_text(str(value).strip())
    if what := fault(arrivals):
        raise UsageError(what, seen=str(value), do=f"write {_form(type(arrivals).__name__.lower())}")
    return arrivals


@dataclass(frozen=True, slots=True)
class _Kind:
    """A word, what may stand after it, what that means, and how to write it."""

    pattern: str
    made: Callable[[re.Match[str]], Arrivals]
    form: str


def _gamma(found: re.Match[str]) -> Gamma:
    number = float(found["number"])
    if found["word"].lower() == "cv":
        number = 1 / number**2 if number**2 else math.inf
    return Gamma(float(found["rate"]), number)


def _burst(found: re.Match[str]) -> Burst:
    return Burst(int(found["size"]), _seconds(found["time"]) if found["time"] else None)


def _closed(found: re.Match[str]) -> Closed:
    return Closed(int(found["size"]), _seconds(found["time"]) if found["time"] else 0.0)


def _trace(found: re.Match[str]) -> Trace:
    """Raises ValueError: an open quote, a word that is not NAME=VALUE, an unknown one, no number."""
    path, *words = shlex.split(found["words"])
    given = dict(word.split("=", 1) for word in words)
    if len(given) < len(words) or set(given) - {"time_scale", "format"}:
        raise ValueError(words)
    return Trace(path, float(given.get("time_scale", 1.0)), given.get("format"))


def _stress(found: re.Match[str]) -> Stress:
    return Stress(float(found["low"]), float(found["rate"]), float(found["factor"] or STRESS_FACTOR))


_KINDS = {
    "poisson": _Kind(_RATE, lambda found: Poisson(float(found["rate"])), '"poisson 8 req/s"'),
    "constant": _Kind(_RATE, lambda found: Constant(float(found["rate"])), '"constant 2 req/s"'),
    "gamma": _Kind(
        rf"{_RATE}\s+(?P<word>burstiness|cv)\s*=\s*(?P<number>{_N})",
        _gamma,
        '"gamma 8 req/s burstiness=0.5" or "gamma 8 req/s cv=2"',
    ),
    "burst": _Kind(
        r"(?P<size>\d+)(?:\s+every\s+(?P<time>.+))?", _burst, '"burst 64" or "burst 64 every 10 s"'
    ),
    "closed": _Kind(
        r"(?P<size>\d+)(?:\s+ramp\s+(?P<time>.+))?", _closed, '"closed 32" or "closed 32 ramp 10 s"'
    ),
    "trace": _Kind(
        r"(?P<words>.+)",
        _trace,
        '"trace conversation.jsonl" or "trace \'my file.csv\' time_scale=0.5 format=azure"',
    ),
    "stress": _Kind(
        rf"{_FROM}(?:\s+factor\s*=\s*(?P<factor>{_N}))?",
        _stress,
        '"stress 2 -> 64 req/s" or "stress 2 -> 64 req/s factor=1.25"',
    ),
}


def _form(word: str) -> str:
    return _KINDS[word].form if word in _KINDS else _STAGES_FORM


def _parse_text(text: str) -> Arrivals:
    word, rest = _first_word(text)
    staged = _STAGED.search(text) if word not in _KINDS or word in get_args(Process) else None
    if word not in _KINDS and not staged:
        raise UsageError("unknown arrivals", seen=repr(text), do=f"write {_ALL_FORMS}")
    try:
        found = _stages(text) if staged else _kind(word, rest, text)
    except UsageError as error:
        do = error.do or f"write {_form('' if staged else word)}"
        raise UsageError(error.what, seen=repr(text), do=do) from error
    return found


def _first_word(text: str) -> tuple[str, str]:
    words = [*text.split(maxsplit=1), "", ""]
    return words[0].lower(), words[1]


def _kind(word: str, rest: str, text: str) -> Arrivals:
    found = re.fullmatch(_KINDS[word].pattern, rest, re.IGNORECASE | re.DOTALL)
    if found:
        _check_unit(found, text)
        try:
            return _KINDS[word].made(found)
        except ValueError:
            pass
    raise UsageError(f"{word} arrivals are not readable")


def _stages(text: str) -> Stages:
    word, rest = _first_word(text)
    named = word in get_args(Process)
    stages: list[Stage] = []
    for part in (rest if named else text).split(","):
        stages.append(_stage(part.strip(), stages[-1].end_per_s if stages else None, text))
    return Stages("constant" if word == "constant" else "poisson", tuple(stages))


def _stage(part: str, held_per_s: float | None, text: str) -> Stage:
    if found := _HOLD.fullmatch(part):
        if held_per_s is None:
            raise UsageError("hold goes on at the rate before it, and there is none")
        return Stage(held_per_s, held_per_s, _seconds(found["time"]))
    found = _RAMP.fullmatch(part) or _LEVEL.fullmatch(part)
    if found is None:
        raise UsageError(f"a stage of the arrivals is not readable: {part!r}")
    _check_unit(found, text)
    end = float(found["rate"])
    start = float(found["low"]) if "low" in found.groupdict() else end
    return Stage(start, end, _seconds(found["time"]))


def _check_unit(found: re.Match[str], text: str) -> None:
    if found.groupdict().get("rate") and not found["unit"]:
        end = found.end("rate")
        mended = text.replace(found.string, f"{found.string[:end]} req/s{found.string[end:]}", 1)
        raise UsageError("arrivals without a unit", do=f'write "{mended}"')


def _seconds(text: str) -> float:
    try:
        seconds = units.parse(text, "s")
    except UsageError as error:
        raise UsageError(f"arrivals: {error.what}: {text!r}") from error
    exact = _SECONDS.fullmatch(text.strip())  # what we print is read back to the last digit
    return float(exact[1]) if exact else seconds
