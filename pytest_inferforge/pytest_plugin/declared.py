"""What a test declares, merged from its markers, the command line and the project's file. Knows no pytest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_inferforge import slo as slos
from pytest_inferforge.errors import UsageError
from pytest_inferforge.metrics import metric
from pytest_inferforge.options import QualityOptions
from pytest_inferforge.pytest_plugin import quality_words, variants
from pytest_inferforge.pytest_plugin.layers import COMMAND_LINE, Layer, Mark, merge, of_marks
from pytest_inferforge.pytest_plugin.server_words import choose, merged, server_spec
from pytest_inferforge.quality import evaluating
from pytest_inferforge.workload import arguments as workloads

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from pytest_inferforge.pytest_plugin.quality_words import Asked
    from pytest_inferforge.pytest_plugin.settings import Settings
    from pytest_inferforge.pytest_plugin.variants import Variants
    from pytest_inferforge.servers.spec import ServerSpec
    from pytest_inferforge.slo import Slo
    from pytest_inferforge.workload.spec import Workload

_NEEDS = {  # marker -> the fixtures of which one must be asked for
    "infer_server": {"infer_server", "infer_run", "infer_load", "infer_quality"},
    "infer_workload": {"infer_run", "infer_load"},
    "infer_slo": {"infer_run", "infer_load"},
    "infer_quality": {"infer_quality"},
    "infer_variants": {"infer_run", "infer_quality"},
}
_GATED = {
    False: ("ttft_s.mean", "ttft_s.p99", "tpot_s.mean"),  # open loop: arrivals pin the throughput
    True: ("output_tok_per_s", "tpot_s.mean"),  # closed loop
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """One test that uses our fixtures. `workload` is None when it only uses `infer_server` or `infer_load`.

    `loads`: it asks for `infer_load` and measures by hand. `layers`: what is said about its workload, for
    `infer_load` to add to. `backend_named`: somebody chose the server it runs on. `against`: the server that
    --infer-against names, as this test would have it. `variants`: the servers of infer_variants, of which
    `server` is the first. `quality`: what infer_quality asks for, None: nothing. `notes`: what a person
    should know about how this was merged.
    """

    nodeid: str
    server: ServerSpec
    backend_named: bool
    workload: Workload | None
    loads: bool
    layers: tuple[Layer, ...]
    slos: tuple[Slo, ...]
    gated: tuple[str, ...]
    folder: Path
    notes: tuple[str, ...] = ()
    against: ServerSpec | None = None
    variants: Variants | None = None
    quality: Asked | None = None

    @property
    def servers(self) -> tuple[ServerSpec, ...]:
        """All that this test may boot."""
        varied = self.variants.servers if self.variants is not None else ()
        others = [spec for _, spec in varied] + ([self.against] if self.against is not None else [])
        return (self.server, *others)

    @property
    def key(self) -> str:
        """What its results are stored under."""
        return self.nodeid


def declare(
    nodeid: str, marks: Sequence[Mark], fixtures: Iterable[str], settings: Settings, *, folder: Path
) -> Declared:
    """Merge what is said about one test; `marks` are closest first.

    Raises:
        UsageError: markers that contradict each other or the fixtures, or that cannot be read.
    """
    used = set(fixtures)
    notes: list[str] = []
    _check_fixtures(marks, used)
    layers_of_server = [settings.server, *of_marks(marks, "infer_server"), settings.file_server]

    named: list[bool] = []  # of each server: somebody chose its backend

    def server_of(*top: Layer) -> ServerSpec:
        words = merged([*top, *layers_of_server], settings.servers, [] if top else notes)
        named.append(any(word in words for word in ("backend", "url", "command")))
        return server_spec(words, settings, notes, workload)

    said = of_marks(marks, "infer_workload")
    layers = (settings.workload, *said, settings.file_workload)
    workload = None
    if "infer_run" in used:
        if not said:
            raise UsageError(
                "infer_run has nothing to measure",
                seen="no infer_workload marker",
                do='add @pytest.mark.infer_workload(arrivals="poisson 8 req/s", requests=1000,'
                " prompt_tokens=256, output_tokens=128)",
            )
        workload = workload_of(merge(layers, notes), settings, folder)
    quality = _quality(marks, used, settings, notes, folder)
    if quality is not None and quality.under_load is not None and workload is None:
        raise UsageError(
            "there is no load to look at quality under",
            seen=f"under_load={quality.under_load}, and the test does not ask for infer_run",
            do="give the test an infer_workload marker and let it ask for infer_run too, or drop under_load",
        )
    if quality is not None and _compares(marks, settings):
        notes += quality_words.too_few_items(quality, settings.judge)
    checks = _slos(marks)
    _check_classes(checks, workload)
    gated = gated_metrics(workload, checks, tail=settings.gate.tail) if workload else ()
    compared = variants.of_marks(marks, server_of, gated)
    server = server_of() if compared is None else compared.servers[0][1]
    against = None
    if settings.gate.against is not None and compared is None:
        reference = choose(settings.servers, settings.gate.against)
        against = server_of(Layer(source=COMMAND_LINE, values=reference.values))
    return Declared(
        nodeid=nodeid,
        folder=folder,
        server=server,
        against=against,
        variants=compared,
        backend_named=all(named),
        workload=workload,
        loads="infer_load" in used,
        layers=layers,
        slos=checks,
        gated=gated,
        quality=quality,
        notes=tuple(dict.fromkeys(notes)),
    )


def _compares(marks: Sequence[Mark], settings: Settings) -> bool:
    """Whether the quality of a test is paired with anything."""
    gated = bool(settings.compare or settings.gate.against)
    return not settings.quick and (gated or any(mark.name == "infer_variants" for mark in marks))


def _quality(
    marks: Sequence[Mark], used: set[str], settings: Settings, notes: list[str], folder: Path
) -> Asked | None:
    """What a test's infer_quality markers ask for; None: it does not use the fixture."""
    if "infer_quality" not in used:
        return None
    said = of_marks(marks, "infer_quality")
    if not said:
        raise UsageError(
            "infer_quality has nothing to evaluate",
            seen="no infer_quality marker",
            do='add @pytest.mark.infer_quality(tasks=["forge_arithmetic"], limit=200)',
        )
    evaluating.require()
    merged_words = merge((settings.asked_quality, *said, settings.file_quality), notes)
    asked = quality_words.from_arguments(merged_words, QualityOptions(), settings.judge, folder=folder)
    return asked.quick(QualityOptions().quick_items) if settings.quick else asked


