"""The command `inferforge`. Each module here declares its commands and the functions that run them."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from pytest_inferforge.cli import baselines, calibrating, comparing, history, judging, selfchecking, serving
from pytest_inferforge.cli.terminal import say
from pytest_inferforge.errors import EngineError, InferforgeError, MeasuringError

if TYPE_CHECKING:
    from collections.abc import Sequence

_MODULES = (
    serving,
    baselines,
    comparing,
    judging,
    history,
    calibrating,
    selfchecking,
)  # each has add(commands), which sets `run` of what it declares


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, 1 for what failed or was found to be worse, 2 for a usage error."""
    given = list(sys.argv[1:] if argv is None else argv)
    option = parser().parse_args(given)
    option.arguments = given[1:]
    try:
        code: int = option.run(option)
    except (EngineError, MeasuringError) as error:
        say(str(error), sys.stderr)
        return 1
    except InferforgeError as error:
        say(str(error), sys.stderr)
        return 2
    return code


def parser() -> argparse.ArgumentParser:
    """All that the command understands."""
    made = argparse.ArgumentParser(prog="inferforge", description="Tests of LLM inference servers.")
    commands = made.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in _MODULES:
        module.add(commands)
    return made
