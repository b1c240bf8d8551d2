"""Has an engine's own parser read command lines: `python parse_argv.py ENGINE FOLDER < COMMANDS.json`.

Run by the Python of the environment with vLLM. FOLDER holds the unpacked wheel of sglang or lmdeploy, whose
heavy dependencies are not needed to parse: what is not installed is stood in for, the engine itself never.
COMMANDS.json: `{name: [argument, ...]}`; prints `{name: null or the parser's complaint}`.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.abc
import importlib.machinery
import io
import json
import sys
import types
from typing import Any


class Absent:
    """A base of classes that are not here."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Nothing(name)

    def __class_getitem__(cls, _: Any) -> Any:
        return cls


class Nothing(types.ModuleType):
    """A module, class or function that is not here."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__path__: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        made = Nothing(name) if name[:1].islower() else type(name, (Absent,), {})
        setattr(self, name, made)
        return made

    def __call__(self, *arguments: Any, **_: Any) -> Any:
        return arguments[0] if len(arguments) == 1 and callable(arguments[0]) else self


class StandIns(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Comes last: for modules that nobody else finds, and that are not the engine's own."""

    def __init__(self, engine: str) -> None:
        self.engine = engine
        self.made: set[str] = set()

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:  # noqa: ARG002
        top = name.partition(".")[0]
        if top in (self.engine, *sys.stdlib_module_names) or not self._asked_by_the_engine(top):
            return None
        self.made.add(name.partition(".")[0])
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def _asked_by_the_engine(self, top: str) -> bool:
        """Other packages try what they can do without, and must find it missing."""
        frame: Any = sys._getframe(2)
        while frame is not None and "importlib" in frame.f_code.co_filename:
            frame = frame.f_back
        asking = frame.f_globals.get("__name__", "") if frame is not None else ""
        return top in self.made or asking.partition(".")[0] == self.engine

    def create_module(self, spec: Any) -> types.ModuleType:
        return Nothing(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        pass


def vllm() -> argparse.ArgumentParser:
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    return make_arg_parser(FlexibleArgumentParser())


def sglang() -> argparse.ArgumentParser:
    from sglang.srt.server_args import ServerArgs

    parser = argparse.ArgumentParser()
    ServerArgs.add_cli_args(parser)
    return parser


def lmdeploy() -> argparse.ArgumentParser:
    from lmdeploy.cli.cli import CLI
    from lmdeploy.cli.serve import SubCliServe

    SubCliServe.add_parsers()
    return CLI.parser


def transformers() -> Any:
    from transformers.cli.transformers import app

    return app


PARSERS = {"vllm": vllm, "sglang": sglang, "lmdeploy": lmdeploy, "transformers": transformers}


def complaint(parser: Any, argv: list[str]) -> str | None:
    """What the parser says against it; None: nothing."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        try:
            if isinstance(parser, argparse.ArgumentParser):
                parser.parse_args(argv)
            else:  # a group of click
                parser.get_command(None, argv[0]).make_context(argv[0], argv[1:])
        except SystemExit as end:
            if end.code:
                return said.getvalue().strip().splitlines()[-1]
        except Exception as error:  # noqa: BLE001 - a parser of click raises what it has to say
            return f"{type(error).__name__}: {error}"
    return None


def main() -> None:
    engine, folder = sys.argv[1], sys.argv[2]
    stand_ins = StandIns(engine)
    if engine in ("sglang", "lmdeploy"):
        sys.path.insert(0, folder)
        sys.meta_path.append(stand_ins)
    commands = json.load(sys.stdin)
    out, sys.stdout = sys.stdout, sys.stderr
    parser = PARSERS[engine]()
    found = {name: complaint(parser, argv) for name, argv in commands.items()}
    json.dump({"complaints": found, "stood in for": sorted(stand_ins.made)}, out)


if __name__ == "__main__":
    main()
