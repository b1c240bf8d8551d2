"""A worker process: takes a plan, drives its share of the load, leaves a row a request.

    python -m pytest_inferforge.loadgen.worker PLAN ROWS GO STOP

PLAN is a msgpack `Plan`; ROWS becomes a sequence of frames (`loadgen.rows`): one `Row` each as requests end,
one `Finish` at the very end. A worker that dies leaves the rows it had. When it has warmed up it waits for
the file GO, which holds the origin of the measured phase in ns of its monotonic clock. On standard output it
prints a JSON `Progress` line four times a second, and drops it when nobody reads. As often it looks for the
file STOP: once that exists, it sends nothing new and lets end what runs. The API key comes in the environment
variable INFERFORGE_WORKER_KEY.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import uvloop

from pytest_inferforge.loadgen.driver import Driver
from pytest_inferforge.loadgen.plan import Plan, Progress
from pytest_inferforge.loadgen.rows import write_frame

if TYPE_CHECKING:
    from typing import BinaryIO

_BROKEN = 70  # exit code of a worker whose own code failed


def _print_progress(progress: Progress) -> None:
    with contextlib.suppress(OSError):  # nobody reads: progress is for eyes only
        os.write(1, msgspec.json.encode(progress) + b"\n")


def _die(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """A client whose own code failed measures nothing: end at once, with the error in the log."""
    if isinstance(context.get("exception"), OSError) and "transport" in context:
        return  # its request has it as its failure
    loop.default_exception_handler(context)
    os._exit(_BROKEN)


def _raise_file_limit() -> None:
    """As many connections as the system allows: the usual soft limit of 1024 would be a failure of ours."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _origin_in(path: Path) -> int | None:
    """The origin that the file holds, None before there is one; it is written whole."""
    try:
        return int(path.read_text())
    except FileNotFoundError:
        return None


def main(plan_path: str, rows_path: str, go_path: str, stop_path: str) -> None:
    plan = msgspec.msgpack.decode(Path(plan_path).read_bytes(), type=Plan)
    key = os.environ.pop("INFERFORGE_WORKER_KEY", None)
    os.set_blocking(1, False)
    _raise_file_limit()

    async def drive(rows: BinaryIO) -> None:
        asyncio.get_running_loop().set_exception_handler(_die)
        driver = Driver(plan, key, rows, _print_progress, told_to_stop=Path(stop_path).exists)
        finish = await driver.run(lambda: _origin_in(Path(go_path)))
        write_frame(rows, b"F", finish)

    with Path(rows_path).open("wb", buffering=0) as rows:  # a row that was written outlives this process
        uvloop.run(drive(rows))


if __name__ == "__main__":
    main(*sys.argv[1:])
