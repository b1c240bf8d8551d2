"""How one boot of a timetable server differs from another, as real ones do."""

from __future__ import annotations

import fcntl
import math
import random
from pathlib import Path
from typing import Any


def of_this_boot(config: dict[str, Any]) -> float:
    """The factor on all times of this boot: its own luck, and a drift of the machine from boot to boot.

    Boots are counted in the file `boots_file`, which servers of one machine share. The luck of boot k is
    log-normal with `boot_sd`, drawn from the seed and k; the drift is `boot_drift` a boot.
    """
    if config["boots_file"] is None:
        return 1.0
    number = _count(Path(config["boots_file"]))
    luck = random.Random(f"{config['seed']}/{number}").gauss(0.0, config["boot_sd"])  # noqa: S311 (no secret)
    return math.exp(luck + config["boot_drift"] * number)


def _count(path: Path) -> int:
    """0 at the first boot, 1 at the next, ...: one after the other, also of several processes."""
    with path.open("a+", encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        number = int(file.read() or "0")
        file.truncate(0)
        file.write(str(number + 1))
    return number
