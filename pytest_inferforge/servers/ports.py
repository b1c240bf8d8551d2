"""A port for one server: free, and promised to nobody else on this machine who asks here."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import socket
import tempfile
from pathlib import Path

import psutil

from pytest_inferforge.errors import EngineError

HOST = "127.0.0.1"

_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
_EPHEMERAL_DEFAULT = (32768, 60999)  # Source: Linux Documentation/networking/ip-sysctl.rst
_LOWEST = 20_000  # above the usual ports of servers, below the usual ephemeral ones
_HIGHEST = 65_535
_asked = itertools.count(os.getpid() * 17)  # so that two sessions rarely try the same port


class PortLease:
    """A port that is ours until `release`. Made by `lease`."""

    def __init__(self, port: int, lock_fd: int) -> None:
        self.port = port
        self._lock_fd: int | None = lock_fd

    def __repr__(self) -> str:
        return f"PortLease({self.port})"

    def release(self) -> None:
        """Give it back; may be called again."""
        if self._lock_fd is not None:
            fcntl.flock(
                self._lock_fd, fcntl.LOCK_UN
            )  # forks of ours hold the same lock: closing is not enough
            os.close(self._lock_fd)
            self._lock_fd = None


def lease(port: int | None = None, *, lock_dir: Path | None = None) -> PortLease:
    """That port, or a free one outside the range from which the kernel serves outgoing connections.

    `lock_dir`: where the lock files are (None: a folder of this user's in the system's temporary folder).

    Raises:
        EngineError: the port is taken; the message names the holder when it can be seen.
    """
    folder = lock_dir or _lock_folder()
    if port is not None:
        found = _try(port, folder)
        if found is None:
            raise taken(port)
        return found
    candidates = candidate_ports(_ephemeral_range())
    for _ in range(len(candidates)):
        found = _try(candidates[next(_asked) % len(candidates)], folder)
        if found is not None:
            return found
    raise EngineError(
        f"no port is free on {HOST}",
        seen=f"all of {candidates[0]}-{candidates[-1]} are taken",
        do="end some servers, or name a port",
    )


def candidate_ports(ephemeral: tuple[int, int]) -> range:
    """Ports to choose from: the wider side of the ephemeral range, or all where it leaves hardly any.

    >>> candidate_ports((32768, 60999))
    range(20000, 32768)
    """
    below, above = range(_LOWEST, ephemeral[0]), range(ephemeral[1] + 1, _HIGHEST + 1)
    widest = max(below, above, key=len)
    return widest if len(widest) >= 100 else range(_LOWEST, _HIGHEST + 1)


def is_free(port: int) -> bool:
    """Could a server listen on it now? Connections that linger (TIME_WAIT) do not count, as for servers."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def listeners(port: int) -> tuple[psutil.Process, ...]:
    """The processes that listen on a port, as far as they can be seen from here (root sees all)."""
    try:
        sockets = psutil.net_connections(kind="tcp")
    except psutil.Error:
        return ()
    pids = {s.pid for s in sockets if s.status == psutil.CONN_LISTEN and s.laddr and s.laddr.port == port}
    found = []
    for pid in pids - {None}:
        with contextlib.suppress(psutil.Error):
            found.append(psutil.Process(pid))
    return tuple(found)


def taken(port: int) -> EngineError:
    """The error for a port that somebody else has."""
    return EngineError(
        f"port {port} on {HOST} is taken",
        seen=who(listeners(port)),
        do="end that process, or choose another port (without one, a free port is found)",
    )


def who(processes: tuple[psutil.Process, ...]) -> str:
    """Pids and names for an error."""
    shown = []
    for process in processes:
        with contextlib.suppress(psutil.Error):
            shown.append(f"process {process.pid} ({process.name()}) listens on it")
    return "; ".join(shown) or "bind refused; the holder cannot be seen from here"


def _try(port: int, folder: Path) -> PortLease | None:
    lock_fd = os.open(folder / f"{port}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock_fd)
        return None
    found = PortLease(port, lock_fd)
    if is_free(port):
        return found
    found.release()
    return None


def _lock_folder() -> Path:
    folder = Path(tempfile.gettempdir()) / f"pytest-inferforge-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.lstat().st_uid != os.getuid():
        raise EngineError(
            "the folder for port locks belongs to another user",
            seen=str(folder),
            do="remove it, or set TMPDIR",
        )
    return folder


def _ephemeral_range() -> tuple[int, int]:
    try:
        low, high = _EPHEMERAL.read_text(encoding="ascii").split()
        return int(low), int(high)
    except (OSError, ValueError):
        return _EPHEMERAL_DEFAULT
