"""Servers that answer from a table, folders with a model, and Pythons that have what a test says."""

from __future__ import annotations

import json
import venv
from typing import TYPE_CHECKING

import httpx
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    Answer = int | tuple[int, object] | Exception


@pytest.fixture(scope="session")
def answering() -> Callable[..., httpx.Client]:
    """A client whose server answers from a table: "GET /health" -> status, (status, content) or an error.

    What is not in it is 404; `seen` gets all requests.
    """

    def client(answers: Mapping[str, Answer], seen: list[str] | None = None) -> httpx.Client:
        def answer(request: httpx.Request) -> httpx.Response:
            asked = f"{request.method} {request.url.raw_path.decode()}"
            if seen is not None:
                seen.append(asked)
            given = answers.get(asked, 404)
            if isinstance(given, Exception):
                raise given
            status, content = given if isinstance(given, tuple) else (given, "")
            if isinstance(content, str):
                return httpx.Response(status, text=content)
            return httpx.Response(status, json=content)

        return httpx.Client(base_url="http://server", transport=httpx.MockTransport(answer))

    return client


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder that passes for a model."""
    folder = tmp_path / "models" / "tiny"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    return folder


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home, and an environment in which nothing of a hub, a GPU or a cache is named."""
    folder = tmp_path / "home"
    folder.mkdir()
    for name in (
        "HF_HOME",
        "HF_TOKEN",
        "HF_ENDPOINT",
        "HF_HUB_OFFLINE",
        "CUDA_VISIBLE_DEVICES",
        "XDG_CACHE_HOME",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(folder))
    return folder


@pytest.fixture
def environment(tmp_path: Path) -> Callable[..., Path]:
    """A real virtual environment: name -> its python. `dists`: distribution -> (package, version)."""

    def make(
        name: str, dists: Mapping[str, tuple[str, str]] | None = None, scripts: tuple[str, ...] = ()
    ) -> Path:
        folder = tmp_path / name
        venv.create(folder, with_pip=False, symlinks=True)
        (packages,) = folder.glob("lib/python3.*/site-packages")
        for dist, (package, version) in (dists or {}).items():
            install(packages, dist, package, version)
        for script in scripts:
            write_script(folder / "bin" / script, f"#!{folder / 'bin' / 'python'}")
        return folder / "bin" / "python"

    return make


@pytest.fixture
def script() -> Callable[[Path, str], Path]:
    """A program that may be executed, and whose first line is given."""
    return write_script


@pytest.fixture
def installing() -> Callable[[Path, str, str, str], None]:
    """Put a package and its distribution into a folder."""
    return install


def install(where: Path, dist: str, package: str, version: str) -> None:
    (where / package).mkdir(parents=True)
    (where / package / "__init__.py").touch()
    info = where / f"{dist.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {dist}\nVersion: {version}\n")
    (info / "RECORD").write_text(f"{package}/__init__.py,,\n{info.name}/METADATA,,\n{info.name}/RECORD,,\n")


def write_script(path: Path, first_line: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{first_line}\n")
    path.chmod(0o755)
    return path
