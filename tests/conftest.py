"""What tests of several folders need."""

import os
from collections.abc import Callable

import pytest

from pytest_inferforge.loadgen.plan import Plan
from pytest_inferforge.words import WORDS

# CI sets it: there an absent engine is a failure, elsewhere a skip that says what to install.
ENGINES_REQUIRED = os.environ.get("INFERFORGE_REQUIRE_ENGINES") == "1"


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    report = yield
    if ENGINES_REQUIRED and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"{collector.nodeid}: an engine is absent where all are required: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if ENGINES_REQUIRED and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid}: skipped where nothing may be: {report.longrepr}"
    return report


@pytest.fixture(scope="session")
def load_plan() -> Callable[..., Plan]:
    """A plan from what matters to a test; times in seconds, `due_s` makes it an open loop."""

    def plan(
        url: str,
        *,
        chat: bool = False,
        due_s: tuple[float, ...] = (),
        concurrency: int | None = None,
        requests: int | None = None,
        duration_s: float | None = None,
        output_tokens: int = 4,
        warmup: int = 0,
        survives_stream: bool = True,
        timeout_s: float = 30.0,
        stall_s: float = 10.0,
        drain_s: float = 10.0,
        lead_s: float = 0.05,
        words: tuple[str, ...] = WORDS,
    ) -> Plan:
        n = len(due_s) or requests or 64
        path = "/v1/chat/completions" if chat else "/v1/completions"
        return Plan(
            url=url + path,
            model="timetable",
            chat=chat,
            body={"stream": True, "temperature": 0},
            max_tokens_field="max_tokens",
            min_tokens_field=None,
            id_prefix="t",
            due_ns=[round(t * 1e9) for t in due_s],
            prompt_tokens=[16] * n,
            output_tokens=[output_tokens] * n,
            concurrency=concurrency,
            requests=requests,
            duration_ns=None if duration_s is None else round(duration_s * 1e9),
            warmup_concurrency=max(1, min(4, warmup)),
            warmup_prompt_tokens=[16] * warmup,
            warmup_output_tokens=[output_tokens] * warmup,
            words=list(words),
            ring=list(words),
            overhead_tokens=4 if chat else 1,
            salt="a salt",
            survives_stream=survives_stream,
            timeout_ns=round(timeout_s * 1e9),
            stall_timeout_ns=round(stall_s * 1e9),
            drain_timeout_ns=round(drain_s * 1e9),
            connect_lead_ns=round(lead_s * 1e9),
        )

    return plan
