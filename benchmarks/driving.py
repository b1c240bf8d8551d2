"""A workload driven by one worker at a timetable server, as the benchmarks do it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_inferforge.dialects import DIALECTS
from pytest_inferforge.loadgen import fleet
from pytest_inferforge.loadgen.planning import Target, make_plan
from pytest_inferforge.options import LoadOptions
from pytest_inferforge.testing.timetable import Timetable, TimetableServer, TrueTimes
from pytest_inferforge.words import WORDS
from pytest_inferforge.workload import arguments, schedule
from pytest_inferforge.workload.prompts import WordBank

if TYPE_CHECKING:
    from pytest_inferforge.loadgen.plan import Plan

PROMPT_TOKENS = 32


def plan(url: str, **asked: Any) -> Plan:
    """One worker's plan of a workload's arguments, for the timetable server there."""
    options = LoadOptions()
    drawn = schedule.build(
        arguments.from_arguments({"prompt_tokens": PROMPT_TOKENS, **asked}, options),
        warmup_waves=options.warmup_waves,
        warmup_max_concurrency=options.warmup_max_concurrency,
    )
    target = Target(
        base_url=url,
        model="timetable",
        dialect=DIALECTS["vllm"],
        banks={"completions": WordBank(words=WORDS, overhead_tokens=1)},
    )
    salt = str(drawn.workload.seed)
    return make_plan(drawn, target, id_prefix="b", salt=salt, connect_lead_s=options.connect_lead_s)


def drive(timetable: Timetable, **asked: Any) -> tuple[fleet.Drive, dict[str, TrueTimes]]:
    """What one worker reports of a workload, and what really happened."""
    with TimetableServer(timetable) as server, tempfile.TemporaryDirectory() as folder:
        made = plan(server.url, **asked)
        found = fleet.drive([made], api_key=None, folder=Path(folder), name="benchmark")
        return found, server.true_times()
