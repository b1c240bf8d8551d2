"""Two rules for a share of requests that may miss: counted once at the end, or looked at while they come.

Both take exceedances as bool (n,), the requests of one boot after the other in the order of their schedule,
and have the same functions.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from pytest_inferforge.records import SloVerdict
from pytest_inferforge.stats import intervals, sequential

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_inferforge.measures import Bools, Floats
    from pytest_inferforge.options import JudgeOptions
    from pytest_inferforge.stats.sequential import Ints

_HALVINGS = 12  # of the interval that a bound of a share lies in: a thousandth is enough to print


class Rule(Protocol):
    """What decides on a share, and what it can say beside its verdict."""

    @property
    def alpha(self) -> float:
        """Of the count at the planned end."""
        ...

    def keeps(self, over: Bools) -> bool:
        """Whether it is shown that no more than the allowed share misses."""
        ...

    def misses(self, over: Bools) -> bool:
        """Whether it is shown that more than the allowed share misses."""
        ...

    def verdict(self, over: Bools) -> SloVerdict:
        """What is decided; of two contradicting decisions the first."""
        ...

    def share_bounds(self, over: Bools) -> tuple[float, float]:
        """One-sided bounds of the share that misses, which say what the verdict says."""
        ...

    def effect(self, over: Bools) -> float:
        """How many requests are worth an independent one."""
        ...

    def decided(self, over: Bools) -> str:
        """When it was decided, for a person; empty: at the end."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Fixed:
    """The exact binomial rule on n / D of the requests, once, when all have come.

    `sizes`: requests of each boot. `factor`: what D is multiplied by. `strict`: a share that is the allowed
    one misses.
    """

    sizes: tuple[int, ...]
    allowed: float
    alpha: float
    batches: int
    factor: float = 1.0
    strict: bool = False

    def keeps(self, over: Bools) -> bool:
        _, high = self.share_bounds(over)
        return high < self.allowed or (high == self.allowed and not self.strict)

    def misses(self, over: Bools) -> bool:
        low, _ = self.share_bounds(over)
        return low > self.allowed or (low == self.allowed and self.strict)

    def verdict(self, over: Bools) -> SloVerdict:
        if self.keeps(over):
            return SloVerdict.PASS
        return SloVerdict.FAIL if self.misses(over) else SloVerdict.INCONCLUSIVE

    def share_bounds(self, over: Bools) -> tuple[float, float]:
        effect = self.effect(over)
        x, n = float(over.sum()) / effect, len(over) / effect
        return intervals.binomial_lower(x, n, self.alpha), intervals.binomial_upper(x, n, self.alpha)

    def effect(self, over: Bools) -> float:
        return self.factor * intervals.design_effect(split(over, self.sizes), self.batches, self.alpha)

    def decided(self, over: Bools) -> str:  # noqa: ARG002 (as of every rule)
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """The e-processes at alpha / 2 on all requests, and `fixed` at alpha / 2 on the planned ones.

    `fixed` None: the run was ended before. `planned`: bool (n,). With one boot the e-processes are looked at
    in blocks and the first decision counts; with several only at the end, since their design effect must know
    how boots differ. `columns`: each boot's latencies, where the share is of a latency: what is more frequent
    than the exceedances shows how requests repeat each other.
    """

    sizes: tuple[int, ...]
    allowed: float
    alpha: float
    batches: int
    every: int
    first: int
    common_share: float
    planned: Bools
    fixed: Fixed | None
    columns: tuple[Floats, ...] = ()
    _effects: dict[int, float] = field(default_factory=dict, repr=False)  # of prefixes, by their length

    def keeps(self, over: Bools) -> bool:
        fixed = self.fixed is not None and self.fixed.keeps(over[self.planned])
        return fixed or self._look(over, sequential.BELOW) is not None

    def misses(self, over: Bools) -> bool:
        fixed = self.fixed is not None and self.fixed.misses(over[self.planned])
        return fixed or self._look(over, sequential.ABOVE) is not None

    def verdict(self, over: Bools) -> SloVerdict:
        return self._first(over)[1]

    def share_bounds(self, over: Bools) -> tuple[float, float]:
        low, high = 0.0, 1.0
        if self.fixed is not None:
            low, high = self.fixed.share_bounds(over[self.planned])
        below, above = (
            functools.partial(self._shows, over, ratios) for ratios in (sequential.BELOW, sequential.ABOVE)
        )
        _, most = _boundary(lambda share: not below(share), self.allowed)
        least, _ = _boundary(above, self.allowed)
        return min(max(low, least), high, most), min(high, most)

    def effect(self, over: Bools) -> float:
        found = intervals.design_effect(split(over, self.sizes), self.batches)
        return max(found, self._reference(len(over)))

    def decided(self, over: Bools) -> str:
        n, verdict = self._first(over)
        if verdict is SloVerdict.INCONCLUSIVE or n == len(over):
            return ""
        return f"decided after {n} of them"

    def _first(self, over: Bools) -> tuple[int, SloVerdict]:
        found = [
            (look.n, 0, verdict)
            for verdict, ratios in (
                (SloVerdict.PASS, sequential.BELOW),
                (SloVerdict.FAIL, sequential.ABOVE),
            )
            if (look := self._look(over, ratios)) is not None
        ]
        if self.fixed is not None:
            found.append((int(self.planned.sum()), 1, self.fixed.verdict(over[self.planned])))
        told = sorted(one for one in found if one[2] is not SloVerdict.INCONCLUSIVE)
        return (told[0][0], told[0][2]) if told else (len(over), SloVerdict.INCONCLUSIVE)

    def _look(
        self, over: Bools, ratios: Sequence[float], allowed: float | None = None
    ) -> sequential.Look | None:
        share = self.allowed if allowed is None else allowed
        if len(self.sizes) > 1:
            effect = self.effect(over)
            x, n = float(over.sum()) / effect, len(over) / effect
            told = float(sequential.log_e(x, n, share, ratios)) >= -math.log(self.alpha)
            return sequential.Look(n=len(over), effect=effect) if told else None
        return sequential.first_look(
            over,
            share,
            self.alpha,
            ratios,
            at=self._looks(len(over)),
            batches=self.batches,
            reference=self._reference,
        )

    def _looks(self, n: int) -> Ints:
        """In blocks, and once more at the end."""
        found = sequential.looks(n, every=self.every, first=self.first)
        return np.unique(np.append(found, n)) if n >= self.first else found

    def _shows(self, over: Bools, ratios: Sequence[float], allowed: float) -> bool:
        return self._look(over, ratios, allowed) is not None

    def _reference(self, n: int) -> float:
        if n not in self._effects:
            parts = self.columns if len(self.sizes) > 1 else [column[:n] for column in self.columns]
            self._effects[n] = sequential.common_effect(parts, self.common_share, self.batches)
        return self._effects[n]


