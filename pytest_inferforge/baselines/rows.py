"""Request rows as files: gzipped JSON lines."""

from __future__ import annotations

import gzip
import zlib
from typing import TYPE_CHECKING, BinaryIO

from pytest_inferforge.baselines.files import unwritten, write_new
from pytest_inferforge.codec import decode_row, encode_row
from pytest_inferforge.errors import BaselineError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from pytest_inferforge.records import RequestRecord

_QUICK = 3  # of gzip's levels: a soak has millions of rows


def write_rows(path: Path, rows: Iterable[RequestRecord]) -> None:
    """Write requests as gzipped JSON lines, one after the other, whole or not at all.

    Raises:
        FileExistsError: there is such a file; it is left as it is.
        BaselineError: it cannot be written.
    """

    def write(file: BinaryIO) -> None:
        with gzip.GzipFile(filename="", fileobj=file, mode="wb", compresslevel=_QUICK, mtime=0) as packed:
            for row in rows:
                packed.write(encode_row(row) + b"\n")

    try:
        write_new(path, write)
    except FileExistsError:
        raise
    except OSError as error:
        raise unwritten(path, error) from error


def read_rows(path: Path) -> Iterator[RequestRecord]:
    """Read what `write_rows` wrote, one request at a time.

    Raises:
        BaselineError: broken, or not ours.
    """
    try:
        with gzip.open(path, "rb") as lines:
            for number, line in enumerate(lines, start=1):
                yield decode_row(line, where=f"{path}, line {number}")
    except (OSError, EOFError, zlib.error) as error:
        do = "measure again: rows cannot be repaired"
        raise BaselineError(f"{path} cannot be read", seen=str(error), do=do) from error
