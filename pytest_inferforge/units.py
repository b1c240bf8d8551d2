"""Quantities as people write and read them; inside, everything is in base units.

Base units: `s`, `req/s`, `tok/s`, `ratio` (0..1 where it is a share), `change` (relative: 0.1 is 10 % more),
`bytes`, `count` (a bare number), `tok`, `W`, `J`, `J/tok`, `Hz`, `cores`.
"""

from __future__ import annotations

import math
import re

from pytest_inferforge.errors import UsageError

_UNITS: dict[str, dict[str, float]] = {  # base unit -> what people write, lower case -> how many base units
    "s": {
        **dict.fromkeys(("us", "\N{MICRO SIGN}s", "\N{GREEK SMALL LETTER MU}s"), 1e-6),
        "ms": 1e-3,
        **dict.fromkeys(("s", "sec", "second", "seconds"), 1.0),
        **dict.fromkeys(("m", "min", "minute", "minutes"), 60.0),
        **dict.fromkeys(("h", "hour", "hours"), 3600.0),
    },
    "req/s": dict.fromkeys(("req/s", "request/s", "requests/s", "rps", "/s"), 1.0),
    "tok/s": dict.fromkeys(("tok/s", "token/s", "tokens/s", "tps"), 1.0),
    "ratio": {"%": 0.01, "": 1.0},
    "change": {"%": 0.01},
    "bytes": {
        "b": 1.0, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12,
        "kib": 2.0**10, "mib": 2.0**20, "gib": 2.0**30, "tib": 2.0**40,
    },
    "count": {"": 1.0},
    "tok": dict.fromkeys(("tok", "token", "tokens"), 1.0),
    "W": {"w": 1.0, "kw": 1e3},
    "J": {"j": 1.0, "kj": 1e3, "wh": 3600.0, "kwh": 3.6e6},  # "mj" could be either
    "J/tok": {"mj/tok": 1e-3, "j/tok": 1.0, "j/token": 1.0},
    "Hz": {"hz": 1.0, "khz": 1e3, "mhz": 1e6, "ghz": 1e9},
    "cores": dict.fromkeys(("core", "cores"), 1.0),
}  # fmt: skip
_SHOWN: dict[str, tuple[tuple[str, float], ...]] = {  # smallest first; the largest that leaves >= 1 is taken
    "s": (("\N{MICRO SIGN}s", 1e-6), ("ms", 1e-3), ("s", 1.0), ("min", 60.0), ("h", 3600.0)),
    "req/s": (("req/s", 1.0),),
    "tok/s": (("tok/s", 1.0),),
    "ratio": (("%", 0.01),),
    "change": (("%", 0.01),),
    "bytes": (("B", 1.0), ("kB", 1e3), ("MB", 1e6), ("GB", 1e9), ("TB", 1e12)),
    "count": (("", 1.0),),
    "tok": (("tok", 1.0),),
    "W": (("W", 1.0), ("kW", 1e3)),
    "J": (("J", 1.0), ("kJ", 1e3)),
    "J/tok": (("mJ/tok", 1e-3), ("J/tok", 1.0)),
    "Hz": (("Hz", 1.0), ("kHz", 1e3), ("MHz", 1e6), ("GHz", 1e9)),
    "cores": (("cores", 1.0),),
}
_EXAMPLES = {
    "s": ("ms", "s"),
    "req/s": ("req/s",),
    "tok/s": ("tok/s",),
    "ratio": ("%",),
    "change": ("%",),
    "bytes": ("MB", "GB"),
    "count": ("",),
    "tok": ("tok",),
    "W": ("W", "kW"),
    "J": ("J", "kJ"),
    "J/tok": ("J/tok",),
    "Hz": ("MHz", "GHz"),
    "cores": ("cores",),
}
_NAMES = {
    "s": "a time",
    "req/s": "a request rate",
    "tok/s": "a token rate",
    "ratio": "a share",
    "change": "a change",
    "bytes": "a size",
    "count": "a number",
    "tok": "a number of tokens",
    "W": "a power",
    "J": "an energy",
    "J/tok": "an energy per token",
    "Hz": "a clock",
    "cores": "a number of cores",
}
_QUANTITY = re.compile(
    r"\s*(?P<number>[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?)\s*(?P<unit>\S*)\s*", re.IGNORECASE
)
_DIGITS = 3
_LONGEST_IN_SECONDS = 120.0


def parse(text: str, unit: str) -> float:
    """`"300 ms"` in the base unit asked for: 0.3. Not negative.

    Raises:
        UsageError: not a number, no unit, or a unit of something else.
    """
    found = _QUANTITY.fullmatch(text)
    if found is None:
        raise UsageError(f"{_NAMES[unit]} is not readable", seen=text, do=f"write {_example('300', unit)}")
    number, written = found["number"], found["unit"].lower()
    factor = _UNITS[unit].get(written)
    if factor is None:
        what = f"{_NAMES[unit]} " + (f"cannot be in {found['unit']}" if written else "needs a unit")
        raise UsageError(what, seen=text.strip(), do=f"write {_example(number, unit)}")
    value = float(f"{float(number) * factor:.15g}")  # 95 % is 0.95, not 0.9500000000000001
    if value < 0.0 or math.isinf(value):
        raise UsageError(
            f"{_NAMES[unit]} cannot be {number}", seen=text.strip(), do="write a positive number"
        )
    if unit == "ratio" and not written and value > 1.0:
        raise UsageError("a share above 1", seen=text.strip(), do=f"write {number} % or a number from 0 to 1")
    return value


def unit_of(text: str) -> str | None:
    """The base unit that a quantity is written in: `"900 tok/s"` -> `tok/s`; None: none, or not readable."""
    found = _QUANTITY.fullmatch(text)
    if found is None or not found["unit"]:
        return None
    written = found["unit"].lower()
    return next((unit for unit, known in _UNITS.items() if written in known), None)


def format_value(value: float | None, unit: str) -> str:
    """For people: three significant digits in the unit that suits the size (182 ms, 913 tok/s, 0.4 %).

    None -> "not measured"; +inf -> "never" (a latency that failed requests reach).
    """
    if value is None or math.isnan(value):
        return "not measured"
    if value == math.inf:
        return "never"
    scales = _SHOWN[unit]
    size = abs(_rounded(value))
    name, factor = next((s for s in reversed(scales) if _suits(size, s)), scales[0] if size else _base(unit))
    return f"{_plain(_rounded(value / factor))} {name}".rstrip()


def _suits(size: float, scale: tuple[str, float]) -> bool:
    name, factor = scale
    least = _LONGEST_IN_SECONDS if name == "min" else factor
    return _rounded(size / factor) >= _rounded(least / factor)


def _base(unit: str) -> tuple[str, float]:
    return next((s for s in _SHOWN[unit] if s[1] == 1.0), _SHOWN[unit][0])


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


def _plain(value: float) -> str:
    """No exponent and no trailing zeros, except where the number is too small for that."""
    if value and abs(value) < 1e-6:
        return f"{value:g}"
    text = f"{value:.12f}".rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def _example(number: str, unit: str) -> str:
    return " or ".join(f"{number} {name}".strip() for name in _EXAMPLES[unit])
