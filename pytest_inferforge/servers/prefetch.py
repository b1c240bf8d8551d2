"""A model or an image is fetched before the server's start is timed, once a session."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from pytest_inferforge import processes
from pytest_inferforge.errors import EngineError
from pytest_inferforge.redaction import is_secret
from pytest_inferforge.servers.spec import environment

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from pytest_inferforge.engines.protocol import Fetch
    from pytest_inferforge.servers.spec import ServerSpec

_LOOK_S = 1.0


def fetch(
    spec: ServerSpec, wanted: Fetch, *, run_dir: Path, number: int, say: Callable[[str], None] | None = None
) -> dict[str, str]:
    """Fetch what a server needs; returns what is known of it now, for the fingerprint.

    It takes as long as it takes: `say` is told what goes on. The log is `run_dir/fetch-NUMBER.log`.

    Raises:
        EngineError: it cannot be had; the end of the log is in the error.
    """
    if wanted.unless and processes.ask(wanted.unless, timeout_s=60.0).code == 0:
        return {}
    log = run_dir / f"fetch-{number}.log"
    env = {**os.environ, **environment(spec.env)}
    if say is not None:
        say(f"fetching {wanted.what}")
    process = processes.start(wanted.argv, env=env, log_path=log, grace_s=5.0)
    try:
        while (code := process.wait(_LOOK_S)) is None:
            pass
    finally:
        process.stop()
    tail = processes.redact(processes.tail(log), _secrets(env))
    if code != 0:
        raise EngineError(
            f"{wanted.what} could not be fetched",
            seen=tail.splitlines()[-1] if tail else f"exit code {code}",
            do="check its name, the token (--infer-env=HF_TOKEN), and the disk",
            log_tail=tail,
            log_path=str(log),
        )
    return _facts(log)


def _facts(log: Path) -> dict[str, str]:
    """Lines `fact NAME VALUE` of the log."""
    found: dict[str, str] = {}
    with contextlib.suppress(OSError):
        for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
            word, _, rest = line.partition(" ")
            if word == "fact":
                name, _, value = rest.partition(" ")
                found[name] = value
    return found


def _secrets(env: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(value for name, value in env.items() if is_secret(name))
