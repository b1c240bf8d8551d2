"""Stores that break: each time a clear error, nothing lost, nothing overwritten."""

import contextlib
import dataclasses
import http.server
import json
import multiprocessing
import os
import socket
import subprocess
import threading
import time

import pytest

from pytest_inferforge import cli
from pytest_inferforge.baselines import open_store
from pytest_inferforge.baselines.store import read_session
from pytest_inferforge.codec import encode_session
from pytest_inferforge.errors import BaselineError
from pytest_inferforge.testing.suite import Suite
from pytest_inferforge.testing.timetable import Timetable, TimetableServer

USAGE = 4
NOBODY = 65_534
CHAT = """
    import pytest

    @pytest.mark.infer_workload(arrivals="closed 8", requests=48, prompt_tokens=16, output_tokens=8)
    def test_chat(infer_run): pass
"""


@pytest.fixture
def suite(tmp_path, calm):
    folder = tmp_path / "suite"
    folder.mkdir()
    made = Suite(folder)
    made.write("pytest.ini", "[pytest]\n")
    made.write("inferforge.toml", calm)
    made.write("test_a.py", CHAT)
    return made


@pytest.fixture
def url():
    with TimetableServer(Timetable(ttft_s=0.02, gap_s=0.005)) as server:
        yield server.url


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def told(error):
    """What, seen, do: an error of ours has all three."""
    assert isinstance(error, BaselineError)
    assert error.what
    assert error.seen
    assert error.do
    return str(error)


def saved_nowhere_but_measured(done, suite):
    """The run is red for it, its document is there, and the session waits beside its rows."""
    assert done.exit_code == 1, done.output
    assert "this session could not be saved" in done.output
    assert "seen:" in done.output
    assert "do:" in done.output
    assert "Traceback" not in done.output
    assert done.document["tests"][0]["boots"][0]["requests"]["completed"] == 48
    assert done.document["session"]["verdict"] == "error"
    (kept,) = (suite.folder / ".inferforge/runs").glob("*/session.json")
    assert f"inferforge baseline add main {kept}" in done.output
    return kept


# -- files that are not what they should be ------------------------------------------------------------------


def truncated(content):
    return content[: len(content) // 2]


def of_another_schema(content):
    return json.dumps(json.loads(content) | {"schema": 2}).encode()


def of_another_plugin(_):
    return json.dumps({"machine_info": {}, "benchmarks": [{"name": "test_chat"}]}).encode()


def empty(_):
    return b""


@pytest.mark.parametrize("option", ["--infer-compare=main", "--infer-save=main"])
@pytest.mark.parametrize("damage", [truncated, of_another_schema, of_another_plugin, empty])
def test_a_broken_session_is_named_before_anything_is_measured(suite, make_session, damage, option):
    store = open_store(suite.folder / ".inferforge")
    store.save("main", make_session("good"))
    path = suite.folder / ".inferforge/baselines/main/bad.json"
    path.write_bytes(damage(encode_session(make_session("bad"))))
    before = contents(suite.folder / ".inferforge")
    done = suite.run("--infer-url=http://127.0.0.1:9", option)
    assert done.exit_code == USAGE, done.output
    for words in (str(path), "seen:", "do:"):
        assert words in done.output
    assert done.outcomes == {}
    assert contents(suite.folder / ".inferforge") == before


def test_a_broken_decision_is_named_before_anything_is_measured(suite, make_session):
    store = open_store(suite.folder / ".inferforge")
    store.save("main", make_session("good"))
    path = suite.folder / ".inferforge/baselines/main/decisions/x.json"
    path.parent.mkdir()
    path.write_bytes(b'{"schema": 1')
    done = suite.run("--infer-url=http://127.0.0.1:9", "--infer-compare=main")
    assert done.exit_code == USAGE
    assert "decisions/x.json is broken, or not ours" in done.output
    assert path.read_bytes() == b'{"schema": 1'


def test_sessions_of_foreign_conditions_are_left_alone_and_are_no_reference(suite, url):
    assert suite.run(f"--infer-url={url}", "--infer-save=main").exit_code == 0
    store = open_store(suite.folder / ".inferforge")
    (session,) = store.load("main")
    for k in range(3):
        foreign = dataclasses.replace(session.fingerprint, hard={"gpu": "H100"})
        store.save("other", dataclasses.replace(session, id=f"f{k}", fingerprint=foreign))
    before = contents(suite.folder / ".inferforge/baselines")
    done = suite.run(f"--infer-url={url}", "--infer-compare=other")
    assert {c["verdict"] for c in done.document["comparisons"]} == {"incomparable"}
    assert "gpu: H100 -> (absent)" in done.output
    assert contents(suite.folder / ".inferforge/baselines") == before


# -- writers, disks, rights ----------------------------------------------------------------------------------


def test_two_runs_that_save_at_once_are_both_stored(suite, url):
    arguments = (f"--infer-url={url}", "--infer-save=main", "-p", "no:cacheprovider")
    logs = [suite.folder / f"{k}.log" for k in range(2)]
    runs = [suite.start(*arguments, log=log) for log in logs]
    codes = [run.wait(120.0) for run in runs]
    for run in runs:
        run.stop()
    assert codes == [0, 0], "\n".join(log.read_text() for log in logs)
    sessions = open_store(suite.folder / ".inferforge").load("main")
    assert len({s.id for s in sessions}) == 2


@pytest.fixture
def small_disk(suite):
    """A disk of 64 KiB where the suite's baselines are; rows and logs are on another one."""
    folder = suite.folder / ".inferforge/baselines"
    folder.mkdir(parents=True)
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder):
    with contextlib.suppress(OSError), (folder / "ballast").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def test_a_full_disk_loses_nothing_and_leaves_no_part_of_a_file(
    suite, small_disk, make_session, url, monkeypatch
):
    store = open_store(suite.folder / ".inferforge")
    store.save("main", make_session("first"))
    fill(small_disk)
    before = contents(small_disk)
    with pytest.raises(BaselineError, match="cannot be written") as error:
        store.save("main", make_session("second"))
    assert "No space left on device" in told(error.value)
    assert contents(small_disk) == before
    done = suite.run(f"--infer-url={url}", "--infer-save=main")
    kept = saved_nowhere_but_measured(done, suite)
    assert contents(small_disk) == before
    (small_disk / "ballast").unlink()
    monkeypatch.chdir(suite.folder)
    assert cli.main(["baseline", "add", "main", str(kept)]) == 0
    assert [s.id for s in store.load("main")] == ["first", read_session(kept).id]


