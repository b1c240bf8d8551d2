"""Models are fetched before a server's start is timed: here from a hub of our own, which can go wrong."""

from __future__ import annotations

import hashlib
import http.server
import importlib.util
import json
import sys
import textwrap
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from pytest_inferforge import engines
from pytest_inferforge.engines import hub_fetch
from pytest_inferforge.engines.protocol import Fetch, Launch
from pytest_inferforge.errors import EngineError
from pytest_inferforge.servers import prefetch
from pytest_inferforge.servers.spec import ServerSpec
from pytest_inferforge.servers.supervisor import boot

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

needs_hub = pytest.mark.skipif(
    importlib.util.find_spec("huggingface_hub") is None,
    reason="huggingface_hub is not installed (it comes with tokenizers, extra tokenizer)",
)
SHA = "5f" * 20
TOKEN = "hf_hunter22hunter22"


class Hub(http.server.ThreadingHTTPServer):
    """One model on a hub, with the routes that huggingface_hub asks.

    `sizes`: what it claims of files that are larger than they are. `refusal`: status, code and message of
    every answer.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Route)
        self.files = {
            "config.json": b'{"model_type": "llama"}',
            "model.safetensors": b"weights",
            "pytorch_model.bin": b"the same weights",
            "original/params.json": b"{}",
        }
        self.sizes: dict[str, int] = {}
        self.refusal: tuple[int, str, str] | None = None
        self.seen: list[tuple[str, str, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def fetched(self) -> list[str]:
        """Files whose content was asked for."""
        return sorted(
            path.partition(f"/resolve/{SHA}/")[2]
            for verb, path, _ in self.seen
            if "/resolve/" in path and verb == "GET"
        )

    def keys(self) -> set[str | None]:
        return {key for _, path, key in self.seen if "org/model" in path}


class Route(http.server.BaseHTTPRequestHandler):
    """Source: huggingface_hub 2.4, HfApi.model_info, list_repo_tree and file_download."""

    protocol_version = "HTTP/1.1"
    server: Hub

    def do_GET(self) -> None:
        hub, path = self.server, self.path.partition("?")[0]
        hub.seen.append((self.command, path, self.headers.get("Authorization")))
        sizes = {name: hub.sizes.get(name, len(data)) for name, data in hub.files.items()}
        if hub.refusal is not None:
            status, code, message = hub.refusal
            self.reply(status, b"{}", **{"X-Error-Code": code, "X-Error-Message": message})
        elif path in (
            "/api/models/org/model",
            "/api/models/org/model/revision/main",
            f"/api/models/org/model/revision/{SHA}",
        ):
            siblings = [{"rfilename": name, "size": size} for name, size in sizes.items()]
            self.reply(200, json.dumps({"id": "org/model", "sha": SHA, "siblings": siblings}).encode())
        elif path == f"/api/models/org/model/tree/{SHA}":
            tree = [
                {"type": "file", "path": name, "size": size, "oid": tag(hub.files[name])}
                for name, size in sizes.items()
            ]
            self.reply(200, json.dumps(tree).encode())
        elif path.startswith(f"/org/model/resolve/{SHA}/"):
            data = hub.files[path.partition(f"{SHA}/")[2]]
            self.reply(200, data, **{"ETag": f'"{tag(data)}"', "X-Repo-Commit": SHA})
        else:
            self.reply(404, b"{}", **{"X-Error-Code": "RepoNotFound"})

    do_HEAD = do_GET  # noqa: N815

    def reply(self, status: int, content: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


def tag(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub, and an empty cache for what comes from it."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for name in ("HF_HUB_OFFLINE", "HF_HUB_CACHE", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    with Hub() as made:
        monkeypatch.setenv("HF_ENDPOINT", made.url)
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def fetch(tmp_path: Path, *words: str, env: tuple[tuple[str, str | None], ...] = ()) -> dict[str, str]:
    spec = ServerSpec(engine="vllm", model="org/model", env=env)
    wanted = Fetch(
        what="the model org/model", argv=(sys.executable, hub_fetch.__file__, *(words or ("org/model",)))
    )
    run = tmp_path / "run"
    run.mkdir(exist_ok=True)
    return prefetch.fetch(spec, wanted, run_dir=run, number=len(list(run.iterdir())) + 1)


def snapshot(tmp_path: Path) -> list[str]:
    """The files of the model in the cache."""
    folder = tmp_path / "hub" / "hub" / "models--org--model" / "snapshots" / SHA
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@needs_hub
@pytest.mark.parametrize("words", [("org/model",), ("org/model", "main"), ("org/model", SHA)])
def test_a_model_comes_into_the_cache_and_its_revision_is_a_fact(
    words: tuple[str, ...], hub: Hub, tmp_path: Path
) -> None:
    assert fetch(tmp_path, *words) == {"model_revision": SHA}
    assert snapshot(tmp_path) == hub.fetched() == ["config.json", "model.safetensors"]
    assert hub.keys() == {f"Bearer {TOKEN}"}
    assert TOKEN not in (tmp_path / "run" / "fetch-1.log").read_text()


@needs_hub
def test_other_formats_are_fetched_where_the_usual_one_is_not_there(hub: Hub, tmp_path: Path) -> None:
    del hub.files["model.safetensors"]
    fetch(tmp_path)
    assert snapshot(tmp_path) == ["config.json", "original/params.json", "pytorch_model.bin"]


@needs_hub
def test_what_is_here_is_not_fetched_again(hub: Hub, tmp_path: Path) -> None:
    fetch(tmp_path)
    first = hub.fetched()
    assert fetch(tmp_path) == {"model_revision": SHA}
    assert hub.fetched() == first
    assert "0.00 GB to fetch" in (tmp_path / "run" / "fetch-2.log").read_text()


@needs_hub
def test_a_token_that_is_handed_on_is_the_one_that_counts(hub: Hub, tmp_path: Path) -> None:
    fetch(tmp_path, env=(("HF_TOKEN", "hf_another22another22"),))
    assert hub.keys() == {"Bearer hf_another22another22"}


@needs_hub
def test_an_unknown_model_is_one_line(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="the model org/model could not be fetched") as caught:
        fetch(tmp_path, "org/unknown")
    assert "Repository Not Found" in str(caught.value.seen)
    assert "org/unknown" in str(caught.value.seen)
    assert "\n" not in str(caught.value.seen)
    assert "Traceback" not in str(caught.value)
    assert caught.value.log_path == str(tmp_path / "run" / "fetch-1.log")
    assert hub.fetched() == []


@needs_hub
@pytest.mark.parametrize("status", [401, 403])
def test_a_gated_model_is_one_line_without_the_token(status: int, hub: Hub, tmp_path: Path) -> None:
    hub.refusal = (status, "GatedRepo", f"Access to model org/model is restricted for {TOKEN}")
    with pytest.raises(EngineError, match="could not be fetched") as caught:
        fetch(tmp_path)
    assert str(caught.value.seen).startswith("GatedRepoError")
    assert "is restricted for [redacted]" in str(caught.value.seen)
    assert "\n" not in str(caught.value.seen)
    assert TOKEN not in str(caught.value)
    assert "HF_TOKEN" in str(caught.value.do)


@needs_hub
def test_a_model_larger_than_the_disk_is_refused_before_anything_is_loaded(hub: Hub, tmp_path: Path) -> None:
    hub.sizes["model.safetensors"] = 10**16
    with pytest.raises(EngineError, match="could not be fetched") as caught:
        fetch(tmp_path)
    assert "No space left on device: 10000000.0 GB to fetch, " in str(caught.value.seen)
    assert hub.fetched() == []


@needs_hub
def test_a_full_disk_is_no_obstacle_where_nothing_is_to_be_fetched(hub: Hub, tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "sitecustomize.py").write_text(
        "import shutil; shutil.disk_usage = lambda path: shutil._ntuple_diskusage(10**12, 10**12, 0)"
    )
    env = (("PYTHONPATH", str(full)),)
    with pytest.raises(EngineError) as caught:
        fetch(tmp_path, env=env)
    assert "0.0 GB to fetch, 0.0 GB free" in str(caught.value.seen)
    fetch(tmp_path)
    assert fetch(tmp_path, env=env) == {"model_revision": SHA}


@needs_hub
@pytest.mark.parametrize("safe", [True, False])
def test_without_the_hub_the_cache_has_the_word(
    safe: bool, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(EngineError, match="could not be fetched") as caught:
        fetch(tmp_path)
    assert str(caught.value.seen).startswith("LocalEntryNotFoundError")
    if not safe:
        del hub.files["model.safetensors"]
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    fetch(tmp_path)
    hub.seen.clear()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert fetch(tmp_path) == {"model_revision": SHA}
    assert hub.seen == []


@needs_hub
def test_modules_of_ours_do_not_take_the_place_of_its_own(hub: Hub, tmp_path: Path) -> None:
    """The script lies among modules with names such as `protocol` and `settings`."""
    packages = tmp_path / "packages"
    packages.mkdir()
    (packages / "huggingface_hub.py").write_text(
        "import importlib.util as u, sys\n"
        "ours = [n for n in ('protocol', 'settings', 'models', 'installation') if u.find_spec(n)]\n"
        "sys.exit(f'found {ours}')\n"
    )
    with pytest.raises(EngineError) as caught:
        fetch(tmp_path, env=(("PYTHONPATH", str(packages)),))
    assert caught.value.seen == "found []"


# -- whatever is fetched

SERVER = """
    import http.server, json, sys
    class Route(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"data": [{"id": "m"}]}).encode())
        do_POST = do_GET
    http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Route).serve_forever()
