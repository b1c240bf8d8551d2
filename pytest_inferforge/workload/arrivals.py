"""When requests are due: open loop (the world does not wait) or closed loop (each user waits)."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from pytest_inferforge.errors import UsageError
from pytest_inferforge.workload import numbers

_RATE = re.compile(
    rf"(poisson|constant)\s+({numbers.PATTERN})\s*(?:req/s|rps|requests/s|/s|per second)", re.IGNORECASE
)
_BARE_RATE = re.compile(rf"(poisson|constant)\s+{numbers.PATTERN}", re.IGNORECASE)
_CLOSED = re.compile(r"closed\s+(\d+)", re.IGNORECASE)
_FORMS = '"poisson 8 req/s", "constant 2 req/s" or "closed 32"'


@dataclass(frozen=True, slots=True)
class Poisson:
    """Independent users: exponential gaps with mean 1 / rate."""

    rate_per_s: float

    def __str__(self) -> str:
        return f"poisson {numbers.text(self.rate_per_s)} req/s"


@dataclass(frozen=True, slots=True)
class Constant:
    """Equal gaps of 1 / rate; the first request is due at once."""

    rate_per_s: float

    def __str__(self) -> str:
        return f"constant {numbers.text(self.rate_per_s)} req/s"


@dataclass(frozen=True, slots=True)
class Closed:
    """`concurrency` users, each sending its next request when the last was answered."""

    concurrency: int

    def __str__(self) -> str:
        return f"closed {self.concurrency}"


Arrivals = Poisson | Constant | Closed


def parse(value: Arrivals | str) -> Arrivals:
    """Arrivals from their text; typed ones pass through.

    Raises:
        UsageError: not one of the known forms, or a rate that is not positive and finite.

    >>> parse("poisson 8 req/s")
    Poisson(rate_per_s=8.0)
    >>> parse("closed 32")
    Closed(concurrency=32)
    """
    arrivals = value if isinstance(value, Poisson | Constant | Closed) else _parse_text(value)
    size = arrivals.concurrency if isinstance(arrivals, Closed) else arrivals.rate_per_s
    if not size > 0:
        raise UsageError("arrivals must be more than zero", seen=str(value), do=f"write {_FORMS}")
    if not math.isfinite(size):
        raise UsageError("arrivals must be finite", seen=str(value), do=f"write {_FORMS}")
    return arrivals


def _parse_text(text: str) -> Arrivals:
    text = str(text).strip()
    if match := _RATE.fullmatch(text):
        kind = Poisson if match[1].lower() == "poisson" else Constant
        return kind(float(match[2]))
    if match := _CLOSED.fullmatch(text):
        return Closed(int(match[1]))
    if _BARE_RATE.fullmatch(text):
        raise UsageError("arrivals without a unit", seen=repr(text), do=f'write "{text} req/s"')
    raise UsageError("unknown arrivals", seen=repr(text), do=f"write {_FORMS}")
