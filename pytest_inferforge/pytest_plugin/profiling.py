"""A short repeat of a run under the engine's own profiler. Knows no pytest."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_inferforge.servers.server import Server

_SWITCH_S = 300.0  # vLLM writes its traces before it answers


def record(server: Server, run_dir: Path, drive: Callable[[], object]) -> str:
    """Switch the profiler on, drive a short load, switch it off; a sentence that names the files, or says why
    there are none.
    """
    profiler = server.profiler
    if profiler is None:
        return f"no profile: {server.engine} has no profiler that can be switched on from here"
    port = httpx.URL(server.url).port
    folder = run_dir.resolve() / f"profile-{port}"
    before = _files(folder)
    body: dict[str, Any] = {
        name: value.format(folder=folder) if isinstance(value, str) else value
        for name, value in (profiler.body or {}).items()
    }
    try:
        with server.client(timeout_s=_SWITCH_S) as client:
            begun = client.post(profiler.start_path, json=body)
            if not begun.is_success:
                return f"no profile: POST {profiler.start_path} -> {begun.status_code} {begun.text[:200]}"
            try:
                drive()
            finally:
                with contextlib.suppress(httpx.HTTPError):
                    client.post(profiler.stop_path)
    except httpx.HTTPError as error:
        return f"no profile: {error!r}"
    made = sorted(_files(folder) - before)
    if not made:
        return f"no profile: {server.engine} wrote nothing below {folder}"
    return f"profile: {', '.join(str(path) for path in made)}"


def _files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()} if folder.is_dir() else set()
