"""What the gate can see with this noise, and what would let it see more."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from pytest_inferforge import metrics
from pytest_inferforge.gate.scale import margin_of
from pytest_inferforge.options import JudgeOptions
from pytest_inferforge.stats import power
from pytest_inferforge.stats.components import blocks_a_unit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_inferforge.calibration.noise import Noise

SESSIONS = (3, 5, 10, 20)
"""Numbers of stored sessions for which is said what they show."""
MOST_MARGIN = 0.5  # beyond it a gate is not worth its time
MOST_BOOTS = 20  # a session, that anybody would wait for
_MARGINS = tuple(f.name for f in fields(JudgeOptions) if f.name.startswith("margin_"))
_NUMBERED = JudgeOptions(**{name: float(k) for k, name in enumerate(_MARGINS)})  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """Of one gated metric. Changes are relative, of a share in points / 100; None: nothing so small is left.

    `detectable`: stored sessions -> the smallest worsening that is red with the power asked for; `in_turns`:
    with pairs of boots in turns. `boots`: in every session, stored and current, that would show the margin
    with the wanted number of sessions; None: not even 20 do, or nobody knows how boots differ. `requests`: on
    each boot, for the best mean or rate at a given cost; None: not known, boots do not differ, or the
    metric is a quantile or a share, which are biased in few requests.
    """

    nodeid: str
    metric: str
    detectable: Mapping[int, float | None]
    in_turns: float | None
    boots: int | None
    requests: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Margin:
    """One of `[margins]`: what it is, and the least that the wanted number of sessions shows of every metric
    under it. `metric`: the one that needs it.
    """

    name: str
    now: float
    least: float
    nodeid: str
    metric: str

    @property
    def suggested(self) -> float | None:
        """In whole percents; what it is, where that is enough; None: no margin worth having is."""
        if self.least <= self.now:
            return self.now
        return None if self.least > MOST_MARGIN else math.ceil(self.least * 100.0 - 1e-9) / 100.0


def advise(noise: Noise, *, family: int, boots: int, pairs: int, options: JudgeOptions) -> Advice:
    """What sessions of so many boots can see, after Holm over the family.

    The boots in turns are of one session, whose part they share; there Holm runs over what is suspicious,
    and is left out.
    """
    margin = margin_of(metrics.metric(noise.metric), options)
    too_much = noise.scale.worse_shift(noise.base, margin)
    alpha, sd = options.alpha / family, noise.session_mean_sd(boots, options)

    def seen(n: int, m: int, alpha: float, sd: float, spent_df: int = 2) -> float | None:
        shift = power.detectable_shift(sd, n, m, alpha, options.power, too_much, spent_df)
        return abs(noise.change(shift)) if math.isfinite(shift) else None

    turns = None
    if noise.one_boot_sd is not None:
        one = max(noise.one_boot_sd, noise.floor(1, options))
        turns = seen(pairs, pairs, options.alpha, one, spent_df=3)
    return Advice(
        nodeid=noise.nodeid,
        metric=noise.metric,
        detectable={n: seen(n, 1, alpha, sd) for n in SESSIONS},
        in_turns=turns,
        boots=_boots(noise, alpha, too_much, options),
        requests=_requests(noise, options),
    )


def margins(noises: Sequence[Noise], *, family: int, boots: int, options: JudgeOptions) -> tuple[Margin, ...]:
    """Each of `[margins]` that a metric here is under; those of shares cannot be set, and are left out."""
    found: dict[str, Margin] = {}
    for noise in noises:
        name = margin_name(noise.metric)
        if noise.scale.share or name is None:
            continue
        sd = noise.session_mean_sd(boots, options)
        seen = power.mde_ratio(sd, options.wanted_sessions, 1, options.alpha / family, options.power) - 1.0
        if name not in found or seen > found[name].least:
            now = margin_of(metrics.metric(noise.metric), options)
            found[name] = Margin(
                name=name, now=now, least=seen, nodeid=noise.nodeid, metric=noise.metric
            )  # fmt: skip
    return tuple(found.values())


def margin_name(metric_id: str) -> str | None:
    """The key of `[margins]` that a metric is under: `mean`, `p99`, ...; None: its margin has no key."""
    name = _MARGINS[round(margin_of(metrics.metric(metric_id), _NUMBERED))].removeprefix("margin_")
    return None if name.endswith("_points") else name


def _boots(noise: Noise, alpha: float, shift: float, options: JudgeOptions) -> int | None:
    if noise.one_boot_sd is None or not math.isfinite(shift):
        return None
    needed = power.boots_a_session(
        noise.session_sd, noise.one_boot_sd, options.wanted_sessions, 1, alpha, options.power, shift
    )
    return needed if needed is not None and needed <= MOST_BOOTS else None


def _requests(noise: Noise, options: JudgeOptions) -> int | None:
    """A block is one of the batches into which the requests of a boot are cut."""
    metric = metrics.metric(noise.metric)
    if noise.scale.share or metric.statistic not in (None, "mean"):
        return None
    if not noise.boot_s or not noise.load_s or not noise.request_sd or not noise.boot_sd:
        return None
    blocks = min(options.batches, noise.requests)
    of_a_block = noise.request_sd * math.sqrt(blocks)
    wanted = blocks_a_unit(noise.boot_s, noise.load_s / blocks, noise.boot_sd, of_a_block)
    return None if wanted is None else math.ceil(wanted * noise.requests / blocks)
