"""`inferforge history` and `inferforge bisect`: where a baseline goes, and the commit that moved it."""

from __future__ import annotations

import argparse
import fnmatch
import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_inferforge import gate, processes
from pytest_inferforge.baselines import open_store
from pytest_inferforge.cli.terminal import add_store, say, settings_of
from pytest_inferforge.errors import UsageError
from pytest_inferforge.metrics import metric
from pytest_inferforge.report import history_lines

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_inferforge.cli.terminal import Commands

_HISTORY = "show every gated metric over the sessions of a baseline: sparkline, drift, steps"
_BISECT = "run pytest for `git bisect run`: 0 good, 1 slower, 125 when it cannot tell"
GOOD, BAD, CANNOT_TELL = 0, 1, 125
_HALF = 0.5  # of a margin: from here on "inconclusive" may well be slower


def add(commands: Commands) -> None:
    """Declare `history` and `bisect`."""
    history = commands.add_parser("history", help=_HISTORY, description=_HISTORY)
    history.add_argument("name", metavar="NAME", help="of the baseline")
    history.add_argument("--test", metavar="PATTERN", default="*", help="of node ids: '*chat*'")
    history.add_argument("--metric", metavar="ID", action="append", default=[], help="only this one")
    add_store(history)
    history.set_defaults(run=_history)
    bisect = commands.add_parser(
        "bisect", help=_BISECT, description=_BISECT, usage="inferforge bisect PYTEST-ARGUMENT ..."
    )
    bisect.add_argument("pytest", metavar="PYTEST-ARGUMENT", nargs=argparse.REMAINDER)
    bisect.set_defaults(run=_bisect)


def _history(option: argparse.Namespace) -> int:
    found = settings_of(option)
    wanted = {metric(name).id for name in option.metric}
    store = open_store(found.baselines, local=found.store)
    sessions = store.load(option.name)
    series = [
        s
        for s in gate.series_of(sessions, store.pinned(option.name), found.judge)
        if fnmatch.fnmatch(s.nodeid, option.test) and (not wanted or s.metric in wanted)
    ]
    if not series:
        raise UsageError(
            "no series has that name",
            seen=f"--test {option.test}" + "".join(f" --metric {name}" for name in option.metric),
            do=f"see what there is: inferforge baseline show {option.name}",
        )
    for line in history_lines.lines(series, found.judge.cusum_height):
        say(line)
    return 1 if any(s.alarm is not None for s in series) else 0


def _bisect(option: argparse.Namespace) -> int:
    given = [word for word in option.pytest if word != "--"]
    if not any(word.startswith(("--infer-compare", "--infer-against")) for word in given):
        raise UsageError(
            "nothing says what is good",
            seen=" ".join(given) or "no arguments",
            do="add --infer-compare=BASELINE or --infer-against=SERVER to the pytest arguments",
        )
    with tempfile.TemporaryDirectory(prefix="inferforge-") as folder:
        document = Path(folder) / "session.json"
        argv = [sys.executable, "-m", "pytest", *given, f"--infer-json={document}"]
        code = processes.in_this_terminal(argv)
        content = json.loads(document.read_text()) if document.exists() else None
    verdict, why = told(code, content)
    say(f"bisect: {why}: exit {verdict}")
    return verdict


def told(code: int | None, content: Mapping[str, Any] | None) -> tuple[int, str]:
    """What a pytest run says of its commit, and why.

    Bad: something regressed. Good: something was judged, nothing regressed, nothing failed, and nothing that
    is open looks worse by half its margin. Everything else cannot tell: a commit that does not build, boot
    or measure is not a slow one.
    """
    if content is None:
        return CANNOT_TELL, f"pytest ended with {code} and measured nothing"
    comparisons: Sequence[Mapping[str, Any]] = content["comparisons"]
    slower = sorted({c["metric"] for c in comparisons if c["verdict"] == "regressed"})
    if slower:
        return BAD, f"slower in {', '.join(slower)}"
    if content["session"]["verdict"] == "error" or code not in (0, 1):
        return CANNOT_TELL, f"pytest ended with {code}: {content['session']['exit_reason']}"
    judged = [c for c in comparisons if c["verdict"] not in ("incomparable", "no_baseline")]
    if not judged:
        return CANNOT_TELL, "nothing could be compared"
    if len(judged) < len(comparisons):
        return CANNOT_TELL, f"{len(comparisons) - len(judged)} of {len(comparisons)} could not be compared"
    doubtful = sorted({c["metric"] for c in judged if c["verdict"] == "inconclusive" and _looks_worse(c)})
    if doubtful:
        return CANNOT_TELL, f"inconclusive, and looks worse: {', '.join(doubtful)}"
    if code:
        return CANNOT_TELL, "a test failed for another reason than its speed"
    return GOOD, f"none of {len(judged)} comparisons is slower"


def _looks_worse(comparison: Mapping[str, Any]) -> bool:
    ratio, margin = comparison["ratio"], comparison["margin"] or 0.0
    if ratio is None or ratio <= 0.0:
        return True
    lower_is_better = metric(comparison["metric"]).quantity.direction != "higher"
    worse = float(ratio if lower_is_better else 1.0 / ratio)
    return worse >= 1.0 + _HALF * float(margin)
