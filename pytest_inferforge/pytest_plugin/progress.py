"""One line that lives while load runs on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_inferforge.units import format_value

if TYPE_CHECKING:
    import pytest

    from pytest_inferforge.loadgen.plan import Progress
    from pytest_inferforge.workload.schedule import Schedule

_BAR = 24
_WIDE = 84  # columns that a line with a bar may need


class ProgressLine:
    """Writes over itself; silent where standard output is no terminal, and under -q."""

    def __init__(self, config: pytest.Config) -> None:
        terminal: Any = config.pluginmanager.get_plugin("terminalreporter")
        self._capture: Any = config.pluginmanager.get_plugin("capturemanager")
        self._writer: Any = getattr(terminal, "_tw", None)
        self._file: Any = getattr(self._writer, "_file", None)
        quiet = config.option.verbose < 0
        self._on = bool(self._file is not None and self._file.isatty() and self._capture and not quiet)
        self._shown = 0

    def show(self, progress: Progress, schedule: Schedule) -> None:
        if self._on:
            self._write(line(progress, schedule, bar=_BAR if self._room() > _WIDE else 0))

    def say(self, news: str) -> None:
        """Something that takes long, until the next news."""
        if self._on:
            self._write(f"  {news}")

    def clear(self) -> None:
        if self._on and self._shown:
            self._write("")
            self._shown = 0

    def _room(self) -> int:
        """Columns behind what pytest has already written on this line."""
        written = len(getattr(self._writer, "_current_line", ""))
        return max(0, int(self._writer.fullwidth) - written - 1)

    def _write(self, text: str) -> None:
        """Behind what pytest has already written on this line, which stays."""
        before = getattr(self._writer, "_current_line", "")
        text = text[: self._room()]
        pieces = ["\r", before, text.ljust(self._shown)]
        if not text:
            pieces += ["\r", before]
        with self._capture.global_and_fixture_disabled():
            self._file.write("".join(pieces))
            self._file.flush()
        self._shown = len(text)


def line(progress: Progress, schedule: Schedule, *, bar: int) -> str:
    """`load [#####.....] 120/400 requests, 6 in flight, 2 failed, 14 s`; `bar`: its columns, 0 for none."""
    total = schedule.workload.expected_requests
    ended = progress.done + progress.failed
    seconds = progress.elapsed_ns / 1e9
    if total:
        share = min(1.0, ended / total)
        amount = f"{ended}/{total} requests"
    else:
        share = min(1.0, seconds / (schedule.workload.duration_s or 1.0))
        amount = f"{ended} requests"
    full = round(share * bar)
    drawn = f"[{'#' * full}{'.' * (bar - full)}] " if bar else ""
    failed = f", {progress.failed} failed" if progress.failed else ""
    return (
        f"  {progress.phase:<6} {drawn}{amount}, {progress.in_flight} in flight"
        f"{failed}, {format_value(seconds, 's')}"
    )