"""


def python(code: str, *words: str) -> tuple[str, ...]:
    return (sys.executable, "-c", textwrap.dedent(code), *words)


@pytest.fixture
def fetching(monkeypatch: pytest.MonkeyPatch) -> ServerSpec:
    """A server whose model takes 1.5 s to fetch; it is `wanted` of the engine that may be set."""

    def launch(_: object, port: int, __: Path) -> Launch:
        return Launch(
            argv=python(SERVER, str(port)),
            base_url=f"http://127.0.0.1:{port}",
            boot_timeout_s=20,
            facts=(("before", "1"),),
            fetch=engine.wanted,
        )

    engine = SimpleNamespace(
        STARTS_PROCESS=True,
        check=lambda _: None,
        launch=launch,
        ready=lambda client: None if client.get("/").is_success else "no",
        dialect=lambda *_: "openai",
        version=lambda _: None,
        facts=lambda _: {"after": "3"},
        wanted=Fetch(
            what="a model",
            argv=python("import time; time.sleep(1.5); print('fact model_revision two words')"),
        ),
    )
    monkeypatch.setitem(sys.modules, "stub_engine", engine)
    monkeypatch.setitem(engines.ENGINES, "stub", "stub_engine")
    return ServerSpec(engine="stub")


def test_what_is_fetched_is_not_in_the_time_to_be_ready(fetching: ServerSpec, tmp_path: Path) -> None:
    said: list[str] = []
    server = boot(fetching, run_dir=tmp_path, say=said.append)
    try:
        assert server.ready_s is not None
        assert server.ready_s < 1.5
        assert server.facts == {"before": "1", "model_revision": "two words", "after": "3"}
    finally:
        server.stop()
    assert said == ["fetching a model"]


def test_nothing_is_fetched_that_is_here_already(fetching: ServerSpec, tmp_path: Path) -> None:
    sys.modules["stub_engine"].wanted = Fetch(
        what="a model", argv=python("raise SystemExit(1)"), unless=("true",)
    )
    said: list[str] = []
    boot(fetching, run_dir=tmp_path, say=said.append).stop()
    assert said == []


def test_what_cannot_be_fetched_is_an_error_and_nothing_is_started(
    fetching: ServerSpec, tmp_path: Path
) -> None:
    code = """
        import os, sys
        print('trying', os.environ['SOME_TOKEN'])
        sys.exit('the shelf is empty')
    """
    sys.modules["stub_engine"].wanted = Fetch(what="a model", argv=python(code), unless=("false",))
    spec = ServerSpec(engine="stub", env=(("SOME_TOKEN", "hunter22"),))
    with pytest.raises(EngineError, match="a model could not be fetched") as caught:
        boot(spec, run_dir=tmp_path)
    assert caught.value.seen == "the shelf is empty"
    assert caught.value.log_tail == "trying [redacted]\nthe shelf is empty"
    assert not (tmp_path / "stub-1.log").exists()
