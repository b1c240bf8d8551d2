"""How long prompts and answers are, in tokens."""

from __future__ import annotations

import hashlib
import math
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pytest_inferforge import units
from pytest_inferforge.errors import UsageError
from pytest_inferforge.workload import numbers, textfiles

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.random import Generator
    from numpy.typing import NDArray

_MOST = 10**9  # tokens: longer than anything, and far inside an int64
_ROUNDING = 0.005  # shares written as 33.3 % add up
_WORD = r"([a-z]+)\s*=\s*(\S+)"
_SHARE = re.compile(rf"({numbers.PATTERN}\s*%?)\s+(.+)", re.IGNORECASE)
_FORMS = (
    '128, "uniform 64..512", "lognormal median=256 sigma=0.5 max=2048", "normal mean=256 sd=64 max=512",'
    ' "70 % uniform 64..128 | 30 % 1024" or "empirical lengths.csv column=prompt_tokens"'
)


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
        return text + _bounds(self.min, self.max)


@dataclass(frozen=True, slots=True)
class Normal:
    """normal(mean, sd), rounded and clipped to `min`..`max`; `max` None: not clipped above."""

    mean: float
    sd: float
    min: int = 1
    max: int | None = None

    def __str__(self) -> str:
        text = f"normal mean={numbers.text(self.mean)} sd={numbers.text(self.sd)}"
        return text + _bounds(self.min, self.max)


@dataclass(frozen=True, slots=True)
class Empirical:
    """One of `values`, each drawn equally often, with replacement.

    Its identity is what was read, not where from: the text has the file's name and the values' digest,
    and is not read back.
    """

    values: tuple[int, ...]
    name: str
    digest: str = field(init=False, repr=False)  # sha256 of the values, first 12 hexadecimal digits

    def __post_init__(self) -> None:
        content = ",".join(map(str, self.values)).encode()
        object.__setattr__(self, "digest", hashlib.sha256(content).hexdigest()[:12])

    def __str__(self) -> str:
        return f"empirical {self.name} ({len(self.values)} values, sha256 {self.digest})"


@dataclass(frozen=True, slots=True)
class Mixture:
    """Each length from one of the laws, with its share (0..1) of the requests; no mixture among them."""

    parts: tuple[tuple[float, Lengths], ...]

    def __str__(self) -> str:
        return " | ".join(f"{_share_text(share)} {law}" for share, law in self.parts)


Lengths = Fixed | Uniform | Lognormal | Normal | Mixture | Empirical


def parse(value: Lengths | int | str, name: str, *, folder: Path | None = None) -> Lengths:
    """Lengths from a number or a text; `name` says in an error which argument it was.

    `folder`: where relative paths start; None: the working directory.

    Raises:
        UsageError: not one of the known forms, lengths below 1, or a file that is not readable.

    >>> parse("uniform 64..512", "prompt_tokens")
    Uniform(low=64, high=512)
    """
    if isinstance(value, bool):
        raise UsageError(f"{name} is not a length", seen=repr(value), do=f"write {_FORMS}")
    lengths = value if isinstance(value, Lengths) else _parse_text(str(value).strip(), name, folder)
    if fault := _fault(lengths):
        raise UsageError(f"{name}{fault}", seen=str(value), do=f"write {_FORMS}")
    return lengths


def draw(lengths: Lengths, rng: Generator, n: int) -> list[int]:
    """n lengths in tokens."""
    drawn: list[int] = draw_array(lengths, rng, n).tolist()
    return drawn


def draw_array(lengths: Lengths, rng: Generator, n: int) -> NDArray[np.int64]:
    """int64 (n,): lengths in tokens. Fewer are the first of more."""
    if isinstance(lengths, Fixed):
        return np.full(n, lengths.tokens, dtype=np.int64)
    if isinstance(lengths, Uniform):
        return rng.integers(lengths.low, lengths.high, size=n, endpoint=True)
    if isinstance(lengths, Empirical):
        return np.array(lengths.values, dtype=np.int64)[rng.integers(0, len(lengths.values), size=n)]
    if isinstance(lengths, Mixture):
        return _draw_mixture(lengths, rng, n)
    if isinstance(lengths, Lognormal):
        raw = rng.lognormal(math.log(lengths.median), lengths.sigma, size=n)
    else:
        raw = rng.normal(lengths.mean, lengths.sd, size=n)
    most = _MOST if lengths.max is None else lengths.max
    return raw.round().clip(lengths.min, most).astype(np.int64)


