"""One clause of a service level objective, in the words people use for it."""

from __future__ import annotations

import math
import operator
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, cast

from pytest_inferforge import metrics, units
from pytest_inferforge.errors import UsageError
from pytest_inferforge.stats import intervals

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_inferforge.measures import Limits

Op = Literal["<", "<=", ">", ">="]
Confidence = Literal["boot", "deploy"]

_SATISFIES = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
_OPERATOR = re.compile(r"<=|>=|=<|=>|<|>|\N{LESS-THAN OR EQUAL TO}|\N{GREATER-THAN OR EQUAL TO}")
_CLASSED = re.compile(r"\s*([A-Za-z][A-Za-z0-9_-]*)\s*:\s*(.+)")
_SPELLINGS = {"=<": "<=", "\N{LESS-THAN OR EQUAL TO}": "<=", "=>": ">=", "\N{GREATER-THAN OR EQUAL TO}": ">="}
_STATISTICS = {"avg": "mean", "average": "mean", "median": "p50", "mean": "mean", "max": "max"}
_BY_UNIT = {"tok/s": "output_tok_per_s", "req/s": "request_per_s"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Slo:
    """One clause: `metric op limit`, the limit in the metric's base unit.

    Two spellings of the same clause are equal; `text` is what was written. `of`: the class of requests that
    it is about, empty: all. `confidence`: what it is claimed of, the boots that are seen or the next one too.
    """

    text: str = field(compare=False)
    of: str = ""
    metric: metrics.Metric
    op: Op
    limit: float
    implicit: bool = field(default=False, compare=False)  # the error check that every load test has
    confidence: Confidence = "boot"

    @property
    def allowed_share(self) -> float | None:
        """Share of requests (0..1) that may miss: 0.01 for a P99; None for means, rates and telemetry."""
        if self.metric.quantity.telemetry:
            return None
        if self.metric.quantile is not None:
            return 1.0 - self.metric.quantile
        if self.metric.quantity.unit != "ratio":
            return None
        return self.limit if self.metric.quantity.direction == "lower" else 1.0 - self.limit

    @property
    def note(self) -> str:
        """What a reader must know about the name that was used; mostly empty."""
        inter_token = re.search(r"\bitl\b|inter.token", self.text.lower())
        return "ITL is judged as ICL: chunks are not tokens" if inter_token else ""

    def satisfied_by(self, value: float) -> bool:
        """Whether a value in the metric's unit keeps the clause."""
        return bool(_SATISFIES[self.op](value, self.limit))


def parse(text: str) -> Slo:
    """`"ttft p99 < 300 ms"`, `"p99(ttft) < 300ms"`, `"error rate <= 1 %"`, `">= 900 tok/s"`.

    A metric id carries its unit and wants none on the limit: `"ttft_s.p99 < 0.3"`. A class of requests goes
    before it: `"chat: ttft p99 < 300 ms"`.

    Raises:
        UsageError: unknown metric, no statistic, no or a wrong unit, the wrong way round, or a clause that
            no measurement could ever show to hold or to fail.
    """
    written = " ".join(text.split())
    of = ""
    if (classed := _CLASSED.fullmatch(text)) is not None:
        of, text = classed[1], classed[2]
    found = _OPERATOR.search(text)
    if found is None:
        raise UsageError("an SLO without a limit", seen=text, do='write it like "ttft p99 < 300 ms"')
    name, value = text[: found.start()].strip(), text[found.end() :].strip()
    op = cast("Op", _SPELLINGS.get(found[0], found[0]))
    metric, has_unit = _metric(name, value, text)
    _check_way_round(metric, op, text)
    limit = _limit(metric, value, name, has_unit=has_unit)
    slo = Slo(text=written, of=of, metric=metric, op=op, limit=limit)
    _check_decidable(slo)
    return slo


def from_keyword(name: str, value: str | float) -> Slo:
    """`infer_slo(ttft_p99="300 ms")`; the value may carry its own operator, else it is `<` or `>=`.

    Raises:
        UsageError: as `parse`.
    """
    words = re.sub(r"(p\d+)_(\d+)$", r"\1.\2", name).replace("_", " ")
    limit = str(value).strip()
    if _OPERATOR.match(limit):
        return parse(f"{words} {limit}")
    metric, _ = _metric(words, limit, f"{name}={value!r}")
    if metric.quantity.direction == "none":
        raise UsageError(
            f"neither a low nor a high {metric.id} is better",
            seen=f"{name}={value!r}",
            do=f'write the operator: {name}="< {limit}" or {name}="> {limit}"',
        )
    return parse(f"{words} {'<' if metric.quantity.direction == 'lower' else '>='} {limit}")


def claimed_of(slo: Slo, confidence: object) -> Slo:
    """The clause with what it is claimed of: "boot", the boots that are seen, or "deploy", the next one too.

    Raises:
        UsageError: neither, or a clause that says nothing of boots that were not seen.
    """
    if confidence not in ("boot", "deploy"):
        raise UsageError(
            "unknown confidence", seen=repr(confidence), do='write confidence="boot" or confidence="deploy"'
        )
    quantity = slo.metric.quantity
    of_boots = quantity.telemetry or quantity.unit == "change" or quantity.id == "capacity_req_per_s"
    if confidence == "deploy" and of_boots:
        raise UsageError(
            f"{slo.metric.id} says nothing of the next boot: the worst of those seen is judged",
            seen=f'{slo.text}, confidence="deploy"',
            do="give this limit an infer_slo marker of its own, without confidence",
        )
    return replace(slo, confidence=confidence)


def needed(slo: Slo, alpha: float) -> int | None:
    """The fewest requests that can show this clause to hold; None for means and rates: no such number."""
    share = slo.allowed_share
    return None if share is None else intervals.needed_requests(1.0 - share, alpha)


def per_request_limits(slos: Sequence[Slo], of: str = "") -> Limits:
    """What a request (of a class) must keep to count as good: the limits of the quantile clauses.

    Of two clauses on one quantity (p50 and p99) the higher quantile's holds: the other one is not meant
    for every request.
    """
    clauses = [
        s
        for s in slos
        if s.metric.quantity.per == "request" and s.metric.quantile is not None and s.of in ("", of)
    ]
    clauses.sort(key=lambda s: s.metric.quantile or 0.0)
    return {s.metric.quantity.id: (s.op, s.limit) for s in clauses}


def _metric(name: str, value: str, text: str) -> tuple[metrics.Metric, bool]:
    """What the left side means, and whether it names the unit (`ttft_s`)."""
    if not name:
        by_unit = _BY_UNIT.get(units.unit_of(value) or "")
        if by_unit is None:
            raise UsageError("an SLO without a metric", seen=text, do='write it like "ttft p99 < 300 ms"')
        return metrics.metric(by_unit), False
    words = re.sub(r"[()]|\.(?=[a-z])", " ", name.lower()).split()
    statistics = [s for w in words if (s := _statistic(w))]
    rest = " ".join(w for w in words if not _statistic(w) and w != "of")
    quantity = metrics.by_name(rest)
    if quantity is None:
        raise metrics.unknown_metric(rest or name)
    if quantity.per == "request" and not statistics:
        short = quantity.names[0]
        raise UsageError(
            f"{short} has one value a request: an SLO on it needs a statistic",
            seen=text,
            do=f'write "{short} p99 ..." or "{short} mean ..."',
        )
    if len(statistics) > 1:
        raise UsageError("an SLO with two statistics", seen=text, do=f"keep one of {', '.join(statistics)}")
    has_unit = rest.replace("_", " ") == quantity.id.replace("_", " ")
    return metrics.metric(".".join((quantity.id, *statistics))), has_unit


def _statistic(word: str) -> str | None:
    if re.fullmatch(r"p\d{1,2}(\.\d+)?", word):
        return f"p{float(word[1:]):g}"
    return _STATISTICS.get(word)


def _limit(metric: metrics.Metric, value: str, name: str, *, has_unit: bool) -> float:
    quantity = metric.quantity
    written = units.unit_of(value)
    if has_unit and written is None and re.fullmatch(r"[\d.]+(e[+-]?\d+)?", value, re.IGNORECASE):
        value = f"{value} {quantity.unit}" if quantity.unit not in ("ratio", "count") else value
    elif written not in (None, quantity.unit):
        words = name.lower().replace("_", " ")
        meant = (q.names[0] for q in metrics.METRICS.values() if q.unit == written)
        if other := next((m for m in meant if words and words in m), None):
            raise UsageError(f"{name} is in {quantity.unit}", seen=value, do=f'write "{other}" for {value}')
    return units.parse(value, quantity.unit)


def _check_way_round(metric: metrics.Metric, op: Op, text: str) -> None:
    right = "<" if metric.quantity.direction == "lower" else ">"
    if op[0] != right and metric.quantity.direction != "none":
        better = "lower" if right == "<" else "higher"
        what = f"the wrong way round: a {better} {metric.id} is better"
        turned = _OPERATOR.sub(right + op[1:], text, count=1)
        raise UsageError(what, seen=text, do=f'write "{turned}"')


def _check_decidable(slo: Slo) -> None:
    quantity, share = slo.metric.quantity, slo.allowed_share
    if quantity.id == "ready_s":
        do = "leave it to the comparison with a baseline, or set the time-out of the boot"
        raise UsageError("boot time is no SLO: requests do not show it", seen=slo.text, do=do)
    if quantity.telemetry and slo.of:
        raise UsageError(
            f"{slo.metric.id} is of the whole server: it does not tell classes apart",
            seen=slo.text,
            do="drop the word before the colon",
        )
    vacuous = quantity.unit != "ratio" and slo.limit <= 0.0
    if quantity.telemetry:  # `preemptions <= 0` can be missed and kept
        vacuous = slo.satisfied_by(0.0) == slo.satisfied_by(1.0 if quantity.unit == "ratio" else math.inf)
    if vacuous or (share is not None and share >= 1.0):
        raise UsageError(
            "an SLO that says nothing", seen=slo.text, do="write a limit that can be missed and kept"
        )
    if share is not None and share <= 0.0:
        what = "an SLO that no number of requests can show to hold: the next one may always miss"
        instead = (
            f"{quantity.names[0]} p99.9" if slo.metric.statistic else "a share such as 0.1 % (or 99.9 %)"
        )
        raise UsageError(what, seen=slo.text, do=f"write {instead}")
