"""Boots beyond the planned ones: reference and server in turns, or the server again. Knows no pytest."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pytest_inferforge import engines, gate
from pytest_inferforge.errors import InferforgeError
from pytest_inferforge.gate import CONTROL, CURRENT, REFERENCE, Measured, Slot
from pytest_inferforge.pytest_plugin import judging
from pytest_inferforge.units import format_value

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pytest_inferforge.options import JudgeOptions
    from pytest_inferforge.pytest_plugin.declared import Declared
    from pytest_inferforge.pytest_plugin.gate_settings import GateSettings
    from pytest_inferforge.pytest_plugin.runs import Runs
    from pytest_inferforge.records import BootResult
    from pytest_inferforge.servers.spec import ServerSpec


class MoreBoots:
    """Measures again what the gate asks for, as long as the budget lasts.

    `references`: key of a test -> the server that is its reference and can be booted here. `boots`: how many
    were spent; `seconds`: how long that took; `news`: what was done, a line each.
    """

    def __init__(
        self,
        runs: Runs,
        declared: Mapping[str, Declared],
        references: Mapping[str, ServerSpec],
        *,
        settings: GateSettings,
        options: JudgeOptions,
        planned_boots: int,
        control: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.references = references
        self.boots = 0
        self.seconds = 0.0
        self.news: list[str] = []
        self._runs = runs
        self._declared = declared
        self._settings = settings
        self._options = options
        self._planned_boots = planned_boots
        self._control = control
        self._clock = clock

    @property
    def can(self) -> frozenset[str]:
        """Keys of what can be measured again: declared runs, and the classes of their requests."""
        return frozenset(
            done.key
            for done in self._runs.finished
            if not done.run.by_hand
            and self._of(done.key) in self._declared
            and self._again(self._declared[self._of(done.key)].server)
        )

    def turns(self, keys: Sequence[str]) -> Measured:
        """Fresh boots of reference and server in turns, for these tests."""
        return self._each_server(keys, self._turns_of)

    def confirm(self, keys: Sequence[str]) -> Measured:
        """Fresh boots of the server, for these tests."""
        return self._each_server(keys, self._confirming_of)

    def as_gate_input(self, reference: str | None) -> gate.Turns | gate.Confirming | None:
        """What the gate may ask for. `reference`: the name of one that can be booted, None: there is none."""
        if reference is not None:
            return gate.Turns(name=reference, can=self.can, measure=self.turns)
        return gate.Confirming(can=self.can, measure=self.confirm) if self.can else None

    # -- one server after the other ---------------------------------------------------------------------

    def _each_server(
        self, keys: Sequence[str], measure: Callable[[Sequence[Declared]], Measured]
    ) -> Measured:
        groups: dict[tuple[ServerSpec, ServerSpec | None], list[Declared]] = {}
        for name in dict.fromkeys(self._of(key) for key in keys):
            declared = self._declared[name]
            groups.setdefault((declared.server, self.references.get(name)), []).append(declared)
        slots: list[Slot] = []
        boots: dict[str, tuple[BootResult, ...]] = {}
        faults: list[str] = []
        for group in groups.values():
            began = self._clock()
            found = measure(group)
            self.seconds += self._clock() - began
            slots += found.slots
            boots.update(found.boots)
            faults += [found.fault] if found.fault else []
        return Measured(slots=tuple(slots), boots=boots, fault="; ".join(dict.fromkeys(faults)))

    def _turns_of(self, group: Sequence[Declared]) -> Measured:
        arms = (REFERENCE, CURRENT, CONTROL) if self._control else (REFERENCE, CURRENT)
        boot_s = self._boot_s(group)
        wanted = judging.planned_pairs(self._settings.pairs, boot_s, self._options)
        least = self._settings.pairs or min(wanted, self._options.pairs_of_slow_boots)
        round_s = len(arms) * self._round_s(group)
        rounds = next((k for k in range(wanted, least - 1, -1) if k * round_s <= self._left_s), 0)
        if not rounds:
            return Measured(fault=self._out_of_budget(f"{wanted} pairs of boots", wanted * round_s))
        self._tell(f"{rounds} rounds of {' and '.join(arms)} in turns", group, rounds * round_s)
        slots: list[Slot] = []
        reference = self.references[group[0].key]
        for number, arm in enumerate(gate.in_turns(arms, rounds)):
            spec = group[0].server if arm == CURRENT else reference
            try:
                slots.append(Slot(arm=arm, boots=self._measured(group, spec, boot=number + 1, turn=number)))
            except InferforgeError as error:
                return Measured(slots=tuple(slots), fault=_first_line(error))
        return Measured(slots=tuple(slots))

    def _confirming_of(self, group: Sequence[Declared]) -> Measured:
        costly = self._boot_s(group) >= self._options.costly_boot_s
        wanted = 1 if costly else self._options.confirming_boots
        round_s = self._round_s(group)
        count = min(wanted, int(self._left_s // round_s) if round_s else wanted)
        if not count:
            return Measured(fault=self._out_of_budget("a confirming boot", round_s))
        self._tell(f"{count} confirming boot{'s' if count > 1 else ''}", group, count * round_s)
        found: dict[str, tuple[BootResult, ...]] = {}
        for number in range(count):
            try:
                boots = self._measured(
                    group, group[0].server, boot=self._planned_boots + number + 1, turn=number + 1
                )
            except InferforgeError as error:
                return Measured(boots=found, fault=_first_line(error))
            for key, boot in boots.items():
                found[key] = (*found.get(key, ()), boot)
        return Measured(boots=found)

    def _measured(
        self, group: Sequence[Declared], spec: ServerSpec, *, boot: int, turn: int
    ) -> dict[str, BootResult]:
        """One fresh boot: each test of the group, its order turned by one each time."""
        self.boots += 1
        self._runs.pool.fresh(spec)
        turn %= len(group)
        found: dict[str, BootResult] = {}
        for declared in (*group[turn:], *group[:turn]):
            assert declared.workload is not None
            server = self._runs.server(spec)
            measured = self._runs.measure(declared, declared.workload, server, boot=boot)
            found.update(self._runs.by_key(declared, measured))
        return found

    # -- what it costs ----------------------------------------------------------------------------------

    @property
    def _left_s(self) -> float:
        return self._settings.budget_s - self.seconds

    def _boot_s(self, group: Sequence[Declared]) -> float:
        """Of a boot here, the reference's taken to be like it."""
        return self._runs.pool.boot_s.get(group[0].server, 0.0)

    def _round_s(self, group: Sequence[Declared]) -> float:
        """One boot and every load of the group on it."""
        return self._boot_s(group) + sum(self._runs.load_s.get(d.key, 0.0) for d in group)

    def _out_of_budget(self, what: str, seconds: float) -> str:
        left = format_value(max(0.0, self._left_s), "s")
        return (
            f"looks worse, and {what} would take about {format_value(seconds, 's')}: {left} of the budget are"
            f" left (--infer-budget)"
        )

    def _tell(self, what: str, group: Sequence[Declared], seconds: float) -> None:
        names = ", ".join(d.nodeid.rpartition("::")[2] for d in group[:3])
        more = f" and {len(group) - 3} more" if len(group) > 3 else ""
        said = f"{what} for {names}{more}, about {format_value(seconds, 's')}"
        self.news.append(said)
        if self._runs.on_news is not None:
            self._runs.on_news(f"more boots: {said}")

    def _again(self, spec: ServerSpec) -> bool:
        """Whether it can be booted a second time."""
        return engines.engine(spec.engine).STARTS_PROCESS or spec.restart is not None

    def _of(self, key: str) -> str:
        """The key of the test whose class this may be."""
        return key.partition(judging.CLASS)[0]


def _first_line(error: InferforgeError) -> str:
    return str(error).partition("\n")[0]
