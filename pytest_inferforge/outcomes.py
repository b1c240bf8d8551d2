"""What was answered, and how well: plain frozen data of the quality side, as `records` is of the load side.

Scores are per item, mostly 0 or 1; a share such as an accuracy or a loss is 0 to 1 (0.03 is 3 points).
"""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 (the codec reads these annotations at run time)
from dataclasses import dataclass, field
from enum import StrEnum


class QualityKind(StrEnum):
    """What a quality verdict is about."""

    NOT_WORSE_THAN = "not_worse_than"  # than a baseline, or than the first variant
    AT_LEAST = "at_least"  # a floor
    UNDER_LOAD = "under_load"  # the same boot without load


class QualityVerdict(StrEnum):
    """What a quality check can say: of a floor the first two and the third, of a comparison the others."""

    PASS = "pass"  # noqa: S105 (a verdict, not a password)
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    NOT_REGRESSED = "not_regressed"
    IMPROVED = "improved"
    REGRESSED = "regressed"
    INCOMPARABLE = "incomparable"
    NO_BASELINE = "no_baseline"

    @property
    def judged(self) -> bool:
        """Whether the evidence was weighed at all."""
        return self not in (QualityVerdict.INCOMPARABLE, QualityVerdict.NO_BASELINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeat:
    """The first items asked a second time of the same boot: what changes when nothing did."""

    n: int
    flipped: int  # items whose score changed
    changed: int | None  # items whose reply changed; None: nothing was written


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcomes:
    """One task of one test in one session: what a baseline keeps and a gate pairs.

    Of the items that were answered: `keys` (a digest of document, prompt and target each, unique), `scores`
    and, each either empty or as long, `clusters` (items of one cluster do not err independently), `replies`
    (a digest of what was written), `likelihoods` (log-likelihoods of the choices, nats).
    `said`: the replies of the first items, cut after `SAID_CHARACTERS`.
    `identity`: what must be equal for items to be paired: versions of the task, shots, the way it was asked.
    `unanswered`: items without a score, because their request failed. `truncated`: replies cut at the most
    tokens allowed. `tied`: items of which no choice was the best. `chance`: the score of a coin, None:
    unknown. `perplexity`: of the right choices, per token. `margin`: what a comparison may
    lose, as the test says, None: it does not say.
    """

    task: str
    metric: str
    filter: str
    higher_is_better: bool
    keys: tuple[str, ...]
    scores: tuple[float, ...]
    clusters: tuple[str, ...] = ()
    replies: tuple[str, ...] = ()
    likelihoods: tuple[tuple[float, ...], ...] = ()
    said: tuple[str, ...] = ()
    identity: Mapping[str, str] = field(default_factory=dict)
    unanswered: int = 0
    truncated: int = 0
    tied: int = 0
    chance: float | None = None
    perplexity: float | None = None
    margin: float | None = None
    repeat: Repeat | None = None

    @property
    def value(self) -> float | None:
        """The mean score; None: nothing was answered."""
        return sum(self.scores) / len(self.scores) if self.scores else None


SAID_ITEMS = 64
SAID_CHARACTERS = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityResult:
    """One verdict on one task. `value` is the mean score; of a comparison also:

    `worse`, `better`: items that lost or gained, `loss` the mean loss (0.03: 3 points worse) and `upper` its
    one-sided bound, `margin` what it may be, `p` that it is no loss at all and `p_adjusted` the same over the
    family, `needed` the number of items that would decide. Of a floor: `limit`, and `lower` and `upper` are
    bounds of the value. `reference`: what was paired with, for a person to read.
    """

    nodeid: str
    task: str
    metric: str
    kind: QualityKind
    verdict: QualityVerdict
    value: float | None
    n: int
    worse: int = 0
    better: int = 0
    loss: float | None = None
    lower: float | None = None
    upper: float | None = None
    margin: float | None = None
    limit: float | None = None
    p: float | None = None
    p_adjusted: float | None = None
    needed: int | None = None
    reference: str = ""
    reference_value: float | None = None
    misses_limit: bool = False  # the point estimate of a floor misses it
    reason: str = ""
