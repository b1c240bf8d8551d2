"""Plans without a server."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_inferforge.dialects import DIALECTS
from pytest_inferforge.loadgen.plan import Plan
from pytest_inferforge.loadgen.planning import Target, make_plan
from pytest_inferforge.options import LoadOptions
from pytest_inferforge.words import WORDS
from pytest_inferforge.workload import arguments, schedule
from pytest_inferforge.workload.prompts import WordBank


@pytest.fixture(scope="session")
def plan_for() -> Callable[..., Plan]:
    """The plan of a workload's arguments for a server that speaks a dialect."""

    def plan_for(dialect: str, folder: Path | None = None, **given: Any) -> Plan:
        options = LoadOptions()
        given = {"arrivals": "closed 2", "requests": 2, "prompt_tokens": 16, "output_tokens": 8} | given
        workload = arguments.from_arguments(
            {k: v for k, v in given.items() if v is not None}, options, folder=folder
        )
        drawn = schedule.build(workload, warmup_waves=2, warmup_max_concurrency=32)
        ids = tuple(range(len(WORDS) + 1))
        bank = WordBank(words=WORDS, overhead_tokens=1, ids=ids)
        target = Target(
            base_url="http://h:1",
            model="m",
            dialect=DIALECTS[dialect],
            banks={c.api: bank for c in workload.classes if c.prompts is None},
        )
        return make_plan(drawn, target, id_prefix="t", salt="s", connect_lead_s=0.05)

    return plan_for