def looked(
    columns: Sequence[Floats],
    sizes: Sequence[int],
    planned: Bools,
    allowed: float,
    options: JudgeOptions,
    *,
    stopped: bool,
    strict: bool = False,
) -> Looked:
    """The rule of a run that was looked at while it ran; `stopped`: and ended before its planned requests."""
    alpha = options.alpha / 2.0
    counted = [int(part.sum()) for part in split(planned, sizes)]
    fixed = Fixed(sizes=tuple(counted), allowed=allowed, alpha=alpha, batches=options.batches, strict=strict)
    return Looked(
        sizes=tuple(sizes),
        allowed=allowed,
        alpha=alpha,
        batches=options.batches,
        every=options.look_every,
        first=options.look_first,
        common_share=min(0.5, options.look_common_factor * allowed),
        planned=planned,
        fixed=None if stopped else fixed,
        columns=tuple(columns),
    )


def split(over: Bools, sizes: Sequence[int]) -> list[Bools]:
    """What belongs to each boot."""
    return np.split(over, np.cumsum(sizes)[:-1])


def _boundary(shown: Callable[[float], bool], allowed: float) -> tuple[float, float]:
    """Two shares near each other between which `shown`, true of small ones, becomes untrue.

    Both are on that side of `allowed` on which `shown(allowed)` says they are.
    """
    low, high = (allowed, 1.0) if shown(allowed) else (0.0, allowed)
    for _ in range(_HALVINGS):
        middle = math.sqrt(low * high) if low >= allowed else (low + high) / 2.0
        low, high = (middle, high) if shown(middle) else (low, middle)
    return low, high
