"""What is looked at beside a load: the server's metrics, its GPUs, its log. Knows no pytest."""

from __future__ import annotations

import contextlib
import re
import time
from typing import TYPE_CHECKING

from pytest_inferforge.telemetry.sampler import Sampler

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_inferforge.loadgen.plan import Progress
    from pytest_inferforge.servers.server import Server
    from pytest_inferforge.telemetry.gpu import Gpus

_SCRAPE_S = 3.0
_MEMORY_EVERY_S = 1.0
_SHOWN = 160  # letters of a log line


@contextlib.contextmanager
def sampler(server: Server, gpus: Gpus | None) -> Iterator[Sampler]:
    """A sampler of that server, with a client of its own; of what was not started here its metrics alone."""
    path = server.exposition.path if server.exposition is not None else None
    with server.client(timeout_s=_SCRAPE_S) as client:

        def fetch() -> str | None:
            answer = client.get(str(path))
            return answer.text if answer.is_success else None

        with Sampler(
            fetch=None if path is None else fetch,
            exposition=server.exposition,
            pids=lambda: server.pids,
            gpus=gpus if server.pid is not None else None,
            before=server.gpus_before,
        ) as running:
            yield running


class MemoryOf:
    """Resident memory of a server, looked at once a second while it is measured."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._next_s = 0.0
        self.samples: list[tuple[float, int]] = []

    def look(self, progress: Progress) -> None:
        now = time.monotonic()
        if progress.phase not in ("load", "drain") or now < self._next_s:
            return
        self._next_s = now + _MEMORY_EVERY_S
        if (size := self._server.memory_bytes()) is not None:
            self.samples.append((progress.elapsed_ns / 1e9, size))


class Compiling:
    """Whether an engine compiled while it was measured, as its log says it."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._from: int | None = None  # where the log was when the load began

    def look(self, progress: Progress) -> None:
        if self._from is None and progress.phase == "load" and self._server.log is not None:
            self._from = self._size()

    def reason(self) -> str | None:
        """A sentence with the line that says so; None: it did not, or never says."""
        log, pattern = self._server.log, self._server.compiling
        if log is None or pattern is None or self._from is None:
            return None
        with contextlib.suppress(OSError), log.open("rb") as file:
            file.seek(self._from)
            for line in file.read().decode("utf-8", "replace").splitlines():
                if re.search(pattern, line):
                    shown = line.strip()[:_SHOWN]
                    return f"the engine compiled while it was measured: {shown}"
        return None

    def _size(self) -> int | None:
        assert self._server.log is not None
        try:
            return self._server.log.stat().st_size
        except OSError:
            return None
