"""From a schedule and a server to the plans that workers execute."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_inferforge.errors import MeasuringError
from pytest_inferforge.loadgen.plan import NOT_DUE, BankPlan, ClassPlan, Items, LanePlan, Plan, TextPlan
from pytest_inferforge.workload import files
from pytest_inferforge.workload.arrivals import Closed
from pytest_inferforge.workload.prompts import ring

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from pytest_inferforge.dialects import Dialect
    from pytest_inferforge.workload.prompts import WordBank
    from pytest_inferforge.workload.schedule import Requests, Schedule
    from pytest_inferforge.workload.spec import Api, RequestClass, Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where the load goes. `banks`: by API, as far as classes have synthetic prompts.

    `proxies`: httpx goes by those of the environment; not to a server that was started here.
    """

    base_url: str
    model: str
    dialect: Dialect
    banks: Mapping[Api, WordBank]
    ca_file: str | None = None
    verify_tls: bool = True
    proxies: bool = False


def make_plan(
    schedule: Schedule,
    target: Target,
    *,
    id_prefix: str,
    salt: str,
    connect_lead_s: float,
    worker: int = 0,
    workers: int = 1,
    core: int | None = None,
) -> Plan:
    """The share of one of `workers` workers in one run on one boot: conversations i = worker mod workers.

    `id_prefix` and `salt` are of this run alone: request ids begin with the one, prompts with words drawn
    from the other.

    Raises:
        MeasuringError: a prompt is asked for that is shorter than what the server wraps around it, or a class
            asks what cannot be said in the server's dialect.
    """
    workload, dialect = schedule.workload, target.dialect
    for c in workload.classes:
        refuse_unspoken(dialect, c.api, token_ids=c.token_ids)
    _check_lengths(schedule, target.banks)
    apis: list[Api] = sorted(target.banks)
    mine = np.flatnonzero(schedule.requests.session % workers == worker)
    warmup = np.flatnonzero(np.arange(len(schedule.warmup)) % workers == worker)
    return Plan(
        url=target.base_url.rstrip("/"),
        model=target.model,
        worker=worker,
        workers=workers,
        id_prefix=id_prefix,
        total=len(schedule.requests),
        items=_items(schedule.requests, mine),
        lanes=_lanes(schedule, mine, worker, workers),
        classes=[
            _class(schedule, k, dialect, apis, target.banks, salt) for k in range(len(workload.classes))
        ],
        banks=[_bank(target.banks[api], workload.seed) for api in apis],
        texts=[_texts(c) for c in workload.classes],
        duration_ns=None if workload.duration_s is None else round(workload.duration_s * 1e9),
        warmup=_items(schedule.warmup, warmup),
        warmup_concurrency=-(-schedule.warmup_concurrency // workers),
        survives_stream=dialect.survives_stream,
        timeout_ns=round(workload.timeout_s * 1e9),
        stall_timeout_ns=round(workload.stall_timeout_s * 1e9),
        drain_timeout_ns=round(workload.drain_timeout_s * 1e9),
        connect_lead_ns=round(connect_lead_s * 1e9),
        transport=workload.transport,
        proxies=target.proxies,
        ca_file=target.ca_file,
        verify_tls=target.verify_tls,
        core=core,
        headers=dialect.headers,
        key_header=dialect.key_header,
    )


def refuse_unspoken(dialect: Dialect, api: Api, *, token_ids: bool) -> None:
    """Refuse what cannot be said in a dialect, before anything is sent.

    Raises:
        MeasuringError: it has no such API, or its prompts cannot be token ids.
    """
    if api == "completions" and dialect.completions_path is None:
        raise MeasuringError(
            "the server offers no completions",
            seen=f"its dialect is {dialect.name}, and the workload asks for api='completions'",
            do="ask for api='chat'",
        )
    if token_ids and not dialect.token_ids:
        raise MeasuringError(
            "prompts cannot be sent to this server as token ids",
            seen=f"its dialect is {dialect.name}, and the workload asks for token_ids=True",
            do="drop token_ids: prompts are then texts of the same length",
        )


def constant_body(c: RequestClass, dialect: Dialect, *, salted: bool) -> dict[str, Any]:
    """The fields that every request of a class carries; what the user added wins."""
    fields = dialect.body_chat if c.api == "chat" else dialect.body_completions
    body: dict[str, Any] = {"stream": True, "temperature": c.temperature, **dict(fields)}
    if dialect.stream_options_usage:
        body["stream_options"] = {"include_usage": True}
    if dialect.ignore_eos:
        body["ignore_eos"] = True
    if salted:
        body |= dict(dialect.prefix_cache_off)
    extra: dict[str, Any] = json.loads(c.extra_body)
    return body | extra


def _class(
    schedule: Schedule,
    place: int,
    dialect: Dialect,
    apis: list[Api],
    banks: Mapping[Api, WordBank],
    salt: str,
) -> ClassPlan:
    c = schedule.workload.classes[place]
    images, chat = c.images, c.api == "chat"
    path = dialect.chat_path if chat else dialect.completions_path
    assert path is not None
    body = constant_body(c, dialect, salted=schedule.salted(place))
    length_json = dialect.length_json
    return ClassPlan(
        name=c.name,
        path=path,
        chat=chat,
        body=body,
        max_tokens_field=dialect.max_tokens_chat if chat else dialect.max_tokens_completions,
        min_tokens_field=dialect.min_tokens_chat if chat else dialect.min_tokens_completions,
        bank=apis.index(c.api) if c.api in banks else -1,
        salt=None if c.prefix_cache else salt,
        token_ids=c.token_ids,
        block_tokens=schedule.block_tokens[place],
        images=None if images is None else (images.count, images.width, images.height),
        turns=c.turns is not None,
        wire=dialect.wire,
        length_json=None if length_json is None or length_json[0] in body else length_json,
    )


def _bank(bank: WordBank, seed: int) -> BankPlan:
    return BankPlan(
        words=list(bank.words),
        ids=list(bank.ids),
        ring=list(ring(bank, seed)),
        overhead_tokens=bank.overhead_tokens,
    )


def _texts(c: RequestClass) -> list[TextPlan]:
    if c.prompts is None:
        return []
    found = files.corpus_of(c.prompts).conversations
    return [TextPlan(system=one.system, turns=list(one.turns)) for one in found]


def _items(requests: Requests, mine: NDArray[np.intp]) -> Items:
    sizes = np.diff(requests.block_start)[mine]
    starts = requests.block_start[:-1][mine]
    blocks = np.repeat(starts - (np.cumsum(sizes) - sizes), sizes) + np.arange(int(sizes.sum()))
    due_ns = np.where(np.isnan(requests.due_s), NOT_DUE, np.rint(requests.due_s * 1e9))[mine]
    return Items(
        index=mine.astype("i8").tobytes(),
        due_ns=due_ns.astype("i8").tobytes(),
        lane=requests.lane[mine].astype("i2").tobytes(),
        cls=requests.cls[mine].astype("i2").tobytes(),
        session=requests.session[mine].astype("i8").tobytes(),
        turn=requests.turn[mine].astype("i2").tobytes(),
        think_ns=np.rint(requests.think_s[mine] * 1e9).astype("i8").tobytes(),
        prompt_tokens=requests.prompt_tokens[mine].astype("i4").tobytes(),
        output_tokens=requests.output_tokens[mine].astype("i4").tobytes(),
        text=requests.text[mine].astype("i4").tobytes(),
        block_start=np.concatenate(([0], np.cumsum(sizes))).astype("i8").tobytes(),
        blocks=requests.blocks[blocks].astype("i4").tobytes(),
    )


def _lanes(schedule: Schedule, mine: NDArray[np.intp], worker: int, workers: int) -> list[LanePlan]:
    """This worker's users of each closed loop; user i begins at i / concurrency of the ramp."""
    found = []
    for k, lane in enumerate(schedule.workload.lanes):
        if not isinstance(lane.arrivals, Closed):
            continue
        users = range(worker, lane.arrivals.concurrency, workers)
        step_ns = lane.arrivals.ramp_s * 1e9 / lane.arrivals.concurrency
        count = int((schedule.requests.lane[mine] == k).sum())
        found.append(
            LanePlan(
                lane=k,
                concurrency=len(users),
                start_ns=[round(user * step_ns) for user in users],
                requests=None if lane.requests is None else count,
            )
        )
    return found


def _check_lengths(schedule: Schedule, banks: Mapping[Api, WordBank]) -> None:
    workload: Workload = schedule.workload
    for k, c in enumerate(workload.classes):
        bank = banks.get(c.api)
        if bank is None:
            continue
        needed = 1 if c.token_ids else bank.overhead_tokens
        lengths = [
            r.prompt_tokens[(r.cls == k) & (r.turn == 0) & (r.text < 0)]
            for r in (schedule.requests, schedule.warmup)
        ]
        shortest = min((int(n.min()) for n in lengths if len(n)), default=needed)
        if shortest < needed:
            raise MeasuringError(
                f"a prompt of {shortest} tokens cannot be made",
                seen=f"opening word and template alone cost {needed} tokens on this server",
                do=f"ask for prompt_tokens of at least {needed}, or set min= of the distribution",
            )
