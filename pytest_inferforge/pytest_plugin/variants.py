"""One workload on several servers in one session: what a test declares of them. Knows no pytest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_inferforge.errors import UsageError
from pytest_inferforge.gate import EXPECTATIONS
from pytest_inferforge.pytest_plugin.gate_settings import MOST_PAIRS
from pytest_inferforge.pytest_plugin.layers import Layer, nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_inferforge.pytest_plugin.layers import Mark
    from pytest_inferforge.records import Comparison
    from pytest_inferforge.run import Run
    from pytest_inferforge.servers.spec import ServerSpec

_OWN = ("expect", "on", "pairs", "pin")


@dataclass(frozen=True, slots=True, kw_only=True)
class Variants:
    """Servers by name, the reference first. `on`: the metrics that `expect` is about, empty: all that are
    gated. `pairs`: rounds of boots, None: as long as boots take.
    """

    servers: tuple[tuple[str, ServerSpec], ...]
    expect: str
    on: tuple[str, ...]
    pairs: int | None

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.servers)


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantRuns(Mapping[str, "Run"]):
    """The runs of one test on each of its variants, by name; `comparisons` of the others with the first.

    `missed`: why the expectation is not met; empty: it is. `doubt`: why it is not shown either.
    """

    runs: Mapping[str, Run]
    expect: str
    comparisons: tuple[Comparison, ...]
    missed: str = ""
    doubt: str = ""

    def __getitem__(self, name: str) -> Run:
        if name not in self.runs:
            raise UsageError(
                "no variant has that name",
                seen=repr(name),
                do=nearest(name, self.runs, f"known: {self._known}"),
            )
        return self.runs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.runs)

    def __len__(self) -> int:
        return len(self.runs)

    @property
    def _known(self) -> str:
        return ", ".join(self.runs)


def of_marks(
    marks: Sequence[Mark], server_of: Callable[[Layer], ServerSpec], gated: Sequence[str]
) -> Variants | None:
    """The closest infer_variants marker; None: there is none.

    `server_of`: a variant's words -> its server. `gated`: the metrics that are compared, the loop's own
    first, which is what "faster" means where nothing is said.

    Raises:
        UsageError: fewer than two variants, two that are one, or an unknown expectation.
    """
    mark = next((mark for mark in marks if mark.name == "infer_variants"), None)
    if mark is None:
        return None
    if mark.args:
        raise UsageError(
            "infer_variants takes named variants only",
            seen=repr(mark.args[0]),
            do='write infer_variants(bf16={"model": "A"}, awq={"model": "B"}, expect="faster")',
        )
    named = {name: words for name, words in mark.kwargs.items() if name not in _OWN}
    if len(named) < 2:
        raise UsageError(
            "infer_variants compares at least two servers",
            seen=", ".join(named) or "none",
            do="name each: the first is the reference",
        )
    expect, pairs = mark.kwargs.get("expect", "not slower"), mark.kwargs.get("pairs")
    if expect not in EXPECTATIONS:
        raise UsageError(
            "unknown expectation", seen=repr(expect), do=f"write one of: {', '.join(EXPECTATIONS)}"
        )
    if pairs is not None and (not isinstance(pairs, int) or not 2 <= pairs <= MOST_PAIRS):
        raise UsageError(
            f"pairs are a whole number from 2 to {MOST_PAIRS}", seen=repr(pairs), do="write pairs=4"
        )
    servers = []
    for name, words in named.items():
        if not isinstance(words, Mapping):
            raise UsageError(
                f"the variant {name} is no table",
                seen=repr(words),
                do=f'write {name}={{"model": ...}}, with the words of infer_server',
            )
        servers.append((name, server_of(Layer(source=f"the variant {name}", values=dict(words)))))
    on = mark.kwargs.get("on", gated[:1] if expect == "faster" else ())
    on = (on,) if isinstance(on, str) else tuple(on)
    for name in on:
        if name not in gated:
            raise UsageError(
                "an expectation on a metric that is not compared",
                seen=name,
                do=nearest(name, gated, f"compared are {', '.join(gated)}: an SLO on it adds it"),
            )
    return Variants(servers=tuple(servers), expect=expect, on=on, pairs=pairs)
