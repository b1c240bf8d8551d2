"""Servers in containers: started, watched and ended by the program that runs containers.

No real container engine runs here. A stand-in for `docker` is on PATH: a client that tells a daemon, which
lives in this process, what it is asked, as the real one does. Its containers are plain processes of the
daemon, so that they outlive a client that is killed. What is written on the command line is checked in
tests/unit/engines/test_containers.py.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from pytest_inferforge import remains
from pytest_inferforge.engines import custom
from pytest_inferforge.errors import EngineError
from pytest_inferforge.servers import ports
from pytest_inferforge.servers.spec import ServerSpec
from pytest_inferforge.servers.supervisor import boot
from pytest_inferforge.testing.timetable import Timetable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_inferforge.servers.server import Server

IMAGE = "some/image:1"
CLIENT = """\
#!{python} -IS
import json, os, signal, socket, sys
link = socket.socket(socket.AF_UNIX)
link.connect({address!r})
signal.signal(signal.SIGTERM, lambda *_: link.sendall(b"TERM\\n"))
link.sendall(json.dumps([sys.argv[1:], dict(os.environ)]).encode() + b"\\n")
code = 125
for line in link.makefile():
    told = json.loads(line)
    code = told.get("exit", code)
    print(told.get("said", ""), file=sys.stderr)
