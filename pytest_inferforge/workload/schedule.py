"""One seed in, one schedule out: every due time, length and class, before anything is sent."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from pytest_inferforge.errors import UsageError
from pytest_inferforge.workload import arrivals as _arrivals
from pytest_inferforge.workload import content, due, files
from pytest_inferforge.workload import lengths as _lengths
from pytest_inferforge.workload.arrivals import Burst, Closed, Stress, Trace
from pytest_inferforge.workload.spec import FROM_FILE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from pytest_inferforge.workload.spec import Lane, RequestClass, Workload
    from pytest_inferforge.workload.traces import TraceTable

    Ints = NDArray[np.int64]
    Floats = NDArray[np.float64]

CLOSED_POOL = 4096  # conversations drawn for a closed loop that ends by time; then they repeat
FROM_TEXT = -1  # a length that the prompt file decides
_STREAMS = {"arrivals": 0, "prompt": 1, "output": 2, "warmup": 3, "class": 4, "turns": 5, "think": 6,
            "text": 7, "prefix": 8}  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Requests:
    """n requests as columns, each (n,), conversation by conversation, in order of their first turn.

    `due_s`: seconds from the origin; NaN: when another request has ended. `lane`: which of the workload's
    lanes; `cls`: place of its class; `session`: its conversation, 0, 1, ...; `turn`: 0, 1, ... in it;
    `think_s`: from the end of the turn before to this one. Lengths are in tokens, FROM_TEXT: unknown.
    `text`: place in the prompt file, -1: none. Prefix blocks of request i:
    `blocks[block_start[i] : block_start[i + 1]]`.
    """

    due_s: Floats
    lane: Ints
    cls: Ints
    session: Ints
    turn: Ints
    think_s: Floats
    prompt_tokens: Ints
    output_tokens: Ints
    text: Ints
    block_start: Ints  # (n + 1,)
    blocks: Ints

    def __len__(self) -> int:
        return len(self.cls)


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """What the workers execute.

    A closed loop that ends by time starts over when it has used all its requests. `block_tokens`: size of a
    prefix block, by class. `hash` is part of the workload's identity: equal workloads give equal schedules
    everywhere.
    """

    workload: Workload
    requests: Requests
    warmup: Requests
    warmup_concurrency: int
    block_tokens: tuple[int, ...]
    hash: str

    @property
    def due_s(self) -> Floats:
        """Due times of the requests that have one."""
        return self.requests.due_s[~np.isnan(self.requests.due_s)]

    def salted(self, place: int) -> bool:
        """No two prompts of that class share a beginning, so a prefix cache must not help."""
        c = self.workload.classes[place]
        return not (c.prefix_cache or c.prompts or c.turns or self.block_tokens[place])


def build(workload: Workload, *, warmup_waves: int, warmup_max_concurrency: int) -> Schedule:
    """Draw the schedule; each property of each lane and class has a random stream of its own."""
    trace = _trace(workload)
    parts = [_lane(workload, k, lane, trace) for k, lane in enumerate(workload.lanes)]
    requests = _merged(parts)
    concurrency = max(1, min(warmup_max_concurrency, _concurrency(workload, requests)))
    warmups = workload.warmup if workload.warmup is not None else warmup_waves * concurrency
    block_tokens = tuple(
        c.prefixes.tokens if c.prefixes else trace.block_tokens if trace is not None else 0
        for c in workload.classes
    )
    return Schedule(
        workload=workload,
        requests=requests,
        warmup=_warmup(workload, requests, warmups),
        warmup_concurrency=max(1, min(concurrency, warmups)),
        block_tokens=block_tokens,
        hash=_hash(workload, requests),
    )


def _stream(workload: Workload, name: str, place: int = 0) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(workload.seed, spawn_key=(_STREAMS[name], place)))


def _trace(workload: Workload) -> TraceTable | None:
    if not isinstance(workload.arrivals, Trace) or workload.trace is None:
        return None
    return files.trace_of(workload.trace, workload.arrivals.format)


# -- one lane --------------------------------------------------------------------------------------------


def _lane(workload: Workload, place: int, lane: Lane, trace: TraceTable | None) -> Requests:
    if isinstance(lane.arrivals, Stress):
        raise ValueError("a stress workload has no schedule of its own: at_rate() makes its steps")
    if isinstance(lane.arrivals, Trace) and trace is not None:
        return _traced(workload, lane.arrivals, trace)
    starts = _starts(workload, place, lane)
    weights = np.array(lane.weights) / sum(lane.weights)
    rng = _stream(workload, "class", place)
    cls = (
        np.array(lane.classes)[rng.choice(len(weights), size=len(starts), p=weights)]
        if len(weights) > 1
        else np.full(len(starts), lane.classes[0])
    )
    turns = np.ones(len(starts), dtype=np.int64)
    for k in lane.classes:
        c, mine = workload.classes[k], cls == k
        if c.turns == FROM_FILE:
            turns[mine] = _turns_of_file(workload, k, c, int(mine.sum()))
        elif c.turns is not None:
            turns[mine] = _lengths.draw_array(c.turns, _stream(workload, "turns", k), int(mine.sum()))
    if lane.requests is not None:  # conversations until there are enough requests; the last is cut
        before = np.cumsum(turns) - turns
        kept = before < lane.requests
        starts, cls, turns, before = starts[kept], cls[kept], turns[kept], before[kept]
        turns = np.minimum(turns, lane.requests - before)
    session = np.repeat(np.arange(len(starts)), turns)
    turn = np.arange(len(session)) - np.repeat(np.cumsum(turns) - turns, turns)
    return _filled(workload, place, cls[session], np.where(turn == 0, starts[session], np.nan), session, turn)


def _turns_of_file(workload: Workload, place: int, c: RequestClass, n: int) -> Ints:
    """How many turns each of n conversations has, in the order in which `_texts` takes them."""
    assert c.prompts is not None
    counts = np.array([len(one.turns) for one in files.corpus_of(c.prompts).conversations])
    order = _stream(workload, "text", place).permutation(len(counts))
    found: Ints = counts[order[np.arange(n) % len(counts)]]
    return found


def _starts(workload: Workload, place: int, lane: Lane) -> Floats:
    """When each conversation of a lane begins; NaN in a closed loop."""
    if isinstance(lane.arrivals, Closed):
        return np.full(lane.requests if lane.requests is not None else CLOSED_POOL, np.nan)
    return due.due_times(
        lane.arrivals,
        _stream(workload, "arrivals", place),
        requests=lane.requests,
        duration_s=workload.duration_s if lane.requests is None else None,
    )


def _filled(workload: Workload, place: int, cls: Ints, due_s: Floats, session: Ints, turn: Ints) -> Requests:
    """The columns that follow from which request is of which class."""
    n = len(cls)
    prompt, output, text = (np.full(n, FROM_TEXT, dtype=np.int64) for _ in range(3))
    think, prefix = np.zeros(n), np.full(n, -1, dtype=np.int64)
    for k in np.unique(cls).tolist():
        c, mine = workload.classes[k], cls == k
        count = int(mine.sum())
        if c.prompt_tokens is not None:
            prompt[mine] = _lengths.draw_array(c.prompt_tokens, _stream(workload, "prompt", k), count)
        if c.prompts is not None:
            text[mine] = _texts(workload, k, c, session[mine])
        output[mine] = _outputs(workload, k, c, text[mine], turn[mine])
        think[mine] = content.draw_pauses(c.think, _stream(workload, "think", k), count)
        if c.prefixes is not None:
            rng = _stream(workload, "prefix", k)
            shares = rng.random(count) < c.prefixes.share
            prefix[mine] = np.where(shares, rng.integers(0, c.prefixes.count, size=count), -1)
    prefix[turn > 0] = -1
    think[turn == 0] = 0.0
    return Requests(
        due_s=due_s,
        lane=np.full(n, place, dtype=np.int64),
        cls=cls.astype(np.int64),
        session=session,
        turn=turn,
        think_s=think,
        prompt_tokens=prompt,
        output_tokens=output,
        text=text,
        block_start=np.concatenate(([0], np.cumsum(prefix >= 0))).astype(np.int64),
        blocks=prefix[prefix >= 0],
    )


def _texts(workload: Workload, place: int, c: RequestClass, session: Ints) -> Ints:
    """A conversation of the file for each of ours: all of them in a drawn order, then again."""
    assert c.prompts is not None
    n = len(files.corpus_of(c.prompts).conversations)
    order = _stream(workload, "text", place).permutation(n)
    _, serial = np.unique(session, return_inverse=True)
    found: Ints = order[serial % n]
    return found


def _outputs(workload: Workload, place: int, c: RequestClass, text: Ints, turn: Ints) -> Ints:
    if c.output_tokens is not None:
        return _lengths.draw_array(c.output_tokens, _stream(workload, "output", place), len(text))
    if c.prompts is None:
        return np.full(len(text), FROM_TEXT, dtype=np.int64)
    asked = [conversation.output_tokens for conversation in files.corpus_of(c.prompts).conversations]
    found = [asked[t][k % len(asked[t])] for t, k in zip(text.tolist(), turn.tolist(), strict=True)]
    if None in found:
        raise UsageError(
            "the prompt file does not say how long each answer is",
            seen=str(c.prompts),
            do="give output_tokens, or a number of output_tokens in each of its rows",
        )
    return np.array(found, dtype=np.int64)


def _traced(workload: Workload, arrivals: Trace, trace: TraceTable) -> Requests:
    """The rows of a trace as they came; a class's own lengths take the place of the trace's."""
    due_s = trace.due_s * arrivals.time_scale
    keep = np.ones(len(due_s), dtype=bool)
    if workload.duration_s is not None:
        keep &= due_s < workload.duration_s
    if workload.requests is not None:
        keep[workload.requests :] = False
    n = int(keep.sum())  # rows are in order of time, so these are the first n
    drawn = _filled(
        workload, 0, _traced_classes(workload, trace, n), due_s[:n], np.arange(n), np.zeros(n, int)
    )
    stop = int(trace.block_start[n])
    own_prefix = any(c.prefixes for c in workload.classes)
    return Requests(
        due_s=drawn.due_s,
        lane=drawn.lane,
        cls=drawn.cls,
        session=drawn.session,
        turn=drawn.turn,
        think_s=drawn.think_s,
        prompt_tokens=_either(drawn.prompt_tokens, drawn.text, trace.prompt_tokens[:n]),
        output_tokens=np.where(
            drawn.output_tokens == FROM_TEXT, trace.output_tokens[:n], drawn.output_tokens
        ),
        text=drawn.text,
        block_start=drawn.block_start if own_prefix else trace.block_start[: n + 1],
        blocks=drawn.blocks if own_prefix else trace.blocks[:stop].astype(np.int64),
    )


def _either(drawn: Ints, text: Ints, traced: NDArray[np.int32]) -> Ints:
    return np.where((drawn == FROM_TEXT) & (text < 0), traced, drawn)


def _traced_classes(workload: Workload, trace: TraceTable, n: int) -> Ints:
    """Which class each row is of; all of the only class when the workload names none."""
    if not workload.class_names:
        return np.zeros(n, dtype=np.int64)
    known = {name: k for k, name in enumerate(workload.class_names)}
    named = trace.class_name or ()
    if unknown := [name for name in named if name not in known]:
        raise UsageError(
            "the trace names classes that the workload does not have",
            seen=", ".join(unknown),
            do=f"known: {', '.join(known)}",
        )
    if not named:
        rng = _stream(workload, "class")
        lane = workload.lanes[0]
        weights = np.array(lane.weights)
        return np.array(lane.classes)[rng.choice(len(weights), size=n, p=weights / weights.sum())]
    if (trace.class_id[:n] < 0).any():
        raise UsageError(
            "some rows of the trace name a class, and some do not",
            seen=f"row {int(np.argmax(trace.class_id[:n] < 0)) + 1} has none",
            do="give each row a class, or none",
        )
    return np.array([known[name] for name in named])[trace.class_id[:n]]


# -- all lanes -------------------------------------------------------------------------------------------


def _merged(parts: Sequence[Requests]) -> Requests:
    """Conversations of all lanes in order of their first turn's due time; those without one come last."""
    offsets = np.cumsum([0, *(int(p.session[-1]) + 1 if len(p) else 0 for p in parts)])
    session = np.concatenate([p.session + offset for p, offset in zip(parts, offsets, strict=False)])
    due_s = np.concatenate([p.due_s for p in parts])
    turn = np.concatenate([p.turn for p in parts])
    first = np.maximum.accumulate(np.where(turn == 0, np.arange(len(turn)), 0)) if len(turn) else turn
    order = np.argsort(due_s[first], kind="stable") if len(parts) > 1 else np.arange(len(turn))
    if len(parts) > 1:  # number the conversations anew in that order
        _, places, inverse = np.unique(session[order], return_index=True, return_inverse=True)
        session = np.empty(len(places), dtype=np.int64)
        session[np.argsort(places)] = np.arange(len(places))
        session = session[inverse]
    starts = np.concatenate(
        [[0], *(p.block_start[1:] + o for p, o in zip(parts, _block_offsets(parts), strict=True))]
    )
    sizes = np.diff(starts)[order]
    blocks = np.concatenate([p.blocks for p in parts])
    if len(parts) > 1:
        blocks = blocks[_ranges(starts[:-1][order], sizes)]

    def column(name: str) -> NDArray[np.generic]:
        return np.concatenate([getattr(p, name) for p in parts])[order]

    columns = {
        f.name: column(f.name) for f in fields(Requests) if f.name not in ("session", "block_start", "blocks")
    }
    return Requests(
        session=session,
        block_start=np.concatenate(([0], np.cumsum(sizes))).astype(np.int64),
        blocks=blocks,
        **columns,  # type: ignore[arg-type]
    )


