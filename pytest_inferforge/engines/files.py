"""Model files: where ours are kept, and what is in them."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path


def cache_folder() -> Path:
    """The user's cache folder for this package; it may not exist yet.

    Source: XDG Base Directory Specification, `XDG_CACHE_HOME` (used only when absolute, else ~/.cache).
    """
    named = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(named) if Path(named).is_absolute() else Path.home() / ".cache"
    return base / "pytest-inferforge"


def running_folder() -> Path:
    """Where notes lie of what was started and runs, for whoever cleans up after a session that was killed."""
    return cache_folder() / "running"


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of the whole file; reads about 1 GB per second."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remembered_sha256(path: Path, cache_dir: Path | None = None) -> str:
    """`sha256_of`, read again only when the file's path, size or modification time changed.

    `cache_dir` is the package's cache folder (None: the user's). A cache that cannot be read or written costs
    time, nothing else.
    """
    path = path.resolve()
    status = path.stat()
    key = [str(path), status.st_size, status.st_mtime_ns]
    name = hashlib.sha256(str(path).encode(errors="surrogateescape")).hexdigest()[:24]
    note = (cache_dir or cache_folder()) / "sha256" / f"{name}.json"
    try:
        stored = json.loads(note.read_text(encoding="utf-8"))
        if isinstance(stored, dict) and stored.get("key") == key and isinstance(stored.get("sha256"), str):
            return str(stored["sha256"])
    except (OSError, ValueError):
        pass
    digest = sha256_of(path)
    _write_whole(note, json.dumps({"key": key, "sha256": digest}))
    return digest


def _write_whole(target: Path, text: str) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(prefix=".", suffix=".part", dir=target.parent)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(part).replace(target)
    except OSError:
        return  # a cache on a read-only disk is a cache that forgets
