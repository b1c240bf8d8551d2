"""The ways in which a server can be asked to score a given text, and which of them one server knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_inferforge.errors import UsageError
from pytest_inferforge.quality import echo, teacher_forced

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_inferforge.quality.client import Client
    from pytest_inferforge.quality.likelihoods import Route

ROUTES: dict[str, Callable[[Client], Route]] = {  # in the order in which they are tried: the cheap one first
    "echo": echo.Route,
    "teacher_forced": teacher_forced.Route,
}


async def choose(client: Client) -> tuple[str, Route]:
    """The first route that the server really knows, by one small request each.

    Raises:
        UsageError: it knows none.
    """
    seen = []
    if client.dialect.completions_path is None:
        seen.append("it offers no completions")
    else:
        for name, make in ROUTES.items():
            route = make(client)
            wrong = await route.probe()
            if wrong is None:
                return name, route
            seen.append(wrong)
    raise UsageError(
        f"{client.target.url} ({client.dialect.name}) cannot score given texts",
        seen="\n".join(seen),
        do="use the generative form, e.g. forge_arithmetic instead of forge_arithmetic_choice, or an engine"
        " with prompt log probabilities (vLLM, SGLang)",
    )
