"""Inference engines: one module each, with the names that `engines.protocol.Engine` lists.

Others are added by a pytest hook (`pytest_inferforge_engines`) or by an entry point of the group
`pytest_inferforge.engines`: a module, or any object with these names.
"""

from __future__ import annotations

import difflib
import importlib
import re
import shlex
from collections.abc import Mapping
from importlib import metadata
from pathlib import PurePath
from typing import TYPE_CHECKING, cast

from pytest_inferforge.errors import UsageError

if TYPE_CHECKING:
    from pytest_inferforge.engines.protocol import Engine

ENTRY_POINTS = "pytest_inferforge.engines"
ENGINES: dict[str, str] = {
    "llama.cpp": "pytest_inferforge.engines.llamacpp",
    "llama-server": "pytest_inferforge.engines.llama_server",
    "vllm": "pytest_inferforge.engines.vllm",
    "sglang": "pytest_inferforge.engines.sglang",
    "tensorrt-llm": "pytest_inferforge.engines.tensorrt_llm",
    "tgi": "pytest_inferforge.engines.tgi",
    "transformers": "pytest_inferforge.engines.transformers_serve",
    "lmdeploy": "pytest_inferforge.engines.lmdeploy",
    "ollama": "pytest_inferforge.engines.ollama",
    "custom": "pytest_inferforge.engines.custom",
    "url": "pytest_inferforge.engines.url",
    "anthropic": "pytest_inferforge.engines.anthropic",
}
# words of a command -> the engine that it starts
_PROGRAMS = {
    "vllm": "vllm",
    "vllm.entrypoints.openai.api_server": "vllm",
    "sglang": "sglang",
    "sglang.launch_server": "sglang",
    "trtllm-serve": "tensorrt-llm",
    "tensorrt_llm.commands.serve": "tensorrt-llm",
    "llama-server": "llama-server",
    "text-generation-launcher": "tgi",
    "transformers": "transformers",
    "lmdeploy": "lmdeploy",
    "ollama": "ollama",
}
_NAMES = (
    "STARTS_PROCESS", "SETTINGS", "PROFILER", "COMPILING", "LIMITS", "check", "launch", "ready", "dialect",
    "version", "facts", "reset_cache",
)  # fmt: skip
_added: dict[str, Engine] = {}
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")


def engine(name: str) -> Engine:
    """The engine of that name; its module is imported now.

    Raises:
        UsageError: there is none; the nearest names are in the message.
    """
    if name in _added:
        return _added[name]
    if (module := ENGINES.get(name)) is not None:
        return cast("Engine", importlib.import_module(module))
    points = {point.name: point for point in metadata.entry_points(group=ENTRY_POINTS)}
    if name in points:
        add({name: _loaded(points[name])}, source=f"the entry point {points[name].value}")
        return _added[name]
    known = tuple(dict.fromkeys((*ENGINES, *_added, *points)))
    near = difflib.get_close_matches(name.lower(), known, cutoff=0.5)
    raise UsageError(
        f"there is no engine {name!r}",
        seen=name,
        do=f"did you mean {' or '.join(near)}?" if near else f"choose one of {', '.join(known)}",
    )


def add(found: Mapping[str, object], *, source: str) -> None:
    """Take engines in; one of ours may be replaced.

    Raises:
        UsageError: a name that cannot be one, an object that lacks names of the protocol.
    """
    if not isinstance(found, Mapping):
        raise UsageError(
            "engines are given as a table: name -> engine",
            seen=f"{found!r} from {source}",
            do='return {"name": a module}',
        )
    for name, given in found.items():
        if not _NAME.fullmatch(name):
            raise UsageError(
                "no name for an engine",
                seen=f"{name!r} from {source}",
                do="use small letters, digits, dot, dash and underscore",
            )
        missing = [needed for needed in _NAMES if not hasattr(given, needed)]
        if missing:
            raise UsageError(
                f"the engine {name} is not complete",
                seen=f"{source}: it lacks {', '.join(missing)}",
                do="give it all names of pytest_inferforge.engines.protocol.Engine",
            )
        _added[name] = cast("Engine", given)


def _loaded(point: metadata.EntryPoint) -> object:
    try:
        return point.load()
    except (ImportError, AttributeError) as error:
        raise UsageError(
            f"the engine {point.name} cannot be loaded",
            seen=f"the entry point {point.value}: {error}",
            do="mend or uninstall the package that offers it",
        ) from error


def recognised(command: str) -> str:
    """The engine that a command starts, as far as its words say; "custom" where they do not.

    >>> recognised("python -m vllm.entrypoints.openai.api_server --port {port}"), recognised("./serve {port}")
    ('vllm', 'custom')
    """
    try:
        words = shlex.split(command)
    except ValueError:
        return "custom"
    for word in words:
        if (name := _PROGRAMS.get(PurePath(word).name)) is not None:
            return name
    return "custom"
