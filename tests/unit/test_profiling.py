"""A short repeat under an engine's profiler, against a server that only has its two routes."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import httpx
import pytest

from pytest_inferforge.engines.protocol import Profiler
from pytest_inferforge.pytest_plugin import profiling

ROUTES = Profiler(start_path="/start", stop_path="/stop", body={"output_dir": "{folder}", "steps": 3})


@pytest.fixture
def server(tmp_path):
    """What `record` needs of a server; it writes a trace when the profiler is switched off."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            asked.append((self.path, body))
            port = self.server.server_address[1]
            if self.path == "/stop" and made.writes:
                folder = tmp_path / f"profile-{port}"
                folder.mkdir(exist_ok=True)
                (folder / f"trace-{len(asked)}.json").write_text("{}")
            self.send_response(made.status)
            self.end_headers()

        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{running.server_address[1]}"
        made = SimpleNamespace(
            url=url, engine="some engine", profiler=ROUTES, status=200, writes=True, asked=asked,
            client=lambda timeout_s: httpx.Client(base_url=url, timeout=timeout_s),
        )  # fmt: skip
        yield made
        running.shutdown()


def test_the_load_runs_between_the_two_and_the_files_are_named(server, tmp_path):
    seen = []
    said = profiling.record(server, tmp_path, lambda: seen.append([path for path, _ in server.asked]))
    assert seen == [["/start"]]
    assert [path for path, _ in server.asked] == ["/start", "/stop"]
    folder = tmp_path / f"profile-{httpx.URL(server.url).port}"
    assert server.asked[0][1].replace(" ", "") == f'{{"output_dir":"{folder}","steps":3}}'
    assert said == f"profile: {folder / 'trace-2.json'}"
    # what was there before is not this run's
    assert profiling.record(server, tmp_path, lambda: None) == f"profile: {folder / 'trace-4.json'}"


def test_an_engine_without_one_says_so(server, tmp_path):
    server.profiler = None
    said = profiling.record(server, tmp_path, lambda: pytest.fail("nothing is to be driven"))
    assert said == "no profile: some engine has no profiler that can be switched on from here"


def test_a_profiler_that_is_not_on_is_said(server, tmp_path):
    server.status = 404
    said = profiling.record(server, tmp_path, lambda: pytest.fail("nothing is to be driven"))
    assert said.startswith("no profile: POST /start -> 404")


def test_one_that_writes_nothing_is_said(server, tmp_path):
    server.writes = False
    assert "wrote nothing below" in profiling.record(server, tmp_path, lambda: None)


def test_a_load_that_breaks_leaves_the_profiler_off(server, tmp_path):
    def broken():
        raise RuntimeError

    with pytest.raises(RuntimeError):
        profiling.record(server, tmp_path, broken)
    assert [path for path, _ in server.asked] == ["/start", "/stop"]