def test_a_full_disk_under_rows_and_logs_is_said_before_anything_boots(suite, small_disk):
    fill(small_disk)
    done = suite.run("--infer-backend=llama.cpp", "--infer-save=main", f"--infer-store={small_disk}")
    assert done.exit_code == USAGE, done.output
    assert "cannot be written" in done.output
    assert "No space left on device" in done.output
    assert "INTERNALERROR" not in done.output
    assert [p.name for p in small_disk.rglob("*") if p.is_file()] == ["ballast"]


def test_a_store_that_may_not_be_written_is_left_as_it_is(tmp_path, make_session):
    store = open_store(tmp_path / "store")
    store.save("main", make_session("first"))
    before = contents(tmp_path / "store")
    for folder in (tmp_path, *(p for p in tmp_path.rglob("*") if p.is_dir())):
        folder.chmod(0o555)
    fork = multiprocessing.get_context("fork")
    said = fork.SimpleQueue()

    def save_as_nobody():
        os.chdir(tmp_path)  # the folders above it are not for everybody
        if os.geteuid() == 0:  # whom no mode stops
            os.setuid(NOBODY)
        try:
            open_store("store").save("main", make_session("second"))
        except BaselineError as error:
            said.put((error.what, error.seen, error.do))
        else:
            said.put(("it was saved", "", ""))

    child = fork.Process(target=save_as_nobody)
    child.start()
    child.join()
    what, seen, do = said.get()
    tmp_path.chmod(0o755)
    assert what == "store/baselines/main/second.json cannot be written"
    assert "Permission denied" in seen
    assert "--infer-store" in do
    assert contents(tmp_path / "store") == before


# -- buckets -------------------------------------------------------------------------------------------------

LISTED = '<?xml version="1.0"?><ListBucketResult><Name>b</Name><KeyCount>0</KeyCount></ListBucketResult>'


class Sick(http.server.ThreadingHTTPServer):
    """A store that breaks as it is told: `reads` and `writes` are statuses, 0 when they work.

    `lost` answers to writes are 500 though the file is there. `asked`: the methods of its requests.
    """

    def __init__(self, *, reads=0, writes=0, lost=0):
        super().__init__(("127.0.0.1", 0), Answer)
        self.reads, self.writes, self.lost = reads, writes, lost
        self.objects, self.asked = {}, []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"


