"""What a pytest run was asked to select, as far as its command line tells."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

_UNSEEN = ("ignore", "ignore_glob", "lf")  # options of pytest that leave files out before they are collected
_BY_NAME = ("keyword", "markexpr")  # and those that choose among what was


def narrowed(config: pytest.Config) -> bool:
    """Whether tests are left out without being collected; paths alone do not count."""
    by_id = any("::" in argument for argument in config.args)
    return by_id or any(getattr(config.option, name, None) for name in _UNSEEN)


def asked_for(config: pytest.Config, nodeid: str) -> bool:
    """Whether a test would have been selected, if it existed: its file lies below a path that was given.

    Nobody can tell under -k and -m, which look at more than the name: then it was not asked for.
    """
    if any(getattr(config.option, name, None) for name in _BY_NAME):
        return False
    if any(nodeid.startswith(prefix) for prefix in config.option.deselect or ()):
        return False
    if getattr(config.option, "pyargs", False):
        return True  # packages, wherever they lie
    file = (config.rootpath / nodeid.partition("::")[0]).resolve()
    started = config.invocation_params.dir
    given = ((started / argument.partition("::")[0]).resolve() for argument in config.args)
    return any(file.is_relative_to(path) for path in given)
