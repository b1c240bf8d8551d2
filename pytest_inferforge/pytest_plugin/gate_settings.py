"""What is said about the gate itself: its reference, its budget, what may differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_inferforge import units
from pytest_inferforge.errors import UsageError
from pytest_inferforge.options import SessionOptions

if TYPE_CHECKING:
    from collections.abc import Mapping

MOST_PAIRS = 100
TAILS = ("p99", "p95", "cvar95")


@dataclass(frozen=True, slots=True, kw_only=True)
class GateSettings:
    """`against`: the named server that is the reference in this session; `pairs` of boots of it and of what
    is tested, None: as the boots take. `budget_s`: for boots beyond the planned ones. `under_test`: identity
    keys that may differ from the baseline's. `null_control`: boot the reference as a third arm too, None:
    when the session is saved. `plan`: say what would be done, and do nothing. `tail`: which statistic of TTFT
    stands for its slow end.
    """

    against: str | None
    pairs: int | None
    budget_s: float
    under_test: frozenset[str]
    null_control: bool | None
    plan: bool
    tail: str


def read(option: Mapping[str, Any], file: Mapping[str, Any]) -> GateSettings:
    """From the command line and the project's file.

    Raises:
        UsageError: a value that is none.
    """
    pairs = option["infer_pairs"] if option["infer_pairs"] is not None else file.get("pairs")
    if pairs is not None and (
        not isinstance(pairs, int) or isinstance(pairs, bool) or not 2 <= pairs <= MOST_PAIRS
    ):
        raise UsageError(
            f"pairs of boots are a whole number from 2 to {MOST_PAIRS}",
            seen=repr(pairs),
            do="write --infer-pairs=4: with fewer than 2 a drift cannot be told from a change",
        )
    budget = option["infer_budget"] or file.get("budget", SessionOptions().budget)
    if not isinstance(budget, str):
        raise UsageError("budget is no time", seen=repr(budget), do='write budget = "30 min"')
    named = [name.strip() for text in option["infer_under_test"] for name in text.split(",")]
    if "" in named:
        raise UsageError(
            "--infer-under-test names nothing", seen=repr(option["infer_under_test"]),
            do="write the keys that may differ: --infer-under-test=quantization,model",
        )  # fmt: skip
    tail = file.get("tail", SessionOptions().tail)
    if tail not in TAILS:
        raise UsageError("unknown tail", seen=repr(tail), do=f"write one of: {', '.join(TAILS)}")
    return GateSettings(
        against=option["infer_against"],
        pairs=pairs,
        budget_s=units.parse(budget, "s"),
        under_test=frozenset(named),
        null_control=True if option["infer_null_control"] else None,
        plan=option["infer_plan"],
        tail=tail,
    )
