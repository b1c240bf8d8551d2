"""Going first: a measuring process needs little of a core, but at once."""

from __future__ import annotations

import contextlib
import os


def hurry(core: int | None = None) -> str:
    """Go before other programs when bytes arrive, as far as this user may; it takes a few percent of a core.

    `core`: the one to stay on, None: whichever is free. Returns what was granted: "real-time", "nice -10" or
    "normal".

    Source: sched(7): a real-time process runs as soon as it is ready, whatever else keeps the cores busy.
    """
    if core is not None:
        with contextlib.suppress(AttributeError, OSError):
            os.sched_setaffinity(0, {core})
    with contextlib.suppress(AttributeError, OSError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
        return "real-time"
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, -10)
        return "nice -10"
    return "normal"
