"""What a session would take and see, before anything is run. Knows no pytest."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_inferforge import gate
from pytest_inferforge.report import text
from pytest_inferforge.servers import gpus
from pytest_inferforge.units import format_value

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pytest_inferforge.pytest_plugin.declared import Declared
    from pytest_inferforge.pytest_plugin.settings import Settings
    from pytest_inferforge.records import SessionResult, TestResult
    from pytest_inferforge.servers.spec import ServerSpec

_HOUR_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Boots and loads of one server's tests. Seconds None: not known before the first session is stored.

    `more_boots` may follow when something looks worse, as far as the budget goes.
    """

    server: str
    boots: int
    loads: int
    boot_s: float | None
    load_s: float | None  # of one round of its tests
    rounds: int
    gpus: int | None
    more_boots: int

    @property
    def seconds(self) -> float | None:
        if self.boot_s is None or self.load_s is None:
            return None
        return self.boots * self.boot_s + self.rounds * self.load_s


def costs(declared: Iterable[Declared], reference: Sequence[SessionResult], settings: Settings) -> list[Cost]:
    """What the planned boots take, server by server, by what the newest stored session says of each test."""
    newest = max(reference, key=lambda s: (s.started_at, s.id), default=None)
    stored = {test.nodeid: test for test in newest.tests} if newest else {}
    groups: dict[object, list[Declared]] = {}
    for d in declared:
        if d.workload is not None:
            groups.setdefault(d.key if d.variants else d.server, []).append(d)
    return [_cost(group, stored, settings) for group in groups.values()]


def lines(declared: Sequence[Declared], reference: Sequence[SessionResult], settings: Settings) -> list[str]:
    """The plan for a person."""
    found = costs(declared, reference, settings)
    said = ["plan (nothing is run):"]
    for cost in found:
        times = f"boot {_time(cost.boot_s)}, its loads {_time(cost.load_s)} a round"
        what = f"{_counted(cost.boots, 'boot')}, {_counted(cost.loads, 'load')}"
        said.append(f"  {cost.server}: {what}; {times}")
    said += _quality(declared)
    known = [cost.seconds for cost in found if cost.seconds is not None]
    total = sum(known)
    gap = "" if len(known) == len(found) else ", and what no stored session tells"
    takes = f"about {_minutes(total)}{gap}" if known else "for a time that no stored session tells"
    said.append(f"  in all {_counted(sum(c.boots for c in found), 'boot')}, {takes}")
    gpu_hours = sum((c.gpus or 0) * (c.seconds or 0.0) for c in found) / _HOUR_S
    if gpu_hours:
        said.append(f"  {gpu_hours:.2g} GPU-hours")
    more = sum(c.more_boots for c in found)
    if more and (settings.compare or settings.gate.against):
        budget = format_value(settings.gate.budget_s, "s")
        why = "in turns with the reference" if settings.compare is None else "if something looks worse"
        said.append(f"  {more} boots more {why}, at most {budget} (--infer-budget)")
    if settings.compare is not None:
        said += _detectable(declared, reference, settings)
    return said


def _quality(declared: Sequence[Declared]) -> list[str]:
    """Evaluations, which no stored session tells the time of."""
    graded = [(d, d.quality) for d in declared if d.quality is not None]
    if not graded:
        return []
    tasks = sum(len(asked.tasks) for _, asked in graded)
    times = sum(
        (1 if asked.under_load is None else 2) * (1 if d.variants is None else len(d.variants.servers))
        for d, asked in graded
    )
    loaded = {spec for d in declared if d.workload is not None for spec in d.servers}
    boots = len({spec for d, _ in graded for spec in d.servers} - loaded)
    alone = f", {_counted(boots, 'boot')} for them alone" if boots else ""
    return [f"  quality: {_counted(times, 'evaluation')} of {_counted(tasks, 'task')} in all{alone}"]


def _detectable(
    declared: Sequence[Declared], reference: Sequence[SessionResult], settings: Settings
) -> list[str]:
    nodeids = {d.key for d in declared}
    options = settings.judge
    stored = gate.detectable(reference, nodeids, boots=settings.boots, options=options)
    said = []
    if stored:
        said.append("  smallest change for the worse that stored sessions show (power 80 %):")
        said += [f"  {line}" for line in text.detectable_lines(stored)]
    if settings.gate.against is not None:
        pairs = settings.gate.pairs or options.pairs_of_boots
        turns = gate.detectable_in_turns(reference, nodeids, pairs=pairs, options=options)
        if turns:
            said.append(f"  and that {pairs} pairs of boots in turns show of what looks worse:")
            said += [f"  {line}" for line in text.detectable_lines(turns)]
    return said


def _cost(group: Sequence[Declared], stored: Mapping[str, TestResult], settings: Settings) -> Cost:
    first = group[0]
    options = settings.judge
    pairs = settings.gate.pairs or options.pairs_of_boots
    if first.variants is not None:
        rounds = (first.variants.pairs or pairs) * len(first.variants.servers)
        server = " and ".join(spec.describe() for _, spec in first.variants.servers)
    else:
        rounds, server = settings.boots, first.server.describe()
    loads = [_load_s(d, stored.get(d.key)) for d in group]
    return Cost(
        server=server,
        boots=rounds,
        loads=rounds * len(group),
        boot_s=_boot_s([stored[d.key] for d in group if d.key in stored]),
        load_s=sum(s for s in loads if s is not None) if None not in loads else None,
        rounds=rounds,
        gpus=_gpus(first.server, stored.get(first.key)),
        more_boots=_more_boots(first, pairs, settings),
    )


def _more_boots(first: Declared, pairs: int, settings: Settings) -> int:
    if first.variants is not None or first.server.url is not None:
        return 0
    if first.against is not None:
        return 2 * pairs
    return settings.judge.confirming_boots if settings.compare else 0


def _boot_s(stored: Sequence[TestResult]) -> float | None:
    """From the start to the first token, where the stored session knows it."""
    found = [
        value
        for test in stored
        for boot in test.boots
        if (value := boot.metrics.get("boot_first_token_s", boot.ready_s)) is not None
    ]
    return statistics.fmean(found) if found else None


def _load_s(declared: Declared, stored: TestResult | None) -> float | None:
    """Of one load: by its own arrivals, else as fast as the stored session's was."""
    assert declared.workload is not None
    seconds = declared.workload.expected_duration_s
    if seconds is not None:
        return seconds
    requests = declared.workload.expected_requests
    rates = (
        [b.metrics["request_per_s"] for b in stored.boots if b.metrics.get("request_per_s")] if stored else []
    )
    return requests / statistics.fmean(rates) if requests is not None and rates else None


def _gpus(spec: ServerSpec, stored: TestResult | None) -> int | None:
    if stored is not None and "gpu" not in stored.fingerprint.hard:
        return None
    return gpus.wanted(spec) if stored is not None else None


def _counted(n: int, word: str) -> str:
    return f"{n} {word}" if n == 1 else f"{n} {word}s"


def _time(seconds: float | None) -> str:
    return "of unknown time" if seconds is None else format_value(seconds, "s")


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f} min" if seconds >= 60 else format_value(seconds, "s")
