"""Files of rows that users hand in, and errors that name the row."""

from __future__ import annotations

import csv
import hashlib
from typing import TYPE_CHECKING

from pytest_inferforge.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_SHOWN = 100  # characters of a wrong row


def wrong(path: Path, where: str, text: str, what: str, do: str) -> UsageError:
    """The error of a row; `where` is `line 7` or `item 3`.

    >>> from pathlib import Path
    >>> print(wrong(Path("a/lengths.txt"), "line 7", "abc", "a length is not a number", "write 128"))
    a length is not a number
      seen: lengths.txt, line 7: 'abc'
      do:   write 128
    """
    text = text.strip()
    short = text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
    return UsageError(what, seen=f"{path.name}, {where}: {short!r}", do=do)


def check(path: Path, name: str) -> None:
    """Raises UsageError: no such file; `name` says what it is wanted for."""
    if not path.is_file():
        raise UsageError(f"{name}: no such file", seen=str(path), do="name a file that is there")


def digest(path: Path) -> str:
    """The identity of a file's content: sha256, the first 16 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def lines(path: Path) -> Iterator[str]:
    """The lines of a UTF-8 file with their ends, one at a time; a byte order mark is dropped.

    Raises:
        UsageError: a line is not UTF-8.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                text = line.decode("utf-8", "replace")
                do = "save the file as UTF-8"
                raise wrong(path, f"line {number}", text, "the file is not UTF-8 text", do) from error


def csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(the line it begins in, fields) of each row that is not blank, the header first.

    Raises:
        UsageError: not CSV, or not UTF-8.
    """
    reader = csv.reader(lines(path), strict=True)
    begins = 1
    try:
        for fields in reader:
            if fields:
                yield begins, fields
            begins = reader.line_num + 1
    except csv.Error as error:
        do = "save it with comma separated values, quoted where they hold commas or line ends"
        raise wrong(path, f"line {begins}", str(error), "the file is not CSV", do) from error


def columns(path: Path, header: Sequence[str], names: Sequence[str], do: str) -> list[int]:
    """Where these columns are in a CSV file.

    Raises:
        UsageError: some are missing.
    """
    found = [field.strip() for field in header]
    if missing := [name for name in names if name not in found]:
        what = f"the file has no column {' and no column '.join(missing)}"
        raise wrong(path, "line 1", ",".join(header), what, do)
    return [found.index(name) for name in names]
