"""What a calibration found, as lines for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tabulate import tabulate

from pytest_inferforge.calibration.advice import MOST_BOOTS
from pytest_inferforge.metrics import metric
from pytest_inferforge.report import comparing_lines
from pytest_inferforge.units import format_value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_inferforge.calibration.noise import Noise
    from pytest_inferforge.calibration.summing import Calibration
    from pytest_inferforge.gate.simulating import Alarms

_MOST_TOLD = 10.0  # a change beyond it is not worth its digits
_WAYS = {
    "turns": "reference booted in turns",
    "confirming": "confirming boots",
    "stored": "stored sessions alone",
}


def lines(found: Calibration) -> list[str]:
    """The whole report."""
    parts = (
        _noise(found), _drift(found), _false_alarms(found), _observed(found), _detectable(found),
        _suggestions(found),
    )  # fmt: skip
    failed = [
        f"session {f.number} {'was measured in part' if f.stored else 'measured nothing'}: {f.why}; {f.log}"
        for f in found.failed
    ]
    head = (
        f"calibrated with {_counted(len(found.sessions), 'session')} of {_counted(found.boots, 'boot')},"
        f" {_counted(found.family, 'gated comparison')} in each"
    )
    return [head, *failed, *(line for part in parts for line in ("", *part))]


def _noise(found: Calibration) -> list[str]:
    """A share's standard deviations are told in points at its level."""
    rows = [
        (
            n.nodeid, n.metric, format_value(n.level, metric(n.metric).quantity.unit), _sd(n, n.session_sd),
            _sd(n, n.boot_sd), _sd(n, n.request_sd), f"{n.session_df} and {n.boot_df}",
            _change(n, n.first_to_last, signed=True),
        )
        for n in found.noises
    ]  # fmt: skip
    head = ("test", "metric", "level", "session", "boot", "its requests", "df", "first to last session")
    said = ["noise (standard deviations; df: degrees of freedom of sessions and boots):", *_table(head, rows)]
    if any(n.one_boot_sd is None for n in found.noises):
        said.append("  with one boot a session, what sessions and what boots do cannot be told apart")
    return said


def _drift(found: Calibration) -> list[str]:
    if not found.drifting:
        return ["null control: no trend from the first session to the last is more than chance"]
    said = [
        f"  {n.nodeid} {n.metric}: {_change(n, n.first_to_last, signed=True)} from the first session to the"
        " last, more than chance"
        for n in found.drifting
    ]
    return [
        "null control: THIS MACHINE MOVES though nothing was changed",
        *said,
        "  the session part of the noise holds the drift; find what heats up, fills up or is used by others",
    ]


def _false_alarms(found: Calibration) -> list[str]:
    if not found.alarms:
        return []
    plan = found.alarms[0][0].plan
    head = (
        f"false alarms, simulated with this noise ({_counted(found.alarms[0][0].sessions, 'session')} without"
        f" a change, {plan.stored} stored sessions of {_counted(plan.boots, 'boot')}, seed {found.seed}):"
    )
    rows = [
        (_way(a), f"{_percent(a.red / a.sessions)} of sessions red", f"[{_percent(low)}, {_percent(high)}]",
         f"{_percent(a.asked / a.sessions)} ask for more boots")
        for a, low, high in found.alarms
    ]  # fmt: skip
    alpha = found.options.alpha
    meant = (
        f"  meant are at most {_percent(alpha)} of sessions; each bound holds with {_percent(1.0 - alpha)}"
    )
    return [head, *_table((), rows), meant]


def _way(alarms: Alarms) -> str:
    if alarms.plan.way == "turns":
        return f"{_WAYS['turns']}, {alarms.plan.pairs} pairs"
    if alarms.plan.way == "confirming":
        return f"{_counted(alarms.plan.confirming, 'confirming boot')}"
    return _WAYS[alarms.plan.way]


def _observed(found: Calibration) -> list[str]:
    if not found.observed:
        return ["observed: too few sessions to judge each by the others"]
    every = [c for judged in found.observed for c in judged.comparisons]
    red = [j for j in found.observed if any(c.verdict == "regressed" for c in j.comparisons)]
    how = f"each session judged by the other {len(found.observed) - 1}, stored sessions alone"
    said = [f"observed: {how}: {len(red)} of {len(found.observed)} red"]
    said.append(f"  comparisons: {comparing_lines.tally(every)}")
    said += [
        f"  {judged.session} {c.nodeid} {c.metric}: {c.reason}"
        for judged in red
        for c in judged.comparisons
        if c.verdict == "regressed"
    ]
    return said


