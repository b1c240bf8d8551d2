"""Where a store keeps its small files: a seam with two sides, folders here and buckets in `objects`.

A key is a relative path with "/" between its parts. What is written under one is never changed.
"""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING, BinaryIO, Protocol

from pytest_inferforge.errors import BaselineError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class Files(Protocol):
    """Small files that are added, read, and hardly ever removed. Safe under concurrent writers."""

    def keys(self, folder: str) -> tuple[str, ...]:
        """The keys below a folder, at any depth, sorted; hidden files are no files of ours.

        Raises:
            BaselineError: the store does not answer.
        """
        ...

    def read(self, key: str) -> bytes:
        """Raises BaselineError: it cannot be read."""
        ...

    def write_new(self, key: str, content: bytes) -> None:
        """Readers see all of it or nothing, and of two writers one wins.

        Raises:
            FileExistsError: there is such a file; it is left as it is.
            BaselineError: it cannot be written.
        """
        ...

    def remove(self, key: str) -> None:
        """Raises BaselineError: it cannot be removed."""
        ...

    def where(self, key: str) -> str:
        """What a person calls the place."""
        ...


class FolderFiles:
    """Files under one folder, also one that several machines share."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def keys(self, folder: str) -> tuple[str, ...]:
        top = self._root / folder
        try:
            found = list(_walk(top)) if top.is_dir() else []
        except OSError as error:
            do = "make the folder readable, or name another one with --infer-store"
            raise BaselineError(f"{top} cannot be read", seen=str(error), do=do) from error
        return tuple(sorted(path.relative_to(self._root).as_posix() for path in found))

    def read(self, key: str) -> bytes:
        path = self._root / key
        try:
            return path.read_bytes()
        except OSError as error:
            do = "make it readable, or move it out of the baseline"
            raise BaselineError(f"{path} cannot be read", seen=str(error), do=do) from error

    def write_new(self, key: str, content: bytes) -> None:
        path = self._root / key
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_new(path, lambda file: file.write(content))
        except FileExistsError as error:
            if not path.exists():  # a parent is a file
                raise unwritten(path, error) from error
            raise
        except OSError as error:
            raise unwritten(path, error) from error

    def remove(self, key: str) -> None:
        path = self._root / key
        try:
            path.unlink()
        except OSError as error:
            do = "look at the rights of its folder"
            raise BaselineError(f"{path} cannot be removed", seen=str(error), do=do) from error

    def where(self, key: str) -> str:
        return str(self._root / key)


def write_new(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file that must not exist: readers see all of it or nothing, and of two writers one wins.

    Raises:
        FileExistsError: there is such a file; it is left as it is.
        OSError: it could not be written; no part of it is left.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        with draft.open("xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        _publish(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def _publish(draft: Path, path: Path) -> None:
    try:
        path.hardlink_to(draft)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links: claim the name first, then fill it
        path.open("xb").close()
        draft.replace(path)


def _walk(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.name.startswith("."):
            continue
        if path.is_dir():
            yield from _walk(path)
        else:
            yield path


def unwritten(path: Path, error: OSError) -> BaselineError:
    """The error for a place that takes nothing."""
    do = "make room or give the right to write there, or name another folder with --infer-store"
    return BaselineError(f"{path} cannot be written", seen=str(error), do=do)