class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.asked.append("GET")
        if self.server.reads:
            return self._say(self.server.reads, b"<Error><Code>InternalError</Code></Error>")
        path = self.path.partition("?")[0]
        if path.count("/") == 1:
            return self._say(200, LISTED.encode())
        found = self.server.objects.get(path)
        return self._say(404, b"") if found is None else self._say(200, found)

    def do_PUT(self):
        self.server.asked.append("PUT")
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if self.server.writes:
            return self._say(self.server.writes, b"<Error><Code>InternalError</Code></Error>")
        if self.path in self.server.objects:
            assert self.headers["If-None-Match"] == "*"
            return self._say(412, b"<Error><Code>PreconditionFailed</Code></Error>")
        self.server.objects[self.path] = content
        if self.server.lost:
            self.server.lost -= 1
            return self._say(500, b"<Error><Code>InternalError</Code></Error>")
        return self._say(200, b"")

    def _say(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"x"')
        self.send_header("Last-Modified", "Mon, 05 Jan 2026 03:00:00 GMT")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def sick(monkeypatch):
    """A function that starts a store with some illness; the environment leads to it."""
    servers = []

    def start(**illness):
        server = Sick(**illness)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        lead_to(monkeypatch, server.url)
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def lead_to(monkeypatch, url):
    for name, value in {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "somebody",
        "AWS_SECRET_ACCESS_KEY": "something-secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(("status", "attempts"), [(500, 3), (503, 3), (403, 1)])
def test_a_bucket_that_fails_is_asked_a_few_times_and_then_named(sick, make_session, status, attempts):
    server = sick(writes=status)
    store = open_store("s3://bucket/prefix")
    with pytest.raises(BaselineError) as error:
        store.save("main", make_session())
    assert str(status) in told(error.value)
    assert "s3://bucket/prefix/baselines/main/s1.json" in error.value.what
    assert "AWS_..." in error.value.do
    assert "something-secret" not in str(error.value)
    assert "Debug source" not in str(error.value)
    assert server.asked == ["PUT"] * attempts
    server.reads = status
    with pytest.raises(BaselineError):
        store.load("main")
    assert server.asked == ["PUT"] * attempts + ["GET"] * attempts


def test_a_write_whose_answer_was_lost_has_happened(sick, make_session):
    server = sick(lost=1)
    session = make_session()
    open_store("s3://bucket/prefix").save("main", session)
    assert server.asked == ["PUT", "PUT", "GET"]
    assert server.objects == {"/bucket/prefix/baselines/main/s1.json": encode_session(session)}


def test_a_lost_answer_does_not_make_the_file_of_another_ours(sick, make_session):
    server = sick()
    store = open_store("s3://bucket/prefix")
    store.save("main", make_session(version="theirs"))
    with pytest.raises(BaselineError, match="is in baseline main already"):
        store.save("main", make_session(version="ours"))
    assert server.objects == {
        "/bucket/prefix/baselines/main/s1.json": encode_session(make_session(version="theirs"))
    }


def test_a_run_whose_bucket_fails_at_the_end_is_red_and_keeps_what_it_measured(sick, suite, url):
    server = sick(writes=500)
    done = suite.run(f"--infer-url={url}", "--infer-save=main", "--infer-store=s3://bucket/prefix")
    kept = saved_nowhere_but_measured(done, suite)
    assert "the store does not do what it is asked: s3://bucket/prefix/baselines/main/" in done.output
    assert server.objects == {}
    server.writes = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(suite.folder)
        assert cli.main(["baseline", "add", "main", str(kept), "--store", "s3://bucket/prefix"]) == 0
    assert list(server.objects.values()) == [kept.read_bytes()]


@pytest.mark.parametrize("option", ["--infer-compare=main", "--infer-save=main"])
def test_a_bucket_out_of_reach_is_said_before_anything_boots(monkeypatch, suite, option):
    with socket.socket() as closed:  # bound, so that nobody else listens there
        closed.bind(("127.0.0.1", 0))
        lead_to(monkeypatch, f"http://127.0.0.1:{closed.getsockname()[1]}")
        began = time.monotonic()
        done = suite.run("--infer-backend=llama.cpp", option, "--infer-store=s3://bucket/prefix")
    assert time.monotonic() - began < 30.0
    assert done.exit_code == USAGE, done.output
    assert "the store does not do what it is asked: s3://bucket/prefix/" in done.output
    assert "seen:" in done.output
    assert "AWS_..." in done.output
    assert not (suite.folder / ".inferforge/runs").exists()


def test_a_bucket_that_never_answers_is_given_up(monkeypatch):
    with socket.socket() as silent:  # connections wait in its queue for ever
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        lead_to(monkeypatch, f"http://127.0.0.1:{silent.getsockname()[1]}")
        began = time.monotonic()
        with pytest.raises(BaselineError) as error:
            open_store("s3://bucket/prefix").names()
    assert 10.0 < time.monotonic() - began < 40.0
    assert "timed out" in told(error.value).lower() or "error sending request" in str(error.value)
