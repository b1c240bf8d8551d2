from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from pytest_inferforge.errors import EngineError
from pytest_inferforge.servers import ports

if TYPE_CHECKING:
    from pathlib import Path


def test_a_port_is_promised_once(tmp_path: Path) -> None:
    first = ports.lease(lock_dir=tmp_path)
    with pytest.raises(EngineError, match=f"port {first.port} on 127.0.0.1 is taken"):
        ports.lease(first.port, lock_dir=tmp_path)
    first.release()
    first.release()
    ports.lease(first.port, lock_dir=tmp_path).release()


def test_ports_follow_each_other(tmp_path: Path) -> None:
    leases = [ports.lease(lock_dir=tmp_path) for _ in range(5)]
    assert len({lease.port for lease in leases}) == 5
    for lease in leases:
        lease.release()


def test_a_fork_does_not_keep_the_lock_that_its_parent_released(tmp_path: Path) -> None:
    lease = ports.lease(lock_dir=tmp_path)
    read, write = os.pipe()
    fork = os.fork()
    if fork == 0:
        os.close(write)
        os.read(read, 1)
        os._exit(0)
    try:
        lease.release()
        ports.lease(lease.port, lock_dir=tmp_path).release()
    finally:
        os.close(write)
        os.waitpid(fork, 0)
        os.close(read)


def test_a_taken_port_is_an_error_that_names_the_holder(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        assert not ports.is_free(port)
        with pytest.raises(EngineError, match=f"port {port} on 127.0.0.1 is taken") as caught:
            ports.lease(port, lock_dir=tmp_path)
    assert caught.value.seen is not None
    assert f"process {os.getpid()} (" in caught.value.seen
    assert caught.value.do is not None


@pytest.mark.parametrize(
    ("ephemeral", "expected"),
    [
        ((32768, 60999), range(20000, 32768)),
        ((1024, 49999), range(50000, 65536)),
        ((1024, 65535), range(20000, 65536)),
    ],
)
def test_ports_are_chosen_outside_the_kernels_range(ephemeral: tuple[int, int], expected: range) -> None:
    assert ports.candidate_ports(ephemeral) == expected