def largest(lengths: Lengths) -> int | None:
    """The largest length that can be drawn; None: no bound."""
    if isinstance(lengths, Fixed):
        return lengths.tokens
    if isinstance(lengths, Uniform):
        return lengths.high
    if isinstance(lengths, Empirical):
        return max(lengths.values)
    if isinstance(lengths, Mixture):
        bounds = [largest(law) for _, law in lengths.parts]
        return None if None in bounds else max(bound for bound in bounds if bound is not None)
    return lengths.max


def smallest(lengths: Lengths) -> int:
    """The smallest length that can be drawn."""
    if isinstance(lengths, Fixed):
        return lengths.tokens
    if isinstance(lengths, Uniform):
        return lengths.low
    if isinstance(lengths, Empirical):
        return min(lengths.values, default=0)
    if isinstance(lengths, Mixture):
        return min((smallest(law) for _, law in lengths.parts), default=0)
    return lengths.min


def mean(lengths: Lengths) -> float:
    """Tokens; of lognormal and normal laws as they are before rounding and clipping.

    >>> mean(Uniform(64, 128))
    96.0
    """
    if isinstance(lengths, Fixed):
        return float(lengths.tokens)
    if isinstance(lengths, Uniform):
        return (lengths.low + lengths.high) / 2
    if isinstance(lengths, Empirical):
        return sum(lengths.values) / len(lengths.values)
    if isinstance(lengths, Mixture):
        total = math.fsum(share for share, _ in lengths.parts)
        return math.fsum(share * mean(law) for share, law in lengths.parts) / total
    if isinstance(lengths, Lognormal):
        return lengths.median * math.exp(lengths.sigma**2 / 2)
    return lengths.mean


def _draw_mixture(mixture: Mixture, rng: Generator, n: int) -> NDArray[np.int64]:
    """Which law, and each law's lengths, have a stream each, so that fewer are the first of more."""
    choosing, *drawing = rng.spawn(1 + len(mixture.parts))
    shares = np.cumsum([share for share, _ in mixture.parts])
    which = np.searchsorted(shares / shares[-1], choosing.random(n), side="right")
    drawn = np.empty(n, dtype=np.int64)
    for k, (_, law) in enumerate(mixture.parts):
        own = which == k
        drawn[own] = draw_array(law, drawing[k], int(own.sum()))
    return drawn


def _fault(lengths: Lengths) -> str | None:
    """What is wrong, to stand after the argument's name; None: nothing."""
    if isinstance(lengths, Mixture):
        return _mixture_fault(lengths)
    if not smallest(lengths) >= 1:
        return " must be at least 1"
    most = largest(lengths)
    if max(most or 1, smallest(lengths)) > _MOST:
        return f" must be at most {_MOST:,}"
    if isinstance(lengths, Uniform) and lengths.high < lengths.low:
        return ": the range runs backwards"
    if isinstance(lengths, Lognormal) and not (1 <= lengths.median < _MOST and 0 <= lengths.sigma < 10):
        return ": median must be at least 1 and sigma from 0 to 10"
    if isinstance(lengths, Normal) and not (1 <= lengths.mean < _MOST and 0 <= lengths.sd < _MOST):
        return ": mean must be at least 1 and sd at least 0"
    if isinstance(lengths, Lognormal | Normal) and lengths.max is not None and lengths.max < lengths.min:
        return ": max is below min"
    return None


def _mixture_fault(mixture: Mixture) -> str | None:
    if any(isinstance(law, Mixture) for _, law in mixture.parts):
        return ": a mixture cannot hold another"
    if not all(share > 0 for share, _ in mixture.parts):
        return ": a share must be more than zero"
    total = math.fsum(share for share, _ in mixture.parts)
    if not abs(total - 1) <= _ROUNDING:
        return f": the shares add up to {total * 100:.4g} %, not 100 %"
    return next((fault for _, law in mixture.parts if (fault := _fault(law))), None)


def _bounds(low: int, high: int | None) -> str:
    return (f" min={low}" if low != 1 else "") + (f" max={high}" if high is not None else "")


def _share_text(share: float) -> str:
    """In percent where that is read back as the same number, else the plain number."""
    percent = f"{numbers.text(float(f'{share * 100:.15g}'))} %"
    return percent if units.parse(percent, "ratio") == share else numbers.text(share)


