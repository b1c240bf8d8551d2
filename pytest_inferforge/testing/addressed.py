"""A helper process that says in a file where it listens."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_inferforge import processes
from pytest_inferforge.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Addressed:
    """Started at once; `address` is what the file says. `argv`: of a folder for its files -> the command,
    which leaves its address in `folder/address`.

    Raises:
        EngineError: it ended, or said nothing for `boot_timeout_s`.
    """

    def __init__(
        self, name: str, argv: Callable[[Path], Sequence[str]], *, boot_timeout_s: float = 30.0
    ) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix=f"{name.replace(' ', '-')}-")
        folder = Path(self._temporary.name)
        address, log = folder / "address", folder / "log"
        self._process = processes.start(argv(folder), env=dict(os.environ), log_path=log, grace_s=1.0)
        give_up = time.monotonic() + boot_timeout_s
        while not address.exists():
            if self._process.poll() is not None or time.monotonic() > give_up:
                tail = processes.tail(log)
                self.close()
                raise EngineError(f"the {name} did not start", log_tail=tail)
            time.sleep(0.01)  # the process writes its address as its first act
        self.address = address.read_text()

    def close(self) -> None:
        """Stop the process; idempotent."""
        self._process.stop()
        self._temporary.cleanup()
