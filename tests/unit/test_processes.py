from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_inferforge.processes import redact, tail

if TYPE_CHECKING:
    from pathlib import Path


def test_the_tail_is_the_last_lines_without_colours_and_garbage(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"one\ntwo\n\x1b[31mthree\x1b[0m\x00\r\n\xff\xfe four")
    assert tail(log, lines=2) == "three\n�� four"


def test_the_tail_of_a_long_log_reads_only_its_end(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"x" * 1_000_000 + b"\nlast\n")
    assert tail(log, max_bytes=10) == "xxxx\nlast"


def test_the_tail_of_nothing_is_empty(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert tail(tmp_path / "missing") == ""
    assert tail(tmp_path / "empty") == ""


def test_secrets_are_replaced_the_longest_first() -> None:
    assert redact("a=abcdef b=abcd", ["abcd", "abcdef"]) == "a=[redacted] b=[redacted]"


def test_what_is_too_short_to_be_a_secret_stays() -> None:
    assert redact("port 1 of 1", ["1", ""]) == "port 1 of 1"
