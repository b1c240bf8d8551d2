"""One line that lives while load runs on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_inferforge.units import format_value

if TYPE_CHECKING:
    import pytest

    from pytest_inferforge.loadgen.plan import Progress
    from pytest_inferforge.workload.schedule import Schedule

_BAR = 24


class ProgressLine:
    """Writes over itself; silent where standard output is no terminal, and under -q."""

    def __init__(self, config: pytest.Config) -> None:
        self._terminal: Any = config.pluginmanager.get_plugin("terminalreporter")
        self._capture: Any = config.pluginmanager.get_plugin("capturemanager")
        writer = getattr(self._terminal, "_tw", None)
        file = getattr(writer, "_file", None)
        quiet = config.option.verbose < 0
        self._on = bool(file is not None and file.isatty() and not quiet)
        self._shown = 0

    def show(self, progress: Progress, schedule: Schedule) -> None:
        if self._on:
            self._write(line(progress, schedule))

    def clear(self) -> None:
        if self._on and self._shown:
            self._write("")
            self._shown = 0

    def _write(self, text: str) -> None:
        width = self._terminal._tw.fullwidth - 1  # noqa: SLF001 (pytest's reporter has no other way to its width)
        text = text[:width]
        with self._capture.global_and_fixture_disabled():
            self._terminal._tw._file.write("\r" + text.ljust(self._shown) + ("\r" if not text else ""))  # noqa: SLF001
            self._terminal._tw._file.flush()  # noqa: SLF001
        self._shown = len(text)


def line(progress: Progress, schedule: Schedule) -> str:
    """`load [#####-----] 120/400 requests, 6 in flight, 2 failed, 14 s`."""
    total = schedule.workload.expected_requests
    ended = progress.done + progress.failed
    seconds = progress.elapsed_ns / 1e9
    if total:
        share = min(1.0, ended / total)
        amount = f"{ended}/{total} requests"
    else:
        share = min(1.0, seconds / (schedule.workload.duration_s or 1.0))
        amount = f"{ended} requests"
    full = round(share * _BAR)
    failed = f", {progress.failed} failed" if progress.failed else ""
    return (
        f"  {progress.phase:<6} [{'#' * full}{'.' * (_BAR - full)}] {amount}, {progress.in_flight} in flight"
        f"{failed}, {format_value(seconds, 's')}"
    )
