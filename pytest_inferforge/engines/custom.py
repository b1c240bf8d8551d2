"""Any server that speaks the OpenAI protocol and is started by a command of your own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_inferforge.dialects import DIALECTS
from pytest_inferforge.engines import launching, openai_routes, url
from pytest_inferforge.engines.installation import Found, Way
from pytest_inferforge.engines.launching import Kind, Own
from pytest_inferforge.engines.settings import one_of, refuse_unknown, value_of
from pytest_inferforge.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_inferforge.engines.protocol import Launch, Profiler, Spec

STARTS_PROCESS = True
SETTINGS: tuple[str, ...] = ("dialect",)
PROFILER: Profiler | None = None
COMPILING: str | None = None
LIMITS: tuple[str, ...] = ("its settings are in its command; how it counts and ends is told by dialect=NAME",)

KIND = Kind(ways=(), image=Way(), package=None, install="", boot_s=600.0)

ready = openai_routes.ready
version = openai_routes.version
facts = url.facts
dialect = url.dialect
reset_cache = url.reset_cache


def check(spec: Spec) -> None:
    """See `protocol.Engine`."""
    refuse_unknown(spec, SETTINGS)
    value_of(spec, "dialect", one_of(DIALECTS), "generic")
    if spec.image is None and spec.command is None:
        raise UsageError(
            "a server of your own needs its command",
            seen=f"backend {spec.engine}",
            do='write --infer-command="./serve --port {port}"',
        )
    launching.check_way(spec)
    if spec.image and spec.port is None and not any("{port}" in argument for argument in spec.args):
        raise UsageError(
            "nothing tells the server in the image its port",
            seen=f"{spec.image} {' '.join(spec.args)}".rstrip(),
            do='write --infer-arg="--port={port}" in its own words, or --infer-port=PORT where it is fixed',
        )
    launching.check_key(spec)


def arguments(
    spec: Spec,
    host: str,
    port: int,
    run_dir: Path,
    found: Found | None,
) -> Own:
    """An image is started with the raw arguments alone."""
    return Own(argv=(), env={})


def launch(spec: Spec, port: int, run_dir: Path) -> Launch:
    """See `protocol.Engine`."""
    return launching.launch(spec, KIND, port, run_dir, arguments, model=None)