def _parse_text(text: str, name: str, folder: Path | None) -> Lengths:
    kind = text.partition(" ")[0].lower()
    if "|" in text:
        return Mixture(tuple(_parse_part(part.strip(), name, folder) for part in text.split("|")))
    if kind == "empirical":
        return _read(text, name, folder or Path())
    text = text.lower()
    if match := re.fullmatch(r"(?:fixed\s+)?(\d{1,18})", text):
        return Fixed(int(match[1]))
    if match := re.fullmatch(r"uniform\s+(\d{1,18})\s*(?:\.\.|-|to|\s)\s*(\d{1,18})", text):
        return Uniform(int(match[1]), int(match[2]))
    if match := re.fullmatch(rf"(lognormal|normal)((?:\s+{_WORD})*)", text):
        words = dict(re.findall(_WORD, match[2]))
        return _parse_law(match[1], words, text, name)
    raise UsageError(f"{name} is not a length", seen=repr(text), do=f"write {_FORMS}")


def _parse_law(kind: str, words: dict[str, str], text: str, name: str) -> Lognormal | Normal:
    middle, spread = ("median", "sigma") if kind == "lognormal" else ("mean", "sd")
    unknown = sorted(set(words) - {middle, spread, "min", "max"})
    missing = [word for word in (middle, spread) if word not in words]
    if unknown or missing:
        fault = f"does not know {', '.join(unknown)}" if unknown else f"lacks {', '.join(missing)}"
        raise UsageError(f"{name}: {kind} {fault}", seen=repr(text), do=f"write {_FORMS}")
    try:
        law = (Lognormal if kind == "lognormal" else Normal)(float(words[middle]), float(words[spread]))
        low, high = int(words.get("min", "1")), int(words["max"]) if "max" in words else None
    except ValueError as error:
        raise UsageError(f"{name}: not a number", seen=repr(text), do=f"write {_FORMS}") from error
    if isinstance(law, Lognormal):
        return Lognormal(law.median, law.sigma, min=low, max=high)
    return Normal(law.mean, law.sd, min=low, max=high)


def _parse_part(part: str, name: str, folder: Path | None) -> tuple[float, Lengths]:
    match = _SHARE.fullmatch(part)
    if match is None:
        what = f"{name}: a part of a mixture needs a share and lengths"
        raise UsageError(what, seen=repr(part), do=f"write {_FORMS}")
    percent = match[1].endswith("%")
    share = units.parse(match[1], "ratio") if percent else float(match[1])
    return share, parse(match[2], name, folder=folder)


def _read(text: str, name: str, folder: Path) -> Empirical:
    """`empirical FILE` or `empirical FILE column=NAME`."""
    try:
        _, file, *words = shlex.split(text)
        given = dict(word.split("=", 1) for word in words)
    except ValueError:
        file, given = "", {}
    if not file or set(given) - {"column"}:
        raise UsageError(f"{name}: empirical is not readable", seen=repr(text), do=f"write {_FORMS}")
    path, column = folder / Path(file).expanduser(), given.get("column")
    textfiles.check(path, name)
    values = []
    do = 'have one whole number from 1 a line, or name a column: "empirical FILE.csv column=NAME"'
    for line, cell in _cells(path, column, do):
        try:
            values.append(int(cell))
        except ValueError as error:
            what = f"{name}: a length is not a whole number"
            raise textfiles.wrong(path, f"line {line}", cell, what, do) from error
        if not 1 <= values[-1] <= _MOST:
            what = f"{name}: a length must be from 1 to {_MOST:,}"
            raise textfiles.wrong(path, f"line {line}", cell, what, do)
    if not values:
        raise UsageError(f"{name}: the file has no lengths", seen=str(path), do=do)
    return Empirical(tuple(values), path.name + (f" column={column}" if column else ""))


def _cells(path: Path, column: str | None, do: str) -> Iterator[tuple[int, str]]:
    """(line, text) of each length."""
    if column is None:
        yield from ((n, line.strip()) for n, line in enumerate(textfiles.lines(path), 1) if line.strip())
        return
    rows = textfiles.csv_rows(path)
    index = textfiles.columns(path, next(rows, (1, [""]))[1], [column], do)[0]
    for line, fields in rows:
        yield line, fields[index] if index < len(fields) else ""
