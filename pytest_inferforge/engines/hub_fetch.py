"""Fetches a model from the hub into its cache: `python hub_fetch.py NAME [REVISION]`.

Run by the Python of the engine's own environment, with its huggingface_hub. Access and disk are checked
before anything is loaded. Prints what goes on, and at last `fact model_revision SHA`. The exit code is 1,
after one line that says why, when it cannot be had.

Source: huggingface_hub, HfApi.model_info, snapshot_download and its errors.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

# Weights in other formats than the one that engines prefer, when that is there.
OTHER_FORMATS = ("*.bin", "*.pt", "*.pth", "*.h5", "*.msgpack", "*.onnx", "*.gguf", "original/*", "metal/*")
SPARE_BYTES = 1_000_000_000


def main() -> int:
    name = sys.argv[1]
    revision = sys.argv[2] if len(sys.argv) > 2 else None
    here = str(Path(__file__).resolve().parent)  # whose modules must not take the place of others
    sys.path[:] = [path for path in sys.path if os.path.realpath(path) != here]
    import huggingface_hub as hub
    from huggingface_hub.utils import filter_repo_objects

    try:
        if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
            folder = here_already(hub, name, revision)
            say(f"fact model_revision {Path(folder).name}")
            return 0
        info = hub.HfApi().model_info(name, revision=revision, files_metadata=True)
        files = {file.rfilename: file.size or 0 for file in info.siblings or ()}
        ignored = OTHER_FORMATS if any(file.endswith(".safetensors") for file in files) else ()
        wanted = set(filter_repo_objects(files, ignore_patterns=list(ignored)))
        missing = sum(
            size
            for file, size in files.items()
            if file in wanted
            and not isinstance(hub.try_to_load_from_cache(name, file, revision=info.sha), str)
        )
        cache = Path(hub.constants.HF_HUB_CACHE)
        cache.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(cache).free
        if missing and missing + SPARE_BYTES > free:
            need = f"{missing / 1e9:.1f} GB to fetch, {free / 1e9:.1f} GB free"
            say(f"No space left on device: {need} in {cache}")
            return 1
        say(f"{name} at {info.sha}: {missing / 1e9:.2f} GB to fetch")
        # By the name that was given, which is then known offline too.
        folder = hub.snapshot_download(name, revision=revision, ignore_patterns=list(ignored))
        say(f"fact model_revision {Path(folder).name}")
    except Exception as error:  # noqa: BLE001 - whatever it is, it is told in one line
        say(f"{type(error).__name__}: {' '.join(str(error).split())}")
        return 1
    return 0


def here_already(hub: Any, name: str, revision: str | None) -> str:
    """The model's folder in the cache. Newer versions refuse one that lacks a file which is not ignored."""
    asked = {"revision": revision, "local_files_only": True}
    folder: str = hub.snapshot_download(name, ignore_patterns=list(OTHER_FORMATS), **asked)
    if any(Path(folder).rglob("*.safetensors")):
        return folder
    whole: str = hub.snapshot_download(name, **asked)
    return whole


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
