"""What a comparison can see, and what it would take to see more.

`sd` is the standard deviation of one unit (a session) on the log scale; a ratio > 1 is a worsening.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import special

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.floating[Any]]
    Ints = NDArray[np.int64]

MOST = 1000  # sessions or boots that anybody would wait for


def mde_ratio(sd: float, n: int, m: int, alpha: float, power: float) -> float:
    """The smallest worsening, as a ratio > 1, that n reference and m current units show with that power.

    Source: two-sample t, exp((t_alpha + t_(1 - power)) * sd * sqrt(1/n + 1/m)) with n + m - 2 degrees of
    freedom (the usual approximation to the noncentral t).
    """
    return math.exp(_reach(n, m, alpha, power) * sd)


def detectable_shift(
    sd: float, n: int, m: int, alpha: float, power: float, margin_shift: float, spent_df: int = 2
) -> float:
    """What the whole rule sees with that power: significant *and* at least the margin apart.

    All shifts are on the scale of `sd` (`exp` of one is a ratio). Never below `margin_shift`: a smaller
    change is not red, however well it is measured. `spent_df`: degrees of freedom that the fit takes, 3 with
    a trend.
    """
    se = sd * math.sqrt(1.0 / n + 1.0 / m)
    df = float(n + m - spent_df)
    threshold = max(float(special.stdtrit(df, 1.0 - alpha)) * se, margin_shift)
    return threshold + float(special.stdtrit(df, power)) * se


def more_sessions(sd: float, n: int, m: int, alpha: float, power: float, shift: float) -> int | None:
    """How many reference sessions beyond the n stored ones would show a worsening of `shift`.

    None: not even `MOST` would; the noise of the current side alone hides it.
    """
    sizes, reach = _reach_by_sessions(n, m, alpha, power)
    enough = np.flatnonzero(reach * sd <= shift)
    return int(sizes[enough[0]]) - n if len(enough) else None


def pairs_needed(sd: float, alpha: float, power: float, shift: float) -> int | None:
    """How many pairs of boots, measured in turns, would show a worsening of `shift`; None: not `MOST`."""
    pairs, reach = _reach_by_pairs(alpha, power)
    enough = np.flatnonzero(reach * sd <= shift)
    return int(pairs[enough[0]]) if len(enough) else None


def boots_a_session(
    session_sd: float, boot_sd: float, n: int, m: int, alpha: float, power: float, shift: float
) -> int | None:
    """How many boots in every session, stored and current, would show a worsening of `shift`.

    A session's mean over k boots has the variance session_sd**2 + boot_sd**2 / k.
    None: not even `MOST` would; the sessions themselves differ too much.
    """
    boots = np.arange(1, MOST + 1)
    sd = np.sqrt(session_sd**2 + boot_sd**2 / boots)
    enough = np.flatnonzero(_reach(n, m, alpha, power) * sd <= shift)
    return int(boots[enough[0]]) if len(enough) else None


@lru_cache(maxsize=64)
def _reach_by_sessions(n: int, m: int, alpha: float, power: float) -> tuple[Ints, Floats]:
    """Numbers of reference sessions from n on, and the detectable difference with each in units of `sd`."""
    sizes: Ints = np.arange(max(n, 3 - m), MOST + 1, dtype=np.int64)
    df = sizes + m - 2.0
    quantiles: Floats = special.stdtrit(df, 1.0 - alpha) + special.stdtrit(df, power)
    return sizes, quantiles * np.sqrt(1.0 / sizes + 1.0 / m)


@lru_cache(maxsize=64)
def _reach_by_pairs(alpha: float, power: float) -> tuple[Ints, Floats]:
    """The same for pairs of boots in turns, from 2 on."""
    pairs: Ints = np.arange(2, MOST + 1, dtype=np.int64)
    df = 2.0 * pairs - 3.0
    quantiles: Floats = special.stdtrit(df, 1.0 - alpha) + special.stdtrit(df, power)
    return pairs, quantiles * np.sqrt(2.0 / pairs)


def _reach(n: int, m: int, alpha: float, power: float) -> float:
    """The detectable difference in units of `sd`."""
    df = float(n + m - 2)
    quantiles = float(special.stdtrit(df, 1.0 - alpha)) + float(special.stdtrit(df, power))
    return quantiles * math.sqrt(1.0 / n + 1.0 / m)
