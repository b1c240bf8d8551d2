"""One test's workload on each of its variants, booted in turns. Knows no pytest."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_inferforge import gate, metrics
from pytest_inferforge.errors import InferforgeError
from pytest_inferforge.pytest_plugin import judging
from pytest_inferforge.pytest_plugin.declared import gated_metrics
from pytest_inferforge.pytest_plugin.variants import VariantRuns
from pytest_inferforge.records import Comparison, ComparisonVerdict

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pytest_inferforge.pytest_plugin.declared import Declared
    from pytest_inferforge.pytest_plugin.runs import Runs
    from pytest_inferforge.pytest_plugin.settings import Settings
    from pytest_inferforge.run import Run, RunBoot
    from pytest_inferforge.servers.server import Server
    from pytest_inferforge.servers.spec import ServerSpec

    OnLast = Callable[[str, Server], None]


def key_of(declared: Declared, variant: str) -> str:
    """What the run of a variant is reported under."""
    return f"{declared.key}::variant={variant}"


def measure(runs: Runs, declared: Declared, settings: Settings, on_last: OnLast | None = None) -> VariantRuns:
    """Boot the variants in turns, measure on each boot, and compare the others with the first.

    `on_last`: called with the name and the server of each, after its last load.

    Raises:
        EngineError, MeasuringError: one of them could not be measured.
    """
    assert declared.variants is not None
    assert declared.workload is not None
    servers = dict(declared.variants.servers)
    boots: dict[str, list[RunBoot]] = {name: [] for name in servers}
    slots: list[gate.Slot] = []
    rounds = 1 if settings.quick else settings.judge.pairs_of_boots
    order = list(gate.in_turns(tuple(servers), rounds))
    while len(slots) < len(order):
        name = order[len(slots)]
        runs.pool.fresh(servers[name])
        server = runs.server(servers[name])
        number = len(boots[name]) + 1
        found = runs.measure(declared, declared.workload, server, boot=number)
        boots[name].append(found)
        slots.append(gate.Slot(arm=name, boots=runs.by_key(declared, found)))
        if len(slots) == 1 and not settings.quick:
            asked = declared.variants.pairs or settings.gate.pairs
            boot_s = runs.pool.boot_s.get(servers[name], 0.0)
            rounds = judging.planned_pairs(asked, boot_s, settings.judge)
            order = list(gate.in_turns(tuple(servers), rounds))
        if on_last is not None and name not in order[len(slots) :]:
            on_last(name, server)
    finished: dict[str, Run] = {}
    for name, spec in servers.items():
        one = replace(declared, server=spec, gated=(), slos=declared.slos)
        run = runs.judged(one, declared.workload, boots[name], variant=name)
        kept = runs.keep(key_of(declared, name), one, run)
        if isinstance(kept, InferforgeError):
            raise kept
        finished[name] = kept
    if settings.quick:
        return VariantRuns(runs=finished, expect=declared.variants.expect, comparisons=())
    comparisons = _compared(declared, servers, slots, settings)
    missed, doubt = gate.held_against(declared.variants.expect, comparisons, declared.variants.on)
    return VariantRuns(
        runs=finished, expect=declared.variants.expect, comparisons=comparisons, missed=missed, doubt=doubt
    )


def _compared(
    declared: Declared, servers: Mapping[str, ServerSpec], slots: list[gate.Slot], settings: Settings
) -> tuple[Comparison, ...]:
    """Each variant but the first with the first; all of them are one family."""
    assert declared.workload is not None
    first, *others = servers
    gated = [(declared.key, metric_id) for metric_id in declared.gated]
    for name in declared.workload.class_names:
        key = judging.class_key(declared.key, name)
        of_class = gated_metrics(declared.workload, declared.slos, name, tail=settings.gate.tail)
        gated += [(key, metric_id) for metric_id in of_class]
    drafts = [
        Comparison(
            nodeid=key,
            metric=metric_id,
            verdict=ComparisonVerdict.INCOMPARABLE,
            margin=gate.margin_of(metrics.metric(metric_id), settings.judge),
        )
        for key, metric_id in gated
    ]
    graded = len(declared.quality.tasks) if declared.quality is not None else 0
    found: list[Comparison] = []
    for name in others:
        results = gate.decided_by_turns(
            drafts,
            slots,
            reference=f"variant:{first}",
            options=settings.judge,
            arm=name,
            base_arm=first,
            family=(len(drafts) + graded) * len(others),
        )
        found += [
            replace(c, nodeid=c.nodeid.replace(declared.key, key_of(declared, name), 1)) for c in results
        ]
    return tuple(found)
