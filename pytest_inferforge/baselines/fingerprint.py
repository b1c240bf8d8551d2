"""Where a session is measured, and from which commit."""

from __future__ import annotations

import getpass
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

from pytest_inferforge.records import Fingerprint

_CPUINFO = Path("/proc/cpuinfo")
_GIT_TIMEOUT_S = 5.0


def host_fingerprint(cpuinfo: Path = _CPUINFO) -> Fingerprint:
    """This machine: the CPU model is hard, the rest is soft."""
    return Fingerprint(
        hard={"cpu_model": _cpu_model(cpuinfo)},
        soft={
            "kernel": f"{platform.system()} {platform.release()}",
            "python": platform.python_version(),
            "host": platform.node(),
            "cpus": str(os.cpu_count() or 0),
            "inferforge": _own_version(),
        },
    )


def git_source(cwd: Path) -> dict[str, str]:
    """`commit`, `branch` (HEAD when detached) and `dirty` ("true", "false"); empty outside a repository.

    Dirty is what differs in tracked files: a baseline that was just saved is not yet tracked.
    """
    commit, status = (
        _git(cwd, "rev-parse", "HEAD"),
        _git(cwd, "status", "--porcelain", "--untracked-files=no"),
    )
    if commit is None or status is None:
        return {}
    branch = _git(cwd, "rev-parse", "--abbrev-ref", "HEAD") or "HEAD"
    return {"commit": commit, "branch": branch, "dirty": "true" if status else "false"}


def git_user(cwd: Path) -> str | None:
    """Who decides here: git's user name, else the login; None: neither is known."""
    if name := _git(cwd, "config", "user.name"):
        return name
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without an entry, as in some containers
        return None


def _git(cwd: Path, *arguments: str) -> str | None:
    """Output of a git command; None when it failed, or there is no git."""
    try:
        done = subprocess.run(  # the only program started here, for a second at most in practice
            ["git", *arguments],  # noqa: S607 (the git that the user has)
            cwd=cwd,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},  # looking must not lock the user's index
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=_GIT_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _cpu_model(cpuinfo: Path) -> str:
    """As the kernel names it; machines that do not (Arm) by their architecture."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() == "model name" and value.strip():
            return " ".join(value.split())
    return platform.processor() or platform.machine() or "unknown"


def _own_version() -> str:
    try:
        return metadata.version("pytest-inferforge")
    except metadata.PackageNotFoundError:
        return "unknown"
