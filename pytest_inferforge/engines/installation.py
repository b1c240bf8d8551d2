"""Which installation of an engine is used: a script on PATH or beside a Python, a module, an image.

What is there is found out by asking the environment's own Python, which takes 0.1 s; an engine's own
`--version` takes ten, and says nothing of whether its script works.
"""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_inferforge import processes
from pytest_inferforge.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_inferforge.engines.protocol import Spec

_ASK_S = 60.0  # a cold disk
_NUMBERS = re.compile(r"[0-9]+(\.[0-9]+)*")
# Its own paths and those of our environment count, as for the engine; the folder that we run in does not.
_QUESTION = """
import sys
sys.path = [path for path in sys.path if path]
import importlib.metadata as metadata, importlib.util as util, json
found = {}
for name in sys.argv[1:]:
    try:
        there = util.find_spec(name) is not None
    except (ImportError, ValueError):
        there = False
    dists = metadata.packages_distributions().get(name, []) if there else []
    found[name] = {"there": there, "version": metadata.version(dists[0]) if dists else None, "dists": dists}
print(json.dumps(found))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way to run an engine.

    `script`: a program on PATH or beside the Python that was named; `module`: what `python -m` runs instead.
    `needs`: the script refuses to work unless a distribution of that very name is installed. `arguments`:
    come before the engine's own. `model_flag`: None where the model is a bare word.
    """

    script: str | None = None
    module: str | None = None
    needs: str | None = None
    arguments: tuple[str, ...] = ()
    model_flag: str | None = None

    def argv(self, program: Sequence[str], model: str | None, own: Sequence[str]) -> tuple[str, ...]:
        """The whole command."""
        said = () if model is None else (model,) if self.model_flag is None else (self.model_flag, model)
        return (*program, *self.arguments, *said, *own)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What there is. `program`: what comes before `way.arguments`; `version` None: not known."""

    way: Way
    program: tuple[str, ...]
    version: str | None
    python: str | None = None  # of its environment
    dists: tuple[str, ...] = ()  # the distributions that hold it


def find(spec: Spec, ways: Sequence[Way], *, package: str | None, install: str) -> Found:
    """The first way that works. `package`: the engine's Python package, None for a binary.

    Raises:
        EngineError: there is none; what was looked at is in the message.
    """
    looked: list[str] = []
    for way in ways:
        found = _script(spec, way, package, looked) if way.script else _module(spec, way, package, looked)
        if found is not None:
            return found
    raise EngineError(
        f"{spec.engine} is not installed here",
        seen="; ".join(dict.fromkeys(looked)),
        do=f"{install}; or name the Python of its environment with --infer-python, its command with"
        " --infer-command, an image with --infer-image, or a running server with --infer-url",
    )


def version_of(version: str | None) -> tuple[int, ...] | None:
    """
    >>> version_of("0.32.0rc1"), version_of(None)
    ((0, 32, 0), None)
    """
    numbers = _NUMBERS.match(version or "")
    return tuple(int(number) for number in numbers[0].split(".")) if numbers else None


def python_of(spec: Spec) -> str:
    """The interpreter that was named, else ours."""
    return str(Path(spec.python).expanduser()) if spec.python else sys.executable


def _script(spec: Spec, way: Way, package: str | None, looked: list[str]) -> Found | None:
    assert way.script is not None
    path = _locate(spec, way.script)
    if path is None:
        where = f"beside {spec.python}" if spec.python else "on PATH"
        looked.append(f"no {way.script} {where}")
        return None
    if package is None:
        return Found(way=way, program=(path,), version=None)
    python = _owner(path)
    said = ask(python, package)[package] if python else None
    if said is None or not said.there:
        looked.append(f"{path} belongs to no Python that has {package}")
        return None
    if way.needs is not None and way.needs not in said.dists:
        there = ", ".join(said.dists) or "in none"
        looked.append(f"{path} asks for a distribution {way.needs}, {package} is {there} there")
        return None
    return Found(way=way, program=(path,), version=said.version, python=python, dists=said.dists)


def _module(spec: Spec, way: Way, package: str | None, looked: list[str]) -> Found | None:
    assert way.module is not None
    assert package is not None
    script = None if spec.python else _locate(spec, package)
    python = (_owner(script) if script else None) or python_of(spec)
    said = ask(python, package)[package]
    if not said.there:
        looked.append(f"{python} has no package {package}")
        return None
    program = (python, "-m", way.module)
    return Found(way=way, program=program, version=said.version, python=python, dists=said.dists)


def _locate(spec: Spec, script: str) -> str | None:
    if spec.python:
        beside = Path(python_of(spec)).parent / script
        return str(beside) if os.access(beside, os.X_OK) else None
    here = Path(sys.executable).parent / script
    return shutil.which(script) or (str(here) if os.access(here, os.X_OK) else None)


def _owner(script: str) -> str | None:
    """The interpreter of a console script: its first line says, or a python lies beside it."""
    try:
        with Path(script).open("rb") as file:
            first = file.readline(4096)
    except OSError:
        return None
    words = first[2:].decode(errors="replace").split() if first.startswith(b"#!") else []
    if words and Path(words[0]).name == "env":
        words = [shutil.which(word) or word for word in words[1:] if not word.startswith("-")]
    if words and "python" in Path(words[0]).name and Path(words[0]).is_file():
        return words[0]
    for name in ("python", "python3"):
        beside = Path(script).resolve().parent / name
        if beside.is_file():
            return str(beside)
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """A Python package as an environment has it; `dists` are the distributions that hold it."""

    there: bool
    version: str | None
    dists: tuple[str, ...]


@functools.cache
def ask(python: str, *packages: str) -> dict[str, Package]:
    """What that interpreter has of these packages; asked once.

    Raises:
        EngineError: there is no such interpreter, or it does not work.
    """
    answer = processes.ask((python, "-c", _QUESTION, *packages), timeout_s=_ASK_S)
    if answer.code != 0:
        raise EngineError(
            "the Python of the engine does not work",
            seen=f"{python}: {answer.said or f'exit code {answer.code}'}",
            do="name the interpreter of the environment in which the engine is installed",
        )
    told = json.loads(answer.out.splitlines()[-1])
    return {
        name: Package(there=found["there"], version=found["version"], dists=tuple(found["dists"]))
        for name, found in told.items()
    }
