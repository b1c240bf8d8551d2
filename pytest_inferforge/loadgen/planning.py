"""From a schedule and a server to the plan that a worker executes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pytest_inferforge.errors import MeasuringError
from pytest_inferforge.loadgen.plan import Plan
from pytest_inferforge.workload.prompts import ring

if TYPE_CHECKING:
    from pytest_inferforge.dialects import Dialect
    from pytest_inferforge.workload.prompts import WordBank
    from pytest_inferforge.workload.schedule import Schedule
    from pytest_inferforge.workload.spec import Workload


def make_plan(
    schedule: Schedule,
    *,
    base_url: str,
    model: str,
    dialect: Dialect,
    bank: WordBank,
    id_prefix: str,
    salt: str,
    connect_lead_s: float,
) -> Plan:
    """The plan of one run on one boot.

    `id_prefix` and `salt` are of this run alone: request ids begin with the one, prompts with words drawn
    from the other.

    Raises:
        MeasuringError: a prompt is asked for that is shorter than what the server wraps around it.
    """
    workload = schedule.workload
    _check_lengths(schedule, bank)
    return Plan(
        url=base_url.rstrip("/")
        + (dialect.chat_path if workload.api == "chat" else dialect.completions_path),
        model=model,
        chat=workload.api == "chat",
        body=constant_body(workload, dialect),
        max_tokens_field=dialect.max_tokens_field,
        min_tokens_field="min_tokens" if dialect.min_tokens else None,
        id_prefix=id_prefix,
        due_ns=[round(t * 1e9) for t in schedule.due_s],
        prompt_tokens=list(schedule.prompt_tokens),
        output_tokens=list(schedule.output_tokens),
        concurrency=schedule.concurrency,
        requests=workload.requests,
        duration_ns=None if workload.duration_s is None else round(workload.duration_s * 1e9),
        warmup_concurrency=schedule.warmup_concurrency,
        warmup_prompt_tokens=list(schedule.warmup_prompt_tokens),
        warmup_output_tokens=list(schedule.warmup_output_tokens),
        words=list(bank.words),
        ring=list(ring(bank, workload.seed)),
        overhead_tokens=bank.overhead_tokens,
        salt=None if workload.prefix_cache else salt,
        survives_stream=dialect.survives_stream,
        timeout_ns=round(workload.timeout_s * 1e9),
        stall_timeout_ns=round(workload.stall_timeout_s * 1e9),
        drain_timeout_ns=round(workload.drain_timeout_s * 1e9),
        connect_lead_ns=round(connect_lead_s * 1e9),
    )


def constant_body(workload: Workload, dialect: Dialect) -> dict[str, Any]:
    """The fields that every request of a workload carries; what the user added wins."""
    fields = dialect.body_chat if workload.api == "chat" else dialect.body_completions
    body: dict[str, Any] = {"stream": True, "temperature": workload.temperature, **dict(fields)}
    if dialect.stream_options_usage:
        body["stream_options"] = {"include_usage": True}
    if dialect.ignore_eos:
        body["ignore_eos"] = True
    if not workload.prefix_cache:
        body |= dict(dialect.prefix_cache_off)
    extra: dict[str, Any] = json.loads(workload.extra_body)
    return body | extra


def _check_lengths(schedule: Schedule, bank: WordBank) -> None:
    shortest = min((*schedule.prompt_tokens, *schedule.warmup_prompt_tokens), default=bank.overhead_tokens)
    if shortest < bank.overhead_tokens:
        raise MeasuringError(
            f"a prompt of {shortest} tokens cannot be made",
            seen=f"opening word and template alone cost {bank.overhead_tokens} tokens on this server",
            do=f"ask for prompt_tokens of at least {bank.overhead_tokens}, or set min= of the distribution",
        )
