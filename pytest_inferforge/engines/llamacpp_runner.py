"""Runs llama.cpp's server until it is killed: `python llamacpp_runner.py CONFIG.json`.

CONFIG.json: `{"parameters": {attribute: value}, "api_key_env": name or null}`, attributes of
xllamacpp.CommonParams, dotted.

It imports the standard library and xllamacpp only, and keeps the default action of SIGTERM, which ends it at
once whatever its threads do. The exit code is 2 for a parameter that this xllamacpp does not have and 1 when
the server does not start; llama.cpp has then said why on stderr.
"""

from __future__ import annotations

import enum
import json
import os
import signal
import sys
from importlib import metadata
from pathlib import Path
from typing import Any, NoReturn


def main() -> NoReturn:
    config = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    try:
        for name, value in config["parameters"].items():
            assign(parameters, name, value)
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        leave(2, f"xllamacpp {metadata.version('xllamacpp')} does not take {name} = {value!r}: {error}")
    if config["api_key_env"]:
        parameters.api_keys = [os.environ[config["api_key_env"]]]
    try:
        server = xllamacpp.Server(parameters)
    except RuntimeError as error:
        leave(1, str(error))
    asked = config["parameters"]["port"]
    if not server.listening_address.endswith(f":{asked}"):
        leave(1, f"asked to listen on port {asked}, it listens on {server.listening_address}")
    while True:
        signal.pause()


def assign(parameters: Any, name: str, value: object) -> None:
    """Set a dotted attribute that exists, in its own type: enums by name, also in a list, sets from lists."""
    *path, attribute = name.split(".")
    owner = parameters
    for step in path:
        owner = getattr(owner, step)
    present = getattr(owner, attribute)
    if isinstance(present, enum.Enum) and isinstance(value, str):
        value = type(present)[value]
    elif isinstance(present, list) and present and isinstance(present[0], enum.Enum):
        value = [type(present[0])[member] for member in value]  # type: ignore[attr-defined]
    elif isinstance(present, set):
        value = {value} if isinstance(value, str) else set(value)  # type: ignore[call-overload]
    setattr(owner, attribute, value)


def leave(code: int, reason: str) -> NoReturn:
    """End now: threads of the server may still run, and nobody waits for them."""
    sys.stderr.write(f"llamacpp_runner: {reason}\n")
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
