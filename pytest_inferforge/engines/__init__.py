"""Inference engines: one module each, with the names that `engines.protocol.Engine` lists."""

from __future__ import annotations

import difflib
import importlib
from typing import TYPE_CHECKING, cast

from pytest_inferforge.errors import UsageError

if TYPE_CHECKING:
    from pytest_inferforge.engines.protocol import Engine

ENGINES: dict[str, str] = {
    "llama.cpp": "pytest_inferforge.engines.llamacpp",
    "url": "pytest_inferforge.engines.url",
}


def engine(name: str) -> Engine:
    """The engine of that name; its module is imported now.

    Raises:
        UsageError: there is none; the nearest names are in the message.
    """
    module = ENGINES.get(name)
    if module is None:
        near = difflib.get_close_matches(name.lower(), ENGINES, cutoff=0.5)
        raise UsageError(
            f"there is no engine {name!r}",
            seen=name,
            do=f"did you mean {' or '.join(near)}?" if near else f"choose one of {', '.join(ENGINES)}",
        )
    return cast("Engine", importlib.import_module(module))