def workload_by_hand(declared: Declared, arguments: Mapping[str, Any], settings: Settings) -> Workload:
    """The workload of a call of `infer_load`: its arguments stand above the test's markers.

    Raises:
        UsageError: an unknown, missing, contradictory or unreadable argument.
    """
    top, *below = declared.layers
    call = Layer(source="infer_load", values=arguments)
    workload = workload_of(merge([top, call, *below], []), settings, declared.folder)
    _check_classes(declared.slos, workload)
    return workload


def workload_of(arguments: Mapping[str, Any], settings: Settings, folder: Path) -> Workload:
    """A workload from merged arguments, cut down under --infer-quick."""
    workload = workloads.from_arguments(arguments, settings.load, folder=folder)
    return workload.quick(settings.load.quick_requests) if settings.quick else workload


def gated_metrics(workload: Workload, checks: Sequence[Slo], of: str = "", *, tail: str) -> tuple[str, ...]:
    """The metric ids that a comparison judges: the default ones of the loop, and what SLOs name.

    Of a workload with classes each class (`of`) has the default ones, and the whole only what is named.
    """
    named = [c.metric.id for c in checks if not c.implicit and c.of == of]
    named = [name for name in named if name not in slos.DRIFTS]  # they say themselves what changed
    named = [name for name in named if _comparable(name)]
    if workload.stress:
        return (slos.CAPACITY,)
    if workload.stop == "early":  # as long as its SLOs take: neither its tail nor its rates are comparable
        return ()
    usual = () if workload.class_names and not of else _GATED[workload.closed_class(of)]
    usual = tuple(f"ttft_s.{tail}" if name == "ttft_s.p99" else name for name in usual)
    return tuple(dict.fromkeys((*usual, *named)))


def _comparable(metric_id: str) -> bool:
    """What is neither better high nor better low, or may well be 0, has no ratio that could be gated."""
    quantity = metric(metric_id).quantity
    return quantity.direction != "none" and quantity.unit != "count"


def _check_classes(checks: Sequence[Slo], workload: Workload | None) -> None:
    """An SLO of a class that is not there would never be judged."""
    known = workload.class_names if workload is not None else None
    for check in checks:
        if check.of and known is not None and check.of not in known:
            raise UsageError(
                "an SLO of a class that the workload does not have",
                seen=check.text,
                do=f"known: {', '.join(known)}" if known else "drop the word before the colon",
            )


def _slos(marks: Sequence[Mark]) -> tuple[Slo, ...]:
    """All limits of all markers, each once, outermost first."""
    found: dict[tuple[str, object], Slo] = {}
    for mark in reversed(marks):
        if mark.name != "infer_slo":
            continue
        limits = dict(mark.kwargs)
        confidence = limits.pop("confidence", "boot")
        if not mark.args and not limits:
            raise UsageError("infer_slo without a limit", do='write infer_slo("ttft p99 < 300 ms")')
        for text in mark.args:
            if not isinstance(text, str):
                raise UsageError("an SLO is a text", seen=repr(text), do='write "ttft p99 < 300 ms"')
        parsed = [slos.parse(text) for text in mark.args]
        parsed += [slos.from_keyword(keyword, value) for keyword, value in limits.items()]
        for check in parsed:
            found.setdefault((check.text, confidence), slos.claimed_of(check, confidence))
    for check in found.values():
        if check.metric.quantity.id.endswith("_beyond_ratio"):
            raise UsageError(
                "an SLO on what exists in comparisons only",
                seen=check.text,
                do='limit the quantile itself: "ttft p99 < 300 ms"',
            )
    return tuple(found.values())


def _check_fixtures(marks: Sequence[Mark], used: set[str]) -> None:
    """A marker of ours on a test that measures nothing would be a gate that never closes."""
    for mark in marks:
        needs = _NEEDS[mark.name]
        if mark.name == "infer_server" and not mark.own:
            continue  # what every test of a module needs of the server, if it needs one
        if used & needs:
            continue
        asks = f"uses {', '.join(sorted(used))}" if used else "uses none of our fixtures"
        raise UsageError(
            f"{mark.name} on a test that measures nothing",
            seen=f"it {asks}",
            do=f"let the test ask for {' or '.join(sorted(needs))}, or take the marker off",
        )
