"""A server that answers by a timetable and knows its true times.

It speaks the OpenAI-style API, writes every token at a time drawn from a seed, stamps each request and
token with the monotonic clock of the machine, and breaks on purpose where it is told to: what a client
reports can be checked against what happened, request by request.

    with TimetableServer(Timetable(ttft_s=0.05, gap_s=0.01)) as server:
        ...                     # drive load at server.url
        server.true_times()     # X-Request-Id -> TrueTimes

The process itself is `python -m pytest_inferforge.testing.timetable_process`.
"""

from __future__ import annotations

import json
import shlex
import ssl
import sys
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Self

from pytest_inferforge.testing.addressed import Addressed

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_MODULE = "pytest_inferforge.testing.timetable_process"
FAULTS = (
    "http_500", "http_429", "cut", "stalled", "bad_json", "error_event", "no_token",  # failures
    "drop",  # the connection is closed when the request comes in, without a byte of reply: cut
    "no_usage", "empty_chunks",  # tolerated
    "short", "cached",  # half the tokens asked for; half the prompt from a prefix cache
    "drop_once",  # the same, but sent again it is answered
    "hang_up",  # the connection is closed after a whole reply that promised to keep it
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Closure:
    """The listener is closed from `start_s` to `stop_s` after the request with this index came in.

    Connections on which no request runs are closed with it.
    """

    after_index: int
    start_s: float
    stop_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Timetable:
    """When a server answers. Each time is uniform in +- `spread` of its mean, drawn from `seed`.

    `faults`: index of a measured request -> one of FAULTS. `slots`: how many requests are answered at a
    time, the rest waits; None: all at once. `close`: every reply says `Connection: close`. `tls_cert`,
    `tls_key`: PEM files; with them it speaks TLS. `tick_s`: tokens wait for the next multiple of it on the
    machine's monotonic clock, so that many streams are written together; None: each at its own time.
    `counts_tokens`: plain replies carry usage. `restart_after_index`: from that request on its metrics say
    that it was started an hour later. `boots_file`: boots are counted there, and differ by `boot_sd` (of the
    log of all times) and by `boot_drift` from one to the next.
    """

    ttft_s: float = 0.05
    gap_s: float = 0.01
    spread: float = 0.2
    seed: int = 1
    slots: int | None = None
    tick_s: float | None = None
    restart_after_index: int | None = None
    counts_tokens: bool = True
    faults: Mapping[int, str] = field(default_factory=dict)
    closures: tuple[Closure, ...] = ()
    close: bool = False
    template_tokens: int = 3  # what a chat template would add
    port: int = 0
    boots_file: str | None = None
    boot_sd: float = 0.0
    boot_drift: float = 0.0
    api_key: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrueTimes:
    """What really happened to a request, in seconds of the machine's monotonic clock."""

    received_s: float
    tokens_s: tuple[float, ...]  # when each token was written

    @property
    def ttft_s(self) -> float:
        return self.tokens_s[0] - self.received_s

    @property
    def e2e_s(self) -> float:
        return self.tokens_s[-1] - self.received_s


def command(timetable: Timetable, folder: Path) -> str:
    """A command line for --infer-command that boots such a server; its files go to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    return f"{shlex.join(_argv(timetable, folder))} {{port}}"


def _argv(timetable: Timetable, folder: Path) -> list[str]:
    config = folder / "config.json"
    config.write_text(json.dumps(asdict(timetable)))
    return [sys.executable, "-m", _MODULE, str(config), str(folder / "address")]


class TimetableServer:
    """The server in a process of its own; a context manager."""

    def __init__(self, timetable: Timetable, *, boot_timeout_s: float = 30.0) -> None:
        self.timetable = timetable
        self._boot_timeout_s = boot_timeout_s
        self._process: Addressed | None = None
        self.url = ""

    def __enter__(self) -> Self:
        self._process = Addressed(
            "timetable server",
            lambda folder: _argv(self.timetable, folder),
            boot_timeout_s=self._boot_timeout_s,
        )
        self.url = self._process.address
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the process; idempotent."""
        if self._process is not None:
            self._process.close()
            self._process = None

    def true_times(self) -> dict[str, TrueTimes]:
        """X-Request-Id -> what really happened, for every request that got at least one token."""
        import httpx

        verify: ssl.SSLContext | bool = True
        if self.timetable.tls_cert is not None:
            verify = ssl.create_default_context(cafile=self.timetable.tls_cert)
            verify.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # its own certificate vouches for it here,
            verify.check_hostname = False  # whatever name a test has put into it
        url = f"{self.url}/timetable/log"
        log = httpx.get(url, timeout=60.0, trust_env=False, verify=verify).json()
        return {
            name: TrueTimes(received_s=received / 1e9, tokens_s=tuple(t / 1e9 for t in tokens))
            for name, (received, tokens) in log.items()
            if tokens
        }
