"""From the arguments of `infer_workload` to a checked `Workload`."""

from __future__ import annotations

import difflib
import json
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from pytest_inferforge import units
from pytest_inferforge.errors import UsageError
from pytest_inferforge.workload import arrivals as _arrivals
from pytest_inferforge.workload import content, files
from pytest_inferforge.workload import lengths as _lengths
from pytest_inferforge.workload.arrivals import Closed, Trace
from pytest_inferforge.workload.spec import FROM_FILE, RequestClass, Workload

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_inferforge.options import LoadOptions
    from pytest_inferforge.workload.arrivals import Arrivals

_OF_A_CLASS = (
    "arrivals", "requests", "prompt_tokens", "output_tokens", "api", "token_ids", "prefix_cache",
    "shared_prefix", "prompts", "images", "turns", "think_time", "temperature", "extra_body",
)  # fmt: skip
ARGUMENTS = (
    *_OF_A_CLASS, "duration", "classes", "warmup", "timeout", "stall_timeout", "drain_timeout", "seed",
    "transport", "stop",
)  # fmt: skip
CLASS_ARGUMENTS = (*_OF_A_CLASS, "share")
_EXAMPLE = (
    'write infer_workload(arrivals="poisson 8 req/s", requests=1000, prompt_tokens=256, output_tokens=128)'
)
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


def from_arguments(
    arguments: Mapping[str, Any], defaults: LoadOptions, *, folder: Path | None = None
) -> Workload:
    """A workload from the merged arguments of its markers; files are looked for from `folder`.

    Raises:
        UsageError: an unknown, missing, contradictory or unreadable argument, or a broken file.
    """
    _check_names(arguments, ARGUMENTS, "workload argument")
    folder = folder or Path.cwd()
    requests, duration = arguments.get("requests"), arguments.get("duration")
    if requests is not None and duration is not None:
        raise UsageError(
            "a workload needs requests or a duration",
            seen="both",
            do='write requests=1000 or duration="60 s"',
        )
    arrivals = _arrivals_of(arguments, folder)
    whole = None if requests is None else _whole(requests, "requests", least=1)
    trace = _traced(arrivals)
    workload = Workload(
        arrivals=arrivals,
        trace=trace,
        requests=whole,
        duration_s=None if duration is None else _seconds(duration, "duration"),
        classes=_classes(arguments, folder, whole),
        warmup=_optional_whole(arguments.get("warmup"), "warmup", least=0),
        timeout_s=_seconds(arguments.get("timeout", defaults.request_timeout_s), "timeout"),
        stall_timeout_s=_seconds(arguments.get("stall_timeout", defaults.stall_timeout_s), "stall_timeout"),
        drain_timeout_s=_seconds(arguments.get("drain_timeout", defaults.drain_timeout_s), "drain_timeout"),
        seed=_whole(arguments.get("seed", defaults.seed), "seed", least=0),
        transport=_one_of(arguments.get("transport", "wire"), "transport", ("wire", "httpx")),
        stop=_one_of(arguments.get("stop", "planned"), "stop", ("planned", "early")),
    )
    _check_whole(workload, arguments)
    return workload


def _classes(arguments: Mapping[str, Any], folder: Path, requests: int | None) -> tuple[RequestClass, ...]:
    given = arguments.get("classes")
    common = {name: value for name, value in arguments.items() if name in _OF_A_CLASS}
    del_own = {name: value for name, value in common.items() if name not in ("arrivals", "requests")}
    if given is None:
        return (_class("", del_own, folder, None),)
    if not isinstance(given, dict) or not given:
        raise UsageError(
            "classes is not a table of request classes",
            seen=repr(given),
            do='write classes={"chat": {"share": 0.7, "prompt_tokens": 256}, "rag": {"share": 0.3, ...}}',
        )
    found = []
    for name, own in given.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            do = "use letters, digits, - and _, a letter first"
            raise UsageError("a request class cannot be called that", seen=repr(name), do=do)
        if not isinstance(own, dict):
            raise UsageError(
                f"class {name} is not a table of arguments", seen=repr(own), do='write {"share": 0.7, ...}'
            )
        _check_names(own, CLASS_ARGUMENTS, f"argument of class {name}")
        found.append(_class(name, {**del_own, **own}, folder, requests))
    return tuple(found)


