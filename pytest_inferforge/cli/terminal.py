"""What every command needs of a terminal: parsers to add to, a way to speak, the project's settings."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pytest_inferforge.pytest_plugin import settings
from pytest_inferforge.pytest_plugin.cmdline import add_options

if TYPE_CHECKING:
    from pytest_inferforge.pytest_plugin.settings import Settings

_STORE = "where baselines are kept, as --infer-store of pytest (default: .inferforge)"


class Commands(Protocol):
    """What a module adds its parsers to."""

    def add_parser(self, name: str, **words: Any) -> argparse.ArgumentParser: ...


def say(text: str, file: Any = None) -> None:
    """At once, also into a pipe."""
    print(text, file=file or sys.stdout, flush=True)


def add_store(parser: argparse.ArgumentParser) -> None:
    """Declare where the baselines are."""
    parser.add_argument("--store", "--infer-store", dest="infer_store", metavar="DIR|URL", help=_STORE)


def settings_of(option: argparse.Namespace) -> Settings:
    """Of the options given here, and as if nothing were said of the others."""
    unsaid = argparse.ArgumentParser()
    add_options(OptionsOf(unsaid))  # type: ignore[arg-type]
    given = {**vars(unsaid.parse_args([])), **vars(option)}
    return settings.read(given, Path.cwd(), Path.cwd(), settings.environment())


class OptionsOf:
    """The options of the plugin, declared to argparse."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self.addoption = parser.add_argument

    def getgroup(self, *_: str) -> OptionsOf:
        return self