def _block_offsets(parts: Sequence[Requests]) -> list[int]:
    return [int(o) for o in np.cumsum([0, *(len(p.blocks) for p in parts)])[:-1]]


def _ranges(starts: Ints, sizes: Ints) -> Ints:
    """The concatenation of starts[i] .. starts[i] + sizes[i]."""
    return np.repeat(starts - (np.cumsum(sizes) - sizes), sizes) + np.arange(int(sizes.sum()))


def _warmup(workload: Workload, requests: Requests, n: int) -> Requests:
    """The same law with another seed: single turns, so that each is done when it is answered."""
    rng = _stream(workload, "warmup")
    picked = rng.integers(0, len(requests), size=n) if len(requests) else np.zeros(0, dtype=np.int64)
    sizes = np.diff(requests.block_start)[picked]
    prompt, output = requests.prompt_tokens[picked], requests.output_tokens[picked]
    for k, c in enumerate(workload.classes):
        mine = requests.cls[picked] == k
        if c.prompt_tokens is not None:
            prompt[mine] = _lengths.draw_array(c.prompt_tokens, rng, int(mine.sum()))
        if c.output_tokens is not None:
            output[mine] = _lengths.draw_array(c.output_tokens, rng, int(mine.sum()))
    return Requests(
        due_s=np.full(n, np.nan),
        lane=np.zeros(n, dtype=np.int64),
        cls=requests.cls[picked],
        session=np.arange(n),
        turn=np.zeros(n, dtype=np.int64),
        think_s=np.zeros(n),
        prompt_tokens=prompt,
        output_tokens=output,
        text=requests.text[picked],
        block_start=np.concatenate(([0], np.cumsum(sizes))).astype(np.int64),
        blocks=requests.blocks[_ranges(requests.block_start[:-1][picked], sizes)],
    )


def _concurrency(workload: Workload, requests: Requests) -> int:
    """How many requests to keep in flight while warming up: those of a second of arrivals, and the slots."""
    total = 0.0
    for lane in workload.lanes:
        arrivals = lane.arrivals
        if isinstance(arrivals, Closed):
            total += arrivals.concurrency
        elif isinstance(arrivals, Burst):
            total += arrivals.requests
        else:
            total += max(1.0, _arrivals.mean_rate_per_s(arrivals) or _seen_rate(requests))
    return max(1, round(total))


def _seen_rate(requests: Requests) -> float:
    known = requests.due_s[~np.isnan(requests.due_s)]
    span = float(np.ptp(known)) if len(known) > 1 else 0.0
    return len(known) / span if span else float(len(known))


def _hash(workload: Workload, requests: Requests) -> str:
    digest = hashlib.sha256(json.dumps(workload.identity(), sort_keys=True).encode())
    for field in fields(requests):
        column = getattr(requests, field.name)
        if column.dtype.kind == "f":
            column = np.where(np.isnan(column), -1, np.rint(column * 1e9))
        digest.update(column.astype("<i8").tobytes())
    return digest.hexdigest()[:16]