def _class(name: str, own: Mapping[str, Any], folder: Path, requests: int | None) -> RequestClass:
    where = f"class {name}: " if name else ""
    try:
        return _class_of(name, own, folder, requests)
    except UsageError as error:
        raise UsageError(f"{where}{error.what}", seen=error.seen, do=error.do) from error


def _class_of(name: str, own: Mapping[str, Any], folder: Path, requests: int | None) -> RequestClass:
    arrivals = _arrivals_of(own, folder)
    if isinstance(arrivals, Trace | _arrivals.Stress):
        raise UsageError(
            f"{type(arrivals).__name__.lower()} arrivals are of a whole workload, not of a class",
            seen=str(arrivals),
            do="give them to the workload; a trace names the class of each request itself",
        )
    if arrivals is not None and "share" in own:
        do = "give it arrivals of its own, or a share of the workload's"
        raise UsageError("a class has arrivals or a share", seen="both", do=do)
    api = _one_of(own.get("api", "completions"), "api", ("completions", "chat"))
    prompts = own.get("prompts")
    turns = own.get("turns")
    think = own.get("think_time")
    images = own.get("images")
    prefixes = own.get("shared_prefix")
    ids = _flag(own.get("token_ids", False), "token_ids")
    if (turns is not None or images is not None) and api != "chat":
        what = "turns" if turns is not None else "images"
        raise UsageError(f"{what} need the chat API", seen=f'api="{api}"', do='write api="chat"')
    if ids and (api == "chat" or prompts is not None):
        do = 'write api="completions" and prompt_tokens'
        raise UsageError("token_ids are for synthetic prompts of the completions API", seen=f"{api}", do=do)
    if "requests" in own and arrivals is None and name:
        do = "give the class arrivals of its own, or say requests of the whole workload"
        raise UsageError("a class that shares arrivals has no number of requests", seen="requests", do=do)
    if prompts is not None and (images is not None or prefixes is not None):
        seen = "prompts and " + ("images" if images is not None else "shared_prefix")
        raise UsageError("prompts of a file are sent as they are", seen=seen, do="drop one of them")
    if turns == FROM_FILE and prompts is None:
        raise UsageError("there is no file that says how many turns", seen='turns="file"', do="give prompts")
    if think is not None and turns is None:
        raise UsageError("think_time is between the turns of a conversation", do='write turns="uniform 2..6"')
    return RequestClass(
        name=name,
        arrivals=arrivals,
        share=_positive(own.get("share", 1.0), "share"),
        requests=None
        if arrivals is None
        else _optional_whole(own.get("requests", requests), "requests", least=1),
        prompt_tokens=_length(own, "prompt_tokens", folder),
        output_tokens=_length(own, "output_tokens", folder),
        api=api,
        token_ids=ids,
        prefix_cache=_flag(own.get("prefix_cache", False), "prefix_cache"),
        prefixes=None if prefixes is None else content.parse_prefixes(prefixes),
        prompts=None if prompts is None else files.corpus_ref(_path(prompts, "prompts", folder)),
        images=None if images is None else content.parse_images(images),
        turns=_turns(turns, folder),
        think=None if think is None else content.parse_pause(think),
        temperature=_temperature(own.get("temperature", 0.0)),
        extra_body=_json_object(own.get("extra_body", {})),
    )


def _check_whole(workload: Workload, arguments: Mapping[str, Any]) -> None:
    """What only shows when everything is known."""
    if not workload.lanes or (
        workload.arrivals is None and any(c.arrivals is None for c in workload.classes)
    ):
        raise _lacks("arrivals", arguments)
    for c in workload.classes:
        arrivals = c.arrivals or workload.arrivals
        traced = isinstance(arrivals, Trace)
        if c.prompt_tokens is None and c.prompts is None and not traced:
            raise _lacks("prompt_tokens", arguments)
        if c.output_tokens is None and c.prompts is None and not traced:
            raise _lacks("output_tokens", arguments)
        if traced and c.turns is not None:
            raise UsageError(
                "a trace has no conversations to go on with", seen=f"turns={c.turns}", do="drop turns"
            )
        if c.prompt_tokens is not None and c.prompts is not None:
            raise UsageError(
                "prompts come from a file or have a length", seen="prompts and prompt_tokens", do="drop one"
            )
    for lane in workload.lanes:
        bounded = (
            lane.requests is not None
            or workload.duration_s is not None
            or _arrivals.own_duration_s(lane.arrivals) is not None
            or _arrivals.own_requests(lane.arrivals) is not None
            or isinstance(lane.arrivals, Trace)
        )
        if not bounded:
            raise UsageError(
                "a workload needs requests or a duration",
                seen="neither",
                do='write requests=1000 or duration="60 s"',
            )
        if isinstance(lane.arrivals, Closed) and lane.arrivals.ramp_s and workload.duration_s is not None:
            _check_ramp(lane.arrivals, workload.duration_s)
    if workload.stress and workload.duration_s is None and workload.requests is None:
        raise UsageError("a stress workload needs the length of a step", do='write duration="20 s"')
    if workload.stop == "early" and (workload.stress or any(c.turns is not None for c in workload.classes)):
        what = "stress" if workload.stress else "turns"
        raise UsageError(
            f"a run with {what} cannot be ended early",
            seen='stop="early"',
            do="drop stop: conversations go on after others ended, and a stress run ends by itself",
        )


