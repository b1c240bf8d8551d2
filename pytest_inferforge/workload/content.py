"""What goes into requests beside lengths: shared prefixes, images, pauses of a conversation, prompt files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pytest_inferforge import units
from pytest_inferforge.errors import UsageError
from pytest_inferforge.workload import numbers

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray

_PREFIXES = re.compile(rf"(\d+)\s*x\s*(\d+)(?:\s*tokens?)?(?:\s*,\s*({numbers.PATTERN})\s*%)?", re.IGNORECASE)
_IMAGES = re.compile(r"(?:(\d+)\s*x\s+)?(\d+)\s*x\s*(\d+)", re.IGNORECASE)
_LARGEST_SIDE = 8192  # pixels


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefixes:
    """`count` beginnings of `tokens` each; a `share` of the requests begins with one of them."""

    count: int
    tokens: int
    share: float

    def __str__(self) -> str:
        return f"{self.count} x {self.tokens} tokens, {numbers.text(round(self.share * 100, 9))} %"


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """`count` generated PNG images of `width` x `height` pixels in each request."""

    count: int
    width: int
    height: int

    def __str__(self) -> str:
        return f"{self.count} x {self.width}x{self.height}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """What a user takes to think before the next turn; `exponential`: with that mean, else always."""

    mean_s: float
    exponential: bool

    def __str__(self) -> str:
        return ("exponential " if self.exponential else "") + f"{numbers.text(self.mean_s)} s"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRef:
    """A file that a workload is made from; two are equal when their contents are."""

    path: str
    digest: str  # sha256, first 16 hexadecimal digits

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FileRef) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __str__(self) -> str:
        return f"{self.path.rpartition('/')[2]} (sha256 {self.digest})"


def parse_prefixes(value: Prefixes | str) -> Prefixes:
    """`"4 x 512 tokens"` or `"4 x 512 tokens, 80 %"`.

    Raises:
        UsageError: not of that form, or nothing in it.
    """
    form = 'write shared_prefix="4 x 512 tokens" or "4 x 512 tokens, 80 %"'
    if isinstance(value, Prefixes):
        found = value
    else:
        match = _PREFIXES.fullmatch(str(value).strip())
        if match is None:
            raise UsageError("shared_prefix is not readable", seen=repr(value), do=form)
        share = float(match[3]) / 100 if match[3] else 1.0
        found = Prefixes(count=int(match[1]), tokens=int(match[2]), share=share)
    if found.count < 1 or found.tokens < 1 or not 0 < found.share <= 1:
        raise UsageError("shared_prefix shares nothing", seen=str(value), do=form)
    return found


def parse_images(value: Images | str) -> Images:
    """`"512x512"` or `"2 x 512x512"`.

    Raises:
        UsageError: not of that form, or a side that no image has.
    """
    form = 'write images="512x512" or images="2 x 512x512"'
    if isinstance(value, Images):
        found = value
    else:
        match = _IMAGES.fullmatch(str(value).strip())
        if match is None:
            raise UsageError("images are not readable", seen=repr(value), do=form)
        found = Images(count=int(match[1] or 1), width=int(match[2]), height=int(match[3]))
    if not (found.count >= 1 and all(1 <= side <= _LARGEST_SIDE for side in (found.width, found.height))):
        what = f"images have a count from 1 and sides from 1 to {_LARGEST_SIDE} pixels"
        raise UsageError(what, seen=str(value), do=form)
    return found


def parse_pause(value: Pause | str | float) -> Pause:
    """`2`, `"2 s"` or `"exponential 2 s"`.

    Raises:
        UsageError: no duration.
    """
    if isinstance(value, Pause):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
        return Pause(mean_s=float(value), exponential=False)
    text = str(value).strip()
    kind, _, rest = text.partition(" ")
    exponential = kind.lower() == "exponential"
    try:
        return Pause(mean_s=units.parse(rest if exponential else text, "s"), exponential=exponential)
    except UsageError as error:
        do = 'write think_time="2 s" or think_time="exponential 2 s"'
        raise UsageError(f"think_time: {error.what}", seen=repr(value), do=do) from error


def draw_pauses(pause: Pause | None, rng: Generator, n: int) -> NDArray[np.float64]:
    """float64 (n,): seconds."""
    if pause is None:
        return np.zeros(n)
    return rng.exponential(pause.mean_s, size=n) if pause.exponential else np.full(n, pause.mean_s)
