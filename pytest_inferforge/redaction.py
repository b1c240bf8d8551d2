"""Which names hold secrets, and command lines without them."""

from __future__ import annotations

import re
import shlex

_SECRET_NAME = re.compile(
    r"(^|[-_.])(api[-_]?keys?|access[-_]?key|token|secret|password|passwd|credentials?)$", re.IGNORECASE
)
HIDDEN = "[redacted]"


def is_secret(name: str) -> bool:
    """Does an environment variable or a flag of that name hold a secret?

    >>> is_secret("HF_TOKEN"), is_secret("--api-key"), is_secret("--max-num-batched-tokens")
    (True, True, False)
    """
    return _SECRET_NAME.search(name) is not None


def without_secrets(args: tuple[str, ...]) -> list[str]:
    """Arguments with the values of `--api-key VALUE`, `--api-key=VALUE` and the like replaced."""
    shown: list[str] = []
    hide_next = False
    for argument in args:
        name, equals, _ = argument.partition("=")
        if hide_next and not argument.startswith("-"):
            shown.append(HIDDEN)
        else:
            shown.append(f"{name}={HIDDEN}" if equals and is_secret(name) else argument)
        hide_next = not equals and argument.startswith("-") and is_secret(argument)
    return shown


def command_without_secrets(command: str) -> str:
    """A command line as it may be shown.

    >>> command_without_secrets("serve --api-key k1 --port {port}")
    'serve --api-key [redacted] --port {port}'
    """
    try:
        words = shlex.split(command)
    except ValueError:  # refused when it is to be run
        words = command.split()
    return " ".join(without_secrets(tuple(words)))