def _check_ramp(closed: Closed, duration_s: float) -> None:
    if closed.ramp_s >= duration_s:
        raise UsageError(
            "the users are still arriving when the load ends",
            seen=f"{closed}, duration {units.format_value(duration_s, 's')}",
            do="make the ramp shorter or the duration longer",
        )


def _arrivals_of(arguments: Mapping[str, Any], folder: Path) -> Arrivals | None:
    if "arrivals" not in arguments:
        return None
    found = _arrivals.parse(arguments["arrivals"])
    if isinstance(found, Trace):
        return Trace(str(_path(found.path, "trace", folder)), found.time_scale, found.format)
    return found


def _traced(arrivals: Arrivals | None) -> content.FileRef | None:
    if not isinstance(arrivals, Trace):
        return None
    return files.trace_ref(Path(arrivals.path), arrivals.format)


def _turns(value: Any, folder: Path) -> _lengths.Lengths | Literal["file"] | None:
    if value is None or value == FROM_FILE:
        return cast("Literal['file'] | None", value)
    return _lengths.parse(value, "turns", folder=folder)


def _length(own: Mapping[str, Any], name: str, folder: Path) -> _lengths.Lengths | None:
    return None if own.get(name) is None else _lengths.parse(own[name], name, folder=folder)


def _path(value: object, name: str, folder: Path) -> Path:
    path = folder / Path(str(value)).expanduser()
    if not path.is_file():
        raise UsageError(f"{name}: no such file", seen=str(path), do=f"paths are taken from {folder}")
    return path


def _check_names(arguments: Mapping[str, Any], known: tuple[str, ...], what: str) -> None:
    for name in arguments:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            do = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
            raise UsageError(f"unknown {what}", seen=name, do=do)


def _lacks(name: str, arguments: Mapping[str, Any]) -> UsageError:
    missing = [n for n in ("arrivals", "prompt_tokens", "output_tokens") if n not in arguments]
    seen = ", ".join(f"{k}={v!r}" for k, v in arguments.items()) or "no arguments"
    return UsageError(f"a workload needs {' and '.join(missing or [name])}", seen=seen, do=_EXAMPLE)


def _one_of(value: Any, name: str, known: tuple[str, ...]) -> Any:
    if value not in known:
        do = "write " + " or ".join(f'{name}="{k}"' for k in known)
        raise UsageError(f"unknown {name}", seen=repr(value), do=do)
    return value


def _optional_whole(value: object, name: str, *, least: int) -> int | None:
    return None if value is None else _whole(value, name, least=least)


def _whole(value: object, name: str, *, least: int) -> int:
    try:
        number = int(str(value).replace("_", ""))
    except ValueError as error:
        raise UsageError(f"{name} is not a whole number", seen=repr(value), do=f"write {name}=100") from error
    if number < least:
        raise UsageError(f"{name} must be at least {least}", seen=repr(value), do=f"write {name}=100")
    return number


def _positive(value: object, name: str) -> float:
    try:
        number = units.parse(value, "ratio") if isinstance(value, str) else float(str(value))
    except ValueError as error:
        raise UsageError(f"{name} is not a number", seen=repr(value), do=f"write {name}=0.7") from error
    if not 0 < number < math.inf:
        raise UsageError(f"{name} must be more than zero", seen=repr(value), do=f"write {name}=0.7")
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
