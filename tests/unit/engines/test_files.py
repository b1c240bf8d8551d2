from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_inferforge.engines import files

if TYPE_CHECKING:
    import pytest


def test_a_digest_is_remembered_until_the_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / "model"
    model.write_bytes(b"one")
    reads: list[Path] = []
    monkeypatch.setattr(
        files, "sha256_of", lambda path, real=files.sha256_of: reads.append(path) or real(path)
    )
    first = files.remembered_sha256(model, tmp_path / "cache")
    assert files.remembered_sha256(model, tmp_path / "cache") == first
    assert len(reads) == 1
    model.write_bytes(b"two")
    os.utime(model, ns=(1, 1))
    assert files.remembered_sha256(model, tmp_path / "cache") != first
    assert len(reads) == 2


def test_a_broken_cache_costs_time_only(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.write_bytes(b"one")
    digest = files.remembered_sha256(model, tmp_path / "cache")
    (note,) = (tmp_path / "cache" / "sha256").iterdir()
    for text in ("", "[]", '{"key": 1}', "\udcff"):
        note.write_text(text, errors="surrogateescape")
        assert files.remembered_sha256(model, tmp_path / "cache") == digest
    blocked = tmp_path / "file"
    blocked.touch()
    assert files.remembered_sha256(model, blocked) == digest


def test_the_cache_folder_follows_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert files.cache_folder() == tmp_path / "pytest-inferforge"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert files.cache_folder() == Path.home() / ".cache" / "pytest-inferforge"
