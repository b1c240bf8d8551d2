"""A declared workload: the arguments of `infer_workload`, checked."""

from __future__ import annotations

import difflib
import json
import math
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal

from pytest_inferforge import units
from pytest_inferforge.errors import UsageError
from pytest_inferforge.workload import arrivals as _arrivals
from pytest_inferforge.workload import lengths as _lengths

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_inferforge.options import LoadOptions
    from pytest_inferforge.workload.arrivals import Arrivals
    from pytest_inferforge.workload.lengths import Lengths

Api = Literal["completions", "chat"]
ARGUMENTS = (
    "arrivals", "requests", "duration", "prompt_tokens", "output_tokens", "api", "prefix_cache", "warmup",
    "timeout", "stall_timeout", "drain_timeout", "seed", "temperature", "extra_body",
)  # fmt: skip
REQUIRED = ("arrivals", "prompt_tokens", "output_tokens")


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What is asked of a server. One of `requests` and `duration_s` is set.

    `prompt_tokens` counts what the server counts, its template included. `prefix_cache`: prompts share
    their beginning, so that a prefix cache helps; else each begins with a salt of its own. `warmup`:
    requests before anything counts; None: as many as `LoadOptions.warmup_waves` waves.
    """

    arrivals: Arrivals
    requests: int | None
    duration_s: float | None
    prompt_tokens: Lengths
    output_tokens: Lengths
    api: Api
    prefix_cache: bool
    warmup: int | None
    timeout_s: float
    stall_timeout_s: float
    drain_timeout_s: float
    seed: int
    temperature: float
    extra_body: str  # JSON object, keys sorted

    @property
    def closed_loop(self) -> bool:
        return isinstance(self.arrivals, _arrivals.Closed)

    @property
    def expected_requests(self) -> int | None:
        """How many requests will be sent, as far as can be known before."""
        if self.requests is not None:
            return self.requests
        if isinstance(self.arrivals, _arrivals.Closed) or self.duration_s is None:
            return None
        return round(self.arrivals.rate_per_s * self.duration_s)

    def describe(self) -> str:
        """One line for a person: `poisson 8 req/s, 1000 requests, 256 -> 128 tokens, chat`."""
        amount = f"{self.requests} requests" if self.requests else units.format_value(self.duration_s, "s")
        return f"{self.arrivals}, {amount}, {self.prompt_tokens} -> {self.output_tokens} tokens, {self.api}"

    def identity(self) -> dict[str, object]:
        """Plain values that make two workloads equal; what only bounds a hang is not among them."""
        plain: dict[str, object] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in ("timeout_s", "stall_timeout_s", "drain_timeout_s"):
                continue
            plain[field.name] = value if isinstance(value, str | int | float | None) else str(value)
        return plain

    def quick(self, requests: int) -> Workload:
        """The same law, a few requests only."""
        concurrency = min(requests, getattr(self.arrivals, "concurrency", requests))
        arrivals = _arrivals.Closed(concurrency) if self.closed_loop else self.arrivals
        return replace(self, arrivals=arrivals, requests=requests, duration_s=None, warmup=1)


def from_arguments(arguments: Mapping[str, Any], defaults: LoadOptions) -> Workload:
    """A workload from the merged arguments of its markers.

    Raises:
        UsageError: an unknown, missing, contradictory or unreadable argument.
    """
    _check_names(arguments)
    requests, duration = arguments.get("requests"), arguments.get("duration")
    if (requests is None) == (duration is None):
        seen = "both" if requests is not None else "neither"
        raise UsageError(
            "a workload needs requests or a duration", seen=seen, do='write requests=1000 or duration="60 s"'
        )
    if requests is not None:
        requests = _whole(requests, "requests", least=1)
    api = arguments.get("api", "completions")
    if api not in ("completions", "chat"):
        raise UsageError("unknown api", seen=repr(api), do='write api="completions" or api="chat"')
    warmup = arguments.get("warmup")
    return Workload(
        arrivals=_arrivals.parse(arguments["arrivals"]),
        requests=requests,
        duration_s=None if duration is None else _seconds(duration, "duration"),
        prompt_tokens=_lengths.parse(arguments["prompt_tokens"], "prompt_tokens"),
        output_tokens=_lengths.parse(arguments["output_tokens"], "output_tokens"),
        api=api,
        prefix_cache=_flag(arguments.get("prefix_cache", False), "prefix_cache"),
        warmup=None if warmup is None else _whole(warmup, "warmup", least=0),
        timeout_s=_seconds(arguments.get("timeout", defaults.request_timeout_s), "timeout"),
        stall_timeout_s=_seconds(arguments.get("stall_timeout", defaults.stall_timeout_s), "stall_timeout"),
        drain_timeout_s=_seconds(arguments.get("drain_timeout", defaults.drain_timeout_s), "drain_timeout"),
        seed=_whole(arguments.get("seed", defaults.seed), "seed", least=0),
        temperature=_temperature(arguments.get("temperature", 0.0)),
        extra_body=_json_object(arguments.get("extra_body", {})),
    )


def _check_names(arguments: Mapping[str, Any]) -> None:
    for name in arguments:
        if name not in ARGUMENTS:
            near = difflib.get_close_matches(name, ARGUMENTS, n=1)
            do = f"did you mean {near[0]}?" if near else f"known: {', '.join(ARGUMENTS)}"
            raise UsageError("unknown workload argument", seen=name, do=do)
    if missing := [name for name in REQUIRED if name not in arguments]:
        raise UsageError(
            f"a workload needs {' and '.join(missing)}",
            seen=", ".join(f"{k}={v!r}" for k, v in arguments.items()) or "no arguments",
            do='write infer_workload(arrivals="poisson 8 req/s", requests=1000,'
            " prompt_tokens=256, output_tokens=128)",
        )


def _whole(value: object, name: str, *, least: int) -> int:
    try:
        number = int(str(value).replace("_", ""))
    except ValueError as error:
        raise UsageError(f"{name} is not a whole number", seen=repr(value), do=f"write {name}=100") from error
    if number < least:
        raise UsageError(f"{name} must be at least {least}", seen=repr(value), do=f"write {name}=100")
    return number


def _temperature(value: object) -> float:
    try:
        number = float(str(value))
    except ValueError as error:
        raise UsageError(
            "temperature is not a number", seen=repr(value), do="write temperature=0.7"
        ) from error
    if not 0 <= number < math.inf:
        raise UsageError("temperature must be at least 0", seen=repr(value), do="write temperature=0.7")
    return number


def _flag(value: object, name: str) -> bool:
    words = {"true": True, "false": False, "1": True, "0": False}
    if isinstance(value, bool):
        return value
    if str(value).lower() in words:
        return words[str(value).lower()]
    raise UsageError(f"{name} is not true or false", seen=repr(value), do=f"write {name}=True")


def _seconds(value: object, name: str) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value)
    else:
        try:
            seconds = units.parse(str(value), "s")
        except UsageError as error:
            raise UsageError(f"{name}: {error.what}", seen=error.seen, do=error.do) from error
    if not 0 < seconds < math.inf:
        raise UsageError(
            f"{name} must be more than zero and finite", seen=repr(value), do=f'write {name}="60 s"'
        )
    return seconds


def _json_object(value: object) -> str:
    try:
        parsed = json.loads(value) if isinstance(value, str) else value
        if isinstance(parsed, dict):
            return json.dumps(parsed, sort_keys=True)
    except (TypeError, ValueError) as error:
        raise UsageError("extra_body is not JSON", seen=str(error), do='write {"top_k": 1}') from error
    raise UsageError("extra_body is not an object", seen=repr(value), do='write {"top_k": 1}')