sys.exit(code)
"""
WITHOUT_VALUE = ("--rm", "--init")


class Daemon:
    """What runs containers. `images`: those that are here; `hub`: those that can be pulled, in `pull_s`.

    `deaf`: containers do not hear SIGTERM. `says`: what a container prints before it dies; None: it serves.
    """

    def __init__(self, folder: Path) -> None:
        self.images = {IMAGE}
        self.hub: set[str] = set()
        self.pull_s = 0.0
        self.deaf = False
        self.says: str | None = None
        self.asked: list[list[str]] = []
        self.containers: dict[str, subprocess.Popen[bytes]] = {}
        self.envs: dict[str, dict[str, str]] = {}
        self._folder = folder
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / "socket"))
        self._listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listener.close()
        for container in self.containers.values():
            container.kill()
            container.wait()

    def up(self) -> list[str]:
        """Names of the containers that run."""
        return [name for name, container in self.containers.items() if container.poll() is None]

    def verbs(self) -> list[str]:
        return [argv[0] for argv in self.asked]

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                link, _ = self._listener.accept()
                threading.Thread(target=self._answer, args=(link,), daemon=True).start()

    def _answer(self, link: socket.socket) -> None:
        with link, link.makefile() as lines, contextlib.suppress(OSError):  # the client may be gone
            argv, env = json.loads(lines.readline())
            self.asked.append(argv)
            verb = {"run": self._run, "rm": self._remove, "pull": self._pull, "image": self._inspect}[argv[0]]
            for told in verb(argv, env, lines):
                link.sendall(json.dumps(told).encode() + b"\n")
            link.shutdown(socket.SHUT_RDWR)  # who listens for SIGTERM would hold it open

    def _run(self, argv: list[str], env: dict[str, str], lines: Any) -> Iterator[dict[str, object]]:
        options, inside = split(argv[1:])
        if options["image"] != [IMAGE]:
            yield {"said": f"Unable to find image '{options['image'][0]}' locally", "exit": 125}
        elif self.says is not None:
            yield {"said": self.says, "exit": 1}
        else:
            name = options["--name"][0]
            pairs = [word.partition("=") for word in options["--env"]]
            self.envs[name] = {n: value if equals else env.get(n, "") for n, equals, value in pairs}
            self.containers[name] = self._container(name, inside)
            threading.Thread(target=self._hear, args=(name, lines), daemon=True).start()
            yield {"exit": self.containers[name].wait()}

    def _container(self, name: str, inside: list[str]) -> subprocess.Popen[bytes]:
        (port,) = (int(word.removeprefix("--port=")) for word in inside if word.startswith("--port="))
        config = self._folder / f"{name}.json"
        table = Timetable(port=port, api_key=self.envs[name].get("MY_KEY"), ttft_s=0.01, gap_s=0.001)
        config.write_text(json.dumps(asdict(table)))
        server = "pytest_inferforge.testing.timetable_process"
        return subprocess.Popen([sys.executable, "-m", server, str(config), str(config.with_suffix(".at"))])

    def _hear(self, name: str, lines: Any) -> None:
        with contextlib.suppress(OSError, ValueError):
            for _ in lines:  # SIGTERM, which the client hands on
                if not self.deaf:
                    self.containers[name].terminate()

    def _remove(self, argv: list[str], *_: object) -> Iterator[dict[str, object]]:
        container = self.containers.get(argv[-1])
        if container is None or container.poll() is not None:
            yield {"said": f"Error response from daemon: No such container: {argv[-1]}", "exit": 1}
        else:
            container.kill()
            container.wait()
            yield {"said": argv[-1], "exit": 0}

    def _pull(self, argv: list[str], *_: object) -> Iterator[dict[str, object]]:
        time.sleep(self.pull_s)
        if argv[1] not in self.hub:
            yield {"said": f"Error response from daemon: manifest for {argv[1]} not found", "exit": 1}
        else:
            self.images.add(argv[1])
            yield {"said": f"Downloaded newer image for {argv[1]}", "exit": 0}

    def _inspect(self, argv: list[str], *_: object) -> Iterator[dict[str, object]]:
        yield {"exit": 0 if argv[2] in self.images else 1}


def split(words: list[str]) -> tuple[dict[str, list[str]], list[str]]:
    """The options of `run`, with the image among them, and what stands behind the image."""
    options: dict[str, list[str]] = {"--env": [], "--volume": [], "--gpus": []}
    rest = iter(words)
    for word in rest:
        if not word.startswith("--"):
            options["image"] = [word]
            break
        if word not in WITHOUT_VALUE:
            options.setdefault(word, []).append(next(rest))
    return options, list(rest)


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    """The daemon, its client on PATH, and a home without anything in it."""
    folder = Path(tempfile.mkdtemp(prefix="daemon-"))  # the path of a socket must be short
    made = Daemon(folder)
    client = tmp_path / "bin" / "docker"
    client.parent.mkdir()
    client.write_text(CLIENT.format(python=sys.executable, address=str(folder / "socket")))
    client.chmod(0o755)
    monkeypatch.setenv("PATH", str(client.parent), prepend=os.pathsep)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(custom, "KIND", replace(custom.KIND, grace_s=0.5))
    yield made
    made.close()
    shutil.rmtree(folder)


@pytest.fixture
def booted(daemon: Daemon, tmp_path: Path) -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def boot_it(**fields: object) -> Server:
        args = ("--port={port}",)
        spec = ServerSpec(engine="custom", boot_timeout_s=20, **{"image": IMAGE, "args": args, **fields})
        servers.append(boot(spec, run_dir=tmp_path / "run"))
        return servers[-1]

    yield boot_it
    for server in servers:
        server.stop()


def eventually(condition: Callable[[], object], *, within_s: float = 15.0) -> bool:
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def test_a_container_is_booted_used_and_ended(
    daemon: Daemon, booted: Callable[..., Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "key-hunter22")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    model = tmp_path / "model.gguf"
    model.touch()
    server = booted(model=str(model), api_key_env="MY_KEY", env=(("SOME_TOKEN", "hunter22"),), gpus=0)
    (name,) = daemon.up()
    assert daemon.verbs() == ["image", "run"]
    options, inside = split(daemon.asked[-1][1:])
    port = server.url.rpartition(":")[2]
    assert options["--name"] == [name]
    assert options["--label"] == [f"pytest-inferforge={name}"]
    assert options["--publish"] == [f"127.0.0.1:{port}:{port}"]
    assert f"{model}:{model}:ro" in options["--volume"]
    assert options["--gpus"] == []
    assert inside == [f"--port={port}"]
    assert "hunter22" not in " ".join(daemon.asked[-1])
    assert {"MY_KEY": "key-hunter22", "SOME_TOKEN": "hunter22"}.items() <= daemon.envs[name].items()

    assert (server.model, server.facts["image"]) == ("timetable", IMAGE)
    assert server.first_token_s is not None
    with server.client() as client:
        assert client.get("/v1/models").status_code == 200
    assert (server.pids, server.memory_bytes()) == ((), None)  # those of the client would be others

    report = server.stop()
    assert report is not None
    assert (report.forced, report.left) == ((), ())
    assert daemon.up() == []
    assert daemon.verbs()[2:] == ["rm"]
    assert daemon.asked[-1] == ["rm", "--force", name]
    assert ports.is_free(int(port))


def test_gpus_are_given_when_they_are_asked_for(
    daemon: Daemon, booted: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    booted(gpus=2)
    assert split(daemon.asked[-1][1:])[0]["--gpus"] == ["2"]


def test_a_container_that_does_not_hear_sigterm_is_removed(
    daemon: Daemon, booted: Callable[..., Server]
) -> None:
    daemon.deaf = True
    server = booted()
    report = server.stop()
    assert report is not None
    assert report.exit_code == -signal.SIGKILL  # of the client
    assert daemon.up() == []
    assert ports.is_free(int(server.url.rpartition(":")[2]))


def test_an_image_that_is_not_here_is_pulled_before_the_boot_is_timed(
    daemon: Daemon, booted: Callable[..., Server]
) -> None:
    daemon.images.clear()
    daemon.hub, daemon.pull_s = {IMAGE}, 2.0
    server = booted()
    assert daemon.verbs() == ["image", "pull", "run"]
    assert server.ready_s is not None
    assert server.ready_s < 2.0


def test_an_image_that_cannot_be_pulled_is_an_error_with_the_words_of_whoever_pulls(
    daemon: Daemon, booted: Callable[..., Server]
) -> None:
    with pytest.raises(EngineError, match="the image none/such could not be fetched") as caught:
        booted(image="none/such")
    assert caught.value.seen == "Error response from daemon: manifest for none/such not found"
    assert daemon.verbs() == ["image", "pull"]


def test_a_container_that_dies_is_an_error_with_its_log(
    daemon: Daemon, booted: Callable[..., Server]
) -> None:
    daemon.says = "RuntimeError: Found no NVIDIA driver on your system"
    with pytest.raises(EngineError, match="custom ended while booting") as caught:
        booted()
    assert "it ended with exit code 1" in str(caught.value.seen)
    assert daemon.says in caught.value.log_tail
    assert daemon.verbs()[-1] == "rm"


# -- whoever started it is killed

SUITE = """\
import time
def test_it(infer_server):
    time.sleep(600)
