"""The servers of a session: at most one of them up at a time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pytest_inferforge import engines
from pytest_inferforge.errors import EngineError
from pytest_inferforge.servers.supervisor import boot

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_inferforge.servers.gpus import Leases
    from pytest_inferforge.servers.server import Server
    from pytest_inferforge.servers.spec import ServerSpec


class ServerPool:
    """Boots servers as they are asked for; `boots` counts them, boot n logs to `run_dir/ENGINE-n.log`."""

    def __init__(
        self,
        run_dir: Path,
        *,
        clock: Callable[[], float] = time.monotonic,
        notes: Path | None = None,
        say: Callable[[str], None] | None = None,
        leases: Leases | None = None,
    ) -> None:
        self.boots = 0
        self.boot_s: dict[ServerSpec, float] = {}  # wall time of the newest boot, the first token included
        self._run_dir = run_dir
        self._clock = clock
        self._notes = notes
        self._say = say
        self._leases = leases
        self._live: Server | None = None
        self._last: ServerSpec | None = None

    @property
    def live(self) -> Server | None:
        """The server that is up, or was when it was last used."""
        return self._live

    def lease(self, spec: ServerSpec) -> Server:
        """The live server when it is the one asked for and lives, else a new boot.

        Raises:
            UsageError, EngineError: as `supervisor.boot`.
        """
        if self._live is not None and self._live.spec == spec and self._live.alive():
            return self._live
        return self._boot(spec)

    def fresh(self, spec: ServerSpec) -> Server:
        """A new boot, whatever is up.

        Raises:
            UsageError, EngineError: as `supervisor.boot`, and for a second boot of a URL.
        """
        return self._boot(spec, restart=self._last == spec and _by_command(spec))

    def restart(self) -> Server:
        """A new boot of the server that was last asked for.

        Raises:
            EngineError: as `supervisor.boot`, and when none was asked for, or it was a URL.
        """
        if self._last is None:
            raise EngineError("there is no server to restart", do="ask for a server first")
        return self._boot(self._last, restart=_by_command(self._last))

    def close(self) -> None:
        """Stop what is up; may be called again, and the pool may be used again."""
        live, self._live = self._live, None
        if live is not None:
            live.stop()

    def finish(self) -> None:
        """Stop what is up, and give the GPUs back."""
        try:
            self.close()
        finally:
            if self._leases is not None:
                self._leases.release()

    def _boot(self, spec: ServerSpec, *, restart: bool = False) -> Server:
        self.close()
        self._last = spec
        self.boots += 1
        began = self._clock()
        self._live = boot(
            spec,
            run_dir=self._run_dir,
            number=self.boots,
            clock=self._clock,
            notes=self._notes,
            restart=restart,
            say=self._say,
            leases=self._leases,
        )
        self.boot_s[spec] = self._clock() - began
        return self._live


def _by_command(spec: ServerSpec) -> bool:
    """Whether a second boot of it is the business of a command; EngineError where there is none."""
    if engines.engine(spec.engine).STARTS_PROCESS:
        return False
    if spec.restart is None:
        raise EngineError(
            "a URL cannot be restarted",
            seen=spec.describe(),
            do="ask for one boot, name the command that restarts it with --infer-restart-command,"
            " or let the server be started here",
        )
    return True
