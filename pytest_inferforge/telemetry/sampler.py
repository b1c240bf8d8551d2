"""A thread that looks at a server, its GPUs and its machine once a second while a load runs.

The load is sent by other processes: what this thread does is not in their way.
"""

from __future__ import annotations

import math
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_inferforge.telemetry import prometheus
from pytest_inferforge.telemetry.host import Host
from pytest_inferforge.telemetry.prometheus import Scrape
from pytest_inferforge.telemetry.result import Round, reckon

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from types import TracebackType
    from typing import Self

    from pytest_inferforge.exposition import Exposition
    from pytest_inferforge.telemetry.gpu import Gpus, GpuSample
    from pytest_inferforge.telemetry.host import HostSample
    from pytest_inferforge.telemetry.result import Telemetry

INTERVAL_S = 1.0
PATIENCE_S = 5.0
_CANCEL_S = 0.5


class Sampler:
    """Looks while it is entered; whoever drives the load marks its phases.

    A round is due each interval, and one more at once when the warm-up has ended (`ready`, else `load`) and
    when all is over (`end`, at the latest when the block ends): counters are read there. A round that takes
    longer than the interval is followed by a whole one of rest. Rounds never overlap.

    fetch: the text of one scrape, or None when there was none; it should have a time-out of its own, and
    whatever it raises is counted and said. `pids`: the server's processes now; none: not known. `before`:
    samples of the GPUs from before the server was started. `patience_s`: how long the end of the block waits
    for a round that hangs; what it brings later is left out.
    """

    def __init__(
        self,
        *,
        fetch: Callable[[], str | None] | None,
        exposition: Exposition | None,
        pids: Callable[[], Iterable[int]],
        gpus: Gpus | None,
        before: Sequence[GpuSample] | None = None,
        clock: Callable[[], float] = time.monotonic,
        look_at_host: Callable[[float], HostSample] | None = None,
        interval_s: float = INTERVAL_S,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._fetch = fetch
        self._exposition = exposition
        self._gpus = gpus
        self._before = before
        self._clock = clock
        self._look_at_host = Host(pids=pids).sample if look_at_host is None else look_at_host
        self._interval_s = interval_s
        self._patience_s = patience_s
        self._marks: dict[str, float] = {}
        self._rounds: list[Round] = []
        self._base: int | None = None  # the round whose counters the load begins with, as far as is known
        self._newest: int | None = None  # that has a scrape
        self._failures: list[str] = []
        self._kept: tuple[Round, ...] | None = None
        self._hung = False
        self._cancelled = False
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="inferforge-telemetry", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            self.mark("end")
        self._cancelled = kind is not None
        self._wake.set()
        self._thread.join(min(_CANCEL_S, self._patience_s) if self._cancelled else self._patience_s)
        self._hung = self._thread.is_alive()
        self._cancelled = True
        self._kept = tuple(self._rounds)

    def mark(self, phase: str) -> None:
        """A phase begins: warmup, ready (all is warm), load, drain, end. Said again it means nothing."""
        if phase in self._marks:
            return
        self._marks[phase] = self._clock()
        if phase in ("ready", "end") or (phase == "load" and "ready" not in self._marks):
            self._wake.set()

    def result(self, *, output_tokens: int | None = None, requests: int | None = None) -> Telemetry:
        """What was measured; when the block has ended.

        output_tokens, requests: of the whole load, as the client counted them.
        """
        rounds = tuple(self._rounds) if self._kept is None else self._kept
        failures = list(self._failures)
        if self._hung:
            failures.insert(0, f"the last one took longer than {self._patience_s:g} s")
        return reckon(
            rounds,
            self._marks,
            exposition=self._exposition if self._fetch is not None else None,
            gpus=self._gpus,
            before=self._before,
            failures=failures,
            output_tokens=output_tokens,
            requests=requests,
        )

    # -- the thread ---------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._cancelled:
            self._wake.clear()
            began_s = self._clock()
            self._look(began_s)
            if began_s >= self._marks.get("end", math.inf):
                return
            took_s = self._clock() - began_s
            self._wake.wait(self._interval_s - took_s if took_s < self._interval_s else self._interval_s)

    def _look(self, now_s: float) -> None:
        gpus = self._gpus.sample(now_s) if self._gpus is not None else ()
        host = self._look_at_host(now_s)
        scrape = self._scrape()
        self._rounds.append(Round(time_s=now_s, scrape=scrape, gpus=gpus, host=host))
        if scrape is not None:
            self._thin()

    def _thin(self) -> None:
        """Keep the counters of the rounds at the edges alone: a day has 86 400 rounds."""
        last, self._newest = self._newest, len(self._rounds) - 1
        if last is None:
            return
        ready_s = self._marks.get("ready", self._marks.get("load", math.inf))
        load_s = self._marks.get("load", math.inf)
        spare: int | None = last
        if self._rounds[last].time_s >= ready_s and (
            self._base is None or self._rounds[last].time_s <= load_s
        ):
            spare, self._base = self._base, last
        if spare is not None:
            kept = self._rounds[spare]
            assert kept.scrape is not None
            assert self._exposition is not None
            state = prometheus.state_of(kept.scrape, self._exposition)
            self._rounds[spare] = replace(kept, scrape=state)

    def _scrape(self) -> Scrape | None:
        if self._fetch is None or self._exposition is None:
            return None
        asked_s = self._clock()
        try:
            text = self._fetch()
            samples = prometheus.parse(text, self._exposition) if text is not None else {}
        except Exception as error:  # noqa: BLE001 - the measurement goes on, and the result says what failed
            self._failures.append(f"{type(error).__name__}: {error}".partition("\n")[0])
            return None
        if not samples:
            self._failures.append("no answer" if text is None else "none of the engine's series is in it")
            return None
        return Scrape(time_s=asked_s, samples=samples)
