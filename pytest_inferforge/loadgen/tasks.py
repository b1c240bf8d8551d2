"""Tasks whose errors are not lost: asyncio itself would only tell of one when it is collected."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Coroutine


def start(coroutine: Coroutine[object, object, None]) -> asyncio.Task[None]:
    """Run it; an exception that ends it goes to the loop's exception handler at once."""
    task = asyncio.get_running_loop().create_task(coroutine)
    task.add_done_callback(_report)
    return task


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        context = {"message": f"{task.get_name()} failed", "exception": error, "task": task}
        task.get_loop().call_exception_handler(context)
