"""A declared workload: what is asked of a server, as checked values. Made by `workload.arguments`."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Literal

from pytest_inferforge import units
from pytest_inferforge.workload import arrivals as _arrivals
from pytest_inferforge.workload import lengths as _lengths
from pytest_inferforge.workload.arrivals import Burst, Closed, Stress, Trace

if TYPE_CHECKING:
    from pytest_inferforge.workload.arrivals import Arrivals
    from pytest_inferforge.workload.content import FileRef, Images, Pause, Prefixes
    from pytest_inferforge.workload.lengths import Lengths

Api = Literal["completions", "chat"]
Transport = Literal["wire", "httpx"]
Stop = Literal["planned", "early"]
FROM_FILE: Literal["file"] = "file"
"""`turns` of conversations that have as many as the prompt file gives them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestClass:
    """One kind of request. The only class of a workload has no name.

    `arrivals`: its own; None: it takes `share` of the workload's. `requests`: how many, with arrivals of its
    own. `prompt_tokens` counts what the server counts, its template included; in a conversation the later
    turns' new words. None: the trace or the prompt file says. `prefix_cache`: prompts share their beginning,
    so that a prefix cache helps; else each begins with a salt of its own, behind `prefixes` where some are
    shared. `turns`: of a conversation.
    """

    name: str
    arrivals: Arrivals | None
    share: float
    requests: int | None
    prompt_tokens: Lengths | None
    output_tokens: Lengths | None
    api: Api
    token_ids: bool
    prefix_cache: bool
    prefixes: Prefixes | None
    prompts: FileRef | None
    images: Images | None
    turns: Lengths | Literal["file"] | None
    think: Pause | None
    temperature: float
    extra_body: str  # JSON object, keys sorted

    def describe(self) -> str:
        """`256 -> 128 tokens, chat`."""
        prompt = self.prompt_tokens or (self.prompts and str(self.prompts)) or "traced"
        parts = [f"{prompt} -> {self.output_tokens or 'traced'} tokens", self.api]
        if self.turns:
            turns = "the file's" if self.turns == FROM_FILE else str(self.turns)
            parts.append(f"{turns} turns" + (f" after {self.think}" if self.think else ""))
        parts += [f"shared prefix {self.prefixes}"] if self.prefixes else []
        parts += [f"images {self.images}"] if self.images else []
        return ", ".join(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """One process of arrivals and the classes (by place) that it serves, with their weights."""

    arrivals: Arrivals
    requests: int | None
    classes: tuple[int, ...]
    weights: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What is asked of a server.

    `arrivals`: shared by the classes that have none of their own; None: each has. `trace`: the file of a
    trace replay. `warmup`: requests before anything counts; None: as many as `LoadOptions.warmup_waves`
    waves. `stop`: at its planned end, or once its SLOs are decided; the load is the same.
    """

    arrivals: Arrivals | None
    trace: FileRef | None
    requests: int | None
    duration_s: float | None
    classes: tuple[RequestClass, ...]
    warmup: int | None
    timeout_s: float
    stall_timeout_s: float
    drain_timeout_s: float
    seed: int
    transport: Transport
    stop: Stop = "planned"

    @property
    def lanes(self) -> tuple[Lane, ...]:
        """The arrivals that run beside each other."""
        sharing = [k for k, c in enumerate(self.classes) if c.arrivals is None]
        found = []
        if sharing and self.arrivals is not None:
            weights = tuple(self.classes[k].share for k in sharing)
            found.append(
                Lane(arrivals=self.arrivals, requests=self.requests, classes=tuple(sharing), weights=weights)
            )
        for k, c in enumerate(self.classes):
            if c.arrivals is not None:
                found.append(Lane(arrivals=c.arrivals, requests=c.requests, classes=(k,), weights=(1.0,)))
        return tuple(found)

    @property
    def closed_loop(self) -> bool:
        """Every request waits for another one to end."""
        return all(isinstance(lane.arrivals, Closed) for lane in self.lanes)

    @property
    def stress(self) -> Stress | None:
        """The raising rate of a stress workload, which is measured in steps."""
        return self.arrivals if isinstance(self.arrivals, Stress) else None

    @property
    def class_names(self) -> tuple[str, ...]:
        """Those of the classes that have one."""
        return tuple(c.name for c in self.classes if c.name)

    def closed_class(self, name: str) -> bool:
        """Whether the requests of a class come from a closed loop."""
        arrivals = next((c.arrivals for c in self.classes if c.name == name), None) or self.arrivals
        return isinstance(arrivals, Closed)

    def expected_of(self, name: str) -> int | None:
        """How many requests of a class will be sent, as far as can be known before."""
        total: float = 0.0
        for lane in self.lanes:
            if not any(self.classes[k].name == name for k in lane.classes):
                continue
            n = self._expected(lane)
            if n is None:
                return None
            weights = dict(zip(lane.classes, lane.weights, strict=True))
            share = sum(w for k, w in weights.items() if self.classes[k].name == name) / sum(lane.weights)
            total += n * share
        return round(total)

    @property
    def expected_requests(self) -> int | None:
        """How many requests will be sent, as far as can be known before."""
        found = [self._expected(lane) for lane in self.lanes]
        return None if None in found else sum(n for n in found if n is not None)

    @property
    def expected_duration_s(self) -> float | None:
        """How long requests are sent for, as far as can be known before."""
        if self.duration_s is not None:
            return self.duration_s
        found = []
        for lane in self.lanes:
            rate = _arrivals.mean_rate_per_s(lane.arrivals)
            seconds = _arrivals.own_duration_s(lane.arrivals)
            if seconds is None and rate and lane.requests is not None:
                seconds = lane.requests / rate
            if seconds is None:
                return None
            found.append(seconds)
        return max(found, default=None)

    def _expected(self, lane: Lane) -> int | None:
        if lane.requests is not None:
            return lane.requests
        if (own := _arrivals.own_requests(lane.arrivals)) is not None:
            return own
        rate = _arrivals.mean_rate_per_s(lane.arrivals)
        seconds = self.duration_s or _arrivals.own_duration_s(lane.arrivals)
        if rate is None or seconds is None:
            return None
        turns = self.mean_turns(lane)
        return None if turns is None else round(rate * seconds * turns)

    def mean_turns(self, lane: Lane) -> float | None:
        """Of the conversations of a lane; None: a prompt file decides."""
        total = 0.0
        for k, weight in zip(lane.classes, lane.weights, strict=True):
            law = self.classes[k].turns
            if law == FROM_FILE:
                return None
            total += weight * (1.0 if law is None else _lengths.mean(law))
        return total / sum(lane.weights)

    def at_rate(self, rate_per_s: float) -> Workload:
        """A step of a stress workload."""
        return replace(self, arrivals=_arrivals.Poisson(rate_per_s))

    def describe(self) -> str:
        """One line for a person: `poisson 8 req/s, 1000 requests, 256 -> 128 tokens, chat`."""
        if len(self.classes) == 1:
            only = self.classes[0]
            return ", ".join(filter(None, (str(self.arrivals), self._amount(), only.describe())))
        shared = ", ".join(filter(None, (str(self.arrivals or ""), self._amount())))
        weights = sum(c.share for c in self.classes if c.arrivals is None) or 1.0
        parts = [f"{c.name} {c.arrivals or f'{c.share / weights:.0%}'}: {c.describe()}" for c in self.classes]
        return f"{shared}; {'; '.join(parts)}"

    def _amount(self) -> str:
        if self.requests:
            return f"{self.requests} requests"
        return "" if self.duration_s is None else units.format_value(self.duration_s, "s")

    def identity(self) -> dict[str, object]:
        """Plain values that make two workloads equal; what only bounds a hang or ends it is not among them.

        Those of the only class stand beside the workload's own.
        """
        found: dict[str, object] = {
            "arrivals": None if self.arrivals is None else _without_path(self.arrivals, self.trace),
            "requests": self.requests,
            "duration_s": self.duration_s,
            "warmup": self.warmup,
            "seed": self.seed,
        }
        if self.transport != "wire":
            found["transport"] = self.transport
        if len(self.classes) == 1 and not self.classes[0].name:
            return found | _class_identity(self.classes[0])
        return found | {"classes": {c.name: _class_identity(c) for c in self.classes}}

    def quick(self, requests: int) -> Workload:
        """The same law, a few requests only."""
        classes = tuple(
            c if c.arrivals is None else replace(c, arrivals=_few(c.arrivals, requests), requests=requests)
            for c in self.classes
        )
        arrivals = None if self.arrivals is None else _few(self.arrivals, requests)
        return replace(
            self, arrivals=arrivals, requests=requests, duration_s=None, classes=classes, warmup=1,
            stop="planned",
        )  # fmt: skip


_ALWAYS = ("prompt_tokens", "output_tokens", "api", "prefix_cache", "temperature", "extra_body")


def _class_identity(c: RequestClass) -> dict[str, object]:
    """What a class asks; that which it leaves at nothing is left out."""
    plain: dict[str, object] = {}
    for field in fields(c):
        value = getattr(c, field.name)
        if field.name == "name" or (field.name not in _ALWAYS and value in (None, False)):
            continue
        if field.name == "share" and value == 1.0:
            continue
        plain[field.name] = value if isinstance(value, str | int | float | None) else str(value)
    return plain


def _without_path(arrivals: Arrivals, trace: FileRef | None) -> str:
    """A trace is known by its content, not by the folder it lies in on this machine."""
    if isinstance(arrivals, Trace) and trace is not None:
        return f"trace sha256 {trace.digest} time_scale={arrivals.time_scale:g}"
    return str(arrivals)


def _few(arrivals: Arrivals, requests: int) -> Arrivals:
    if isinstance(arrivals, Closed):
        return Closed(min(arrivals.concurrency, requests))
    if isinstance(arrivals, Burst):
        return Burst(min(arrivals.requests, requests), arrivals.every_s)
    if isinstance(arrivals, Stress):
        return _arrivals.Poisson(arrivals.low_per_s)
    return arrivals