def _detectable(found: Calibration) -> list[str]:
    if not found.advice:
        return []
    numbers = list(found.advice[0].detectable)
    pairs = f"{found.pairs} pairs"
    rows = [
        (
            a.nodeid, a.metric, *(_change(n, a.detectable[k]) for k in numbers), _change(n, a.in_turns)
        )
        for n, a in zip(found.noises, found.advice, strict=True)
    ]  # fmt: skip
    options = found.options
    of = f"sessions of {_counted(found.gate_boots, 'boot')}, over {_counted(found.family, 'comparison')}"
    young = f"until they span {options.young_days:g} days the gate assumes {_percent(options.young_sd_floor)}"
    return [
        f"smallest slowdown that is red with power {_percent(options.power)}, {of}:",
        *_table(("test", "metric", *(f"{k} sessions" for k in numbers), pairs), rows),
        f"  sessions on several days; {young} of noise at least, and sees less",
    ]


def _suggestions(found: Calibration) -> list[str]:
    said, wanted = ["suggestions:"], _counted(found.options.wanted_sessions, "session")
    for m in found.margins:
        now, least, noisiest = _percent(m.now), _percent(m.least), f"{m.nodeid} {m.metric}"
        if m.suggested is None:
            what = "none is wide enough; find what disturbs this machine, or gate with the reference in turns"
        elif m.suggested == m.now:
            what = f"keep {now}"
        else:
            what = f'{m.name} = "{_percent(m.suggested)}" in the place of {now}, or more boots'
        said.append(f"  margin {m.name}: {what}; {wanted} show {least} of the noisiest, {noisiest}")
    said += _boots(found)
    return said + _requests(found)


def _requests(found: Calibration) -> list[str]:
    """Of each test, by the metric that needs the most."""
    most: dict[str, tuple[int, Noise]] = {}
    for n, a in zip(found.noises, found.advice, strict=True):
        if a.requests is not None and a.requests > most.get(n.nodeid, (0, n))[0]:
            most[n.nodeid] = a.requests, n
    said = []
    for nodeid, (wanted, n) in most.items():
        costs = f"a boot takes {format_value(n.boot_s, 's')}, its load {format_value(n.load_s, 's')}"
        which = "fewer, on more boots," if wanted < n.requests else "more, on fewer boots,"
        tells = f"{which} tell more of {n.metric} in the same time"
        said.append(f"  requests: {nodeid} has {n.requests} a boot; best are {wanted}: {tells} ({costs})")
    return said


def _boots(found: Calibration) -> list[str]:
    known = [(n, a) for n, a in zip(found.noises, found.advice, strict=True) if n.one_boot_sd is not None]
    if not known:
        return ["  boots: not known, with one boot a session"]
    wanted = _counted(found.options.wanted_sessions, "session")
    hopeless = [(a, n.scale.share) for n, a in known if a.boots is None]
    needed = max((a.boots for _, a in known if a.boots is not None), default=1)
    said = []
    if needed > found.gate_boots:
        worst = next(a for _, a in known if a.boots == needed)
        said.append(
            f"  boots: --infer-boots={needed} would show every margin with {wanted}, as far as boots help;"
            f" {worst.nodeid} {worst.metric} needs the most"
        )
    else:
        said.append(
            f"  boots: {_counted(found.gate_boots, 'boot')} a session: more are not needed, or do not help"
        )
    return said + [
        f"  {a.nodeid} {a.metric}: no number of boots a session up to {MOST_BOOTS} shows its margin with"
        f" {wanted}: gate it with the reference booted in turns{'' if share else ', or widen its margin'}"
        for a, share in hopeless
    ]


def _sd(noise: Noise, sd: float | None) -> str:
    return "-" if sd is None else _change(noise, abs(noise.change(sd)) if noise.scale.share else sd)


def _change(noise: Noise, change: float | None, *, signed: bool = False) -> str:
    """Of a share in points, else in percent."""
    if change is None:
        return "-"
    sign = "+" if signed and change > 0 else ""
    if abs(change) > _MOST_TOLD and not noise.scale.share:
        return f"above {_percent(_MOST_TOLD)}"
    if noise.scale.share:
        return f"{sign}{change * 100.0:.2g} points"
    return f"{sign}{format_value(float(f'{change:.2g}'), 'change')}"


def _percent(share: float) -> str:
    return format_value(share, "ratio")


def _counted(n: int, word: str) -> str:
    return f"{n} {word}" if n == 1 else f"{n} {word}s"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    printed = tabulate([list(r) for r in rows], headers=list(header), tablefmt="plain", disable_numparse=True)
    return [f"  {line.rstrip()}" for line in printed.splitlines()]
