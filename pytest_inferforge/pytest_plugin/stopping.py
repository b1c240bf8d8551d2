"""Whether what has come back of a load decides its SLOs already. Knows no pytest."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from pytest_inferforge import slo as slos

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from pytest_inferforge.loadgen.plan import Progress
    from pytest_inferforge.measures import Bools, Floats, Limits
    from pytest_inferforge.options import JudgeOptions
    from pytest_inferforge.slo import Slo
    from pytest_inferforge.table import RequestTable
    from pytest_inferforge.workload.schedule import Requests

T = TypeVar("T", bound=np.generic)
_SLACK_S = 1.0  # from the end of a request until its row must have been read


@dataclass(slots=True)
class _Outcomes:
    """Of one clause, by place in the schedule, as far as requests have ended. `decided` stays."""

    limits: Limits
    counted: Bools = field(default_factory=lambda: np.zeros(0, dtype=bool))
    over: Bools = field(default_factory=lambda: np.zeros(0, dtype=bool))
    column: Floats = field(default_factory=lambda: np.zeros(0))
    decided: bool = False


class Stopping:
    """Takes requests as they end, and says when every clause is decided.

    At any moment those that have ended are the fast ones. So they are taken in the order of the schedule,
    up to the first one that is still out; in an open loop one that is out for longer than a limit on the
    end-to-end time is known to exceed it. (Of other latencies that is not known: its first token may have
    come.) `before`: what was measured on this boot already.
    """

    def __init__(
        self,
        checks: Sequence[Slo],
        options: JudgeOptions,
        schedule: Requests,
        *,
        classes: Sequence[str] = (),
        before: Sequence[RequestTable] = (),
    ) -> None:
        self._options = options
        self._schedule = schedule
        self._classes = tuple(classes)
        self._clauses = {c: _Outcomes(limits=slos.per_request_limits(checks, c.of)) for c in checks}
        self._before = {
            c: [self._of(c, table, clause.limits) for table in before] for c, clause in self._clauses.items()
        }
        self._ended = np.zeros(0, dtype=bool)

    def __call__(self, new: RequestTable, progress: Progress) -> bool:
        """Whether it is enough, `new` having ended since the last call."""
        size = max(len(self._ended), int(new.index.max(initial=-1)) + 1)
        self._ended = _grown(self._ended, size)
        self._ended[new.index] = True
        for check, clause in self._clauses.items():
            counted, over, column = self._of(check, new, clause.limits)
            for name, found in (("counted", counted), ("over", over), ("column", column)):
                grown = _grown(getattr(clause, name), size)
                grown[new.index] = found
                setattr(clause, name, grown)
            clause.decided = clause.decided or self._decided(check, clause, progress.elapsed_ns / 1e9)
        return all(clause.decided for clause in self._clauses.values())

    def _of(self, check: Slo, table: RequestTable, limits: Limits) -> tuple[Bools, Bools, Floats]:
        counted, over, column = slos.outcomes(check, table, limits)
        if check.of in self._classes:
            counted = counted & (table.cls == self._classes.index(check.of))
        return counted, over, column

    def _decided(self, check: Slo, clause: _Outcomes, now_s: float) -> bool:
        late = self._late(check, len(self._ended), now_s)
        known = self._ended | late
        n = len(known) if known.all() else int(np.argmin(known))
        counted = (clause.counted | late)[:n]
        over = (clause.over | late)[:n][counted]
        column = np.where(late, np.inf, clause.column)[:n][counted]
        parts = [(o[c], v[c]) for c, o, v in self._before[check]] + [(over, column)]
        sample = slos.Sample(
            over=np.concatenate([o for o, _ in parts]), column=np.concatenate([v for _, v in parts])
        )
        return slos.decided(check, sample, self._options)

    def _late(self, check: Slo, n: int, now_s: float) -> Bools:
        """bool (n,): still out, and longer than the clause allows."""
        late = np.zeros(n, dtype=bool)
        if check.metric.quantity.id != "e2e_s":
            return late
        due_s, cls = self._schedule.due_s[:n], self._schedule.cls[:n]
        late[: len(due_s)] = now_s - due_s > check.limit + _SLACK_S  # NaN, of a closed loop: no
        if check.of in self._classes:
            late[: len(due_s)] &= cls == self._classes.index(check.of)
        return late & ~self._ended


def _grown(column: NDArray[T], size: int) -> NDArray[T]:
    """The column with room for `size`."""
    return (
        column
        if len(column) >= size
        else np.concatenate((column, np.zeros(size - len(column), column.dtype)))
    )
