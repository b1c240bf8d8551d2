"""Many comparisons in one session: none may go red by chance alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def holm(p: Sequence[float], family_size: int) -> tuple[float, ...]:
    """Adjusted p, in the order given: reject where it is at most alpha.

    `family_size` may exceed `len(p)`: the members that were not measured count as p = 1, so that a part of
    a suite is judged as strictly as the whole.

    Source: Holm 1979.

    Raises:
        ValueError: the family is smaller than the p values given.
    """
    if family_size < len(p):
        raise ValueError(f"a family of {family_size} cannot hold {len(p)} comparisons")
    adjusted = [1.0] * len(p)
    highest = 0.0
    for rank, i in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        highest = max(highest, min(1.0, (family_size - rank) * p[i]))
        adjusted[i] = highest
    return tuple(adjusted)