"""


@pytest.fixture
def killed(daemon: Daemon, tmp_path: Path, calm: str) -> Iterator[Callable[..., str]]:
    """Kill a pytest that has a container up, at once and by SIGKILL; returns the container's name."""
    folder = tmp_path / "suite"
    folder.mkdir()
    for name, content in {"test_it.py": SUITE, "pytest.ini": "[pytest]\n", "inferforge.toml": calm}.items():
        (folder / name).write_text(content)
    argv = ["--infer-backend=custom", f"--infer-image={IMAGE}", "--infer-arg=--port={port}"]
    log = (folder / "log").open("wb")
    pytest_run = subprocess.Popen([sys.executable, "-m", "pytest", *argv], cwd=folder, stdout=log, stderr=log)

    def kill(*, guardians: bool) -> str:
        assert eventually(daemon.up, within_s=60), (folder / "log").read_text()
        (name,) = daemon.up()
        run = psutil.Process(pytest_run.pid)
        below = [p for p in run.children(recursive=True) if "_guardian.py" in " ".join(p.cmdline())]
        doomed = [*(below if guardians else ()), run]
        assert len(doomed) == 1 + guardians
        for one in doomed:
            one.suspend()  # so that none sees another's end
        for one in doomed:
            one.kill()
        pytest_run.wait()
        return name

    yield kill
    pytest_run.kill()
    log.close()


def test_a_container_is_removed_when_pytest_is_killed(daemon: Daemon, killed: Callable[..., str]) -> None:
    daemon.deaf = True
    name = killed(guardians=False)
    assert eventually(lambda: not daemon.up())
    assert eventually(lambda: ["rm", "--force", name] in daemon.asked)


def test_a_container_is_removed_by_the_next_session_when_all_are_killed(
    daemon: Daemon, killed: Callable[..., str], tmp_path: Path
) -> None:
    name = killed(guardians=True)
    time.sleep(1.0)
    assert daemon.up() == [name]
    remains.reap(tmp_path / "cache" / "pytest-inferforge" / "running")
    assert daemon.up() == []
    assert daemon.asked[-1] == ["rm", "--force", name]
    assert list((tmp_path / "cache" / "pytest-inferforge" / "running").iterdir()) == []
