"""How long prompts and answers are, in tokens."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_inferforge.errors import UsageError
from pytest_inferforge.workload import numbers

if TYPE_CHECKING:
    from numpy.random import Generator

_LOGNORMAL_WORD = rf"([a-z]+)\s*=\s*({numbers.PATTERN})"
_ENDLESS = 1e9  # tokens
_FORMS = '128, "uniform 64..512" or "lognormal median=256 sigma=0.5 max=2048"'


@dataclass(frozen=True, slots=True)
class Fixed:
    """Always `tokens`."""

    tokens: int

    def __str__(self) -> str:
        return str(self.tokens)


@dataclass(frozen=True, slots=True)
class Uniform:
    """Every whole number from `low` to `high`, both included, equally often."""

    low: int
    high: int

    def __str__(self) -> str:
        return f"uniform {self.low}..{self.high}"


@dataclass(frozen=True, slots=True)
class Lognormal:
    """exp(normal(ln median, sigma)), rounded and clipped to `min`..`max`; `max` None: not clipped above."""

    median: float
    sigma: float
    max: int | None = None
    min: int = 1

    def __str__(self) -> str:
        text = f"lognormal median={numbers.text(self.median)} sigma={numbers.text(self.sigma)}"
        text += f" min={self.min}" if self.min != 1 else ""
        return text + (f" max={self.max}" if self.max is not None else "")


Lengths = Fixed | Uniform | Lognormal


def parse(value: Lengths | int | str, name: str) -> Lengths:
    """Lengths from a number or a text; `name` says in an error which argument it was.

    Raises:
        UsageError: not one of the known forms, or lengths below 1.

    >>> parse("uniform 64..512", "prompt_tokens")
    Uniform(low=64, high=512)
    """
    if isinstance(value, bool):
        raise UsageError(f"{name} is not a length", seen=repr(value), do=f"write {_FORMS}")
    lengths = value if isinstance(value, Fixed | Uniform | Lognormal) else _parse_text(str(value), name)
    least = {Fixed: "tokens", Uniform: "low", Lognormal: "min"}[type(lengths)]
    if getattr(lengths, least) < 1:
        raise UsageError(f"{name} must be at least 1", seen=str(value), do=f"write {_FORMS}")
    if isinstance(lengths, Uniform) and lengths.high < lengths.low:
        raise UsageError(f"{name}: the range runs backwards", seen=str(value), do=f"write {_FORMS}")
    if isinstance(lengths, Lognormal) and not (1 <= lengths.median < _ENDLESS and 0 <= lengths.sigma < 10):
        raise UsageError(
            f"{name}: median must be at least 1 and sigma from 0 to 10",
            seen=str(value),
            do=f"write {_FORMS}",
        )
    if isinstance(lengths, Lognormal) and lengths.max is not None and lengths.max < lengths.min:
        raise UsageError(f"{name}: max is below min", seen=str(value), do=f"write {_FORMS}")
    return lengths


def draw(lengths: Lengths, rng: Generator, n: int) -> list[int]:
    """n lengths in tokens."""
    if isinstance(lengths, Fixed):
        return [lengths.tokens] * n
    if isinstance(lengths, Uniform):
        return [int(k) for k in rng.integers(lengths.low, lengths.high, size=n, endpoint=True)]
    raw = rng.lognormal(math.log(lengths.median), lengths.sigma, size=n).round()
    return [int(k) for k in raw.clip(lengths.min, lengths.max)]


def largest(lengths: Lengths) -> int | None:
    """The largest length that can be drawn; None: no bound."""
    if isinstance(lengths, Fixed):
        return lengths.tokens
    return lengths.high if isinstance(lengths, Uniform) else lengths.max


def _parse_text(text: str, name: str) -> Lengths:
    text = text.strip().lower()
    if match := re.fullmatch(r"(?:fixed\s+)?(\d+)", text):
        return Fixed(int(match[1]))
    if match := re.fullmatch(r"uniform\s+(\d+)\s*(?:\.\.|-|to|\s)\s*(\d+)", text):
        return Uniform(int(match[1]), int(match[2]))
    if match := re.fullmatch(rf"lognormal((?:\s+{_LOGNORMAL_WORD})+)", text):
        return _parse_lognormal(dict(re.findall(_LOGNORMAL_WORD, match[1])), text, name)
    raise UsageError(f"{name} is not a length", seen=repr(text), do=f"write {_FORMS}")


def _parse_lognormal(words: dict[str, str], text: str, name: str) -> Lognormal:
    unknown = set(words) - {"median", "sigma", "max", "min"}
    missing = {"median", "sigma"} - set(words)
    if unknown or missing:
        fault = (
            f"does not know {', '.join(sorted(unknown))}"
            if unknown
            else f"lacks {', '.join(sorted(missing))}"
        )
        raise UsageError(f"{name}: lognormal {fault}", seen=repr(text), do=f"write {_FORMS}")
    try:
        return Lognormal(
            median=float(words["median"]),
            sigma=float(words["sigma"]),
            max=int(words["max"]) if "max" in words else None,
            min=int(words.get("min", "1")),
        )
    except ValueError as error:
        raise UsageError(f"{name}: not a number", seen=repr(text), do=f"write {_FORMS}") from error
