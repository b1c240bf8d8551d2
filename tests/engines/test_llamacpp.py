"""The embedded llama.cpp, for real."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING

import psutil
import pytest

from pytest_inferforge.dialects import DIALECTS
from pytest_inferforge.engines import forge_tiny
from pytest_inferforge.errors import EngineError, UsageError
from pytest_inferforge.servers import ports
from pytest_inferforge.servers.pool import ServerPool
from pytest_inferforge.servers.spec import ServerSpec, pairs
from pytest_inferforge.servers.supervisor import boot
from pytest_inferforge.words import WORDS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_inferforge.servers.server import Server

pytest.importorskip("xllamacpp", reason="the embedded llama.cpp is not installed (extra llamacpp)")
pytest.importorskip("gguf", reason="the embedded model cannot be made without gguf (extra llamacpp)")

PLAIN = ServerSpec(engine="llama.cpp")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = boot(
        ServerSpec(engine="llama.cpp", settings=(("prefix_caching", True),)),
        run_dir=tmp_path_factory.mktemp("run"),
    )
    yield running
    running.stop()


def events(server: Server, path: str, **body: object) -> list[dict[str, object]]:
    """The JSON of each event of a streamed reply, which must end with `[DONE]`."""
    with server.client() as client, client.stream("POST", path, json={**body, "stream": True}) as reply:
        lines = [line.removeprefix("data: ") for line in reply.iter_lines() if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def complete(server: Server, **body: object) -> dict[str, object]:
    with server.client() as client:
        reply = client.post("/v1/completions", json={"prompt": " the cat", "max_tokens": 4, **body})
    assert reply.status_code == 200, reply.text
    return reply.json()


def tokens(server: Server, text: object) -> int:
    with server.client() as client:
        return len(client.post("/tokenize", json={"content": text}).json()["tokens"])


def test_it_says_what_it_is(server: Server) -> None:
    assert server.url == f"http://127.0.0.1:{server._lease.port}"
    assert (server.model, server.engine, server.dialect_name) == ("forge-tiny", "llama.cpp", "llama.cpp")
    assert str(server.version).startswith("xllamacpp 20")
    assert server.ready_s is not None
    assert 0 < server.ready_s < 30
    assert server.facts["model_ftype"] == "F16"
    assert (server.facts["slots"], server.facts["n_ctx"]) == ("4", "4096")
    assert len(server.facts["model_sha256"]) == 64
    assert server.log is not None
    assert "listening on" in server.log.read_text()
    assert server.alive()
    assert "runs" in server.exit_report()


def test_a_reply_has_the_length_that_was_asked_for_and_is_read_back_as_many_tokens(server: Server) -> None:
    reply = complete(server, max_tokens=300, temperature=1.0, ignore_eos=True, seed=1)
    text = reply["choices"][0]["text"]
    assert reply["usage"]["completion_tokens"] == 300
    assert all(character == "\n" or " " <= character <= "~" for character in text)
    assert tokens(server, text) == 300


def test_words_are_single_tokens(server: Server) -> None:
    assert tokens(server, " the") == 1
    assert tokens(server, "".join(f" {word}" for word in WORDS)) == len(WORDS)
    assert complete(server, prompt=" the cat" * 5)["usage"]["prompt_tokens"] == 10


@pytest.mark.parametrize("words", [1, 20])
def test_a_chat_costs_three_tokens_more_than_its_words(server: Server, words: int) -> None:
    with server.client() as client:
        reply = client.post(
            "/v1/chat/completions",
            json={"messages": [{"role": "user", "content": " the" * words}], "max_tokens": 16},
        ).json()
    assert (reply["usage"]["prompt_tokens"], reply["usage"]["completion_tokens"]) == (words + 3, 16)
    assert reply["choices"][0]["message"]["content"]


def test_each_chunk_of_a_completion_is_one_token(server: Server) -> None:
    *chunks, last = events(
        server, "/v1/completions", prompt=" the", max_tokens=200, temperature=1.0, ignore_eos=True, seed=2
    )
    assert len(chunks) == 200
    assert all(chunk["choices"][0]["text"] for chunk in chunks)
    assert all("usage" not in chunk for chunk in chunks)
    assert last["choices"][0]["finish_reason"] == "length"
    assert last["usage"]["completion_tokens"] == 200  # `usage_on_finish_chunk` of the dialect


def test_each_chunk_of_a_chat_is_one_token_between_the_role_and_the_end(server: Server) -> None:
    role, *chunks, finish, usage = events(
        server,
        "/v1/chat/completions",
        messages=[{"role": "user", "content": " the"}],
        max_tokens=200,
        temperature=1.0,
        seed=3,
        stream_options={"include_usage": True},
    )
    assert role["choices"][0]["delta"] == {"role": "assistant", "content": None}
    assert len(chunks) == 200
    assert all(chunk["choices"][0]["delta"]["content"] for chunk in chunks)
    assert finish["choices"][0]["finish_reason"] == "length"
    assert (usage["choices"], usage["usage"]["completion_tokens"]) == ([], 200)


def test_the_connection_ends_after_a_streamed_reply_as_the_dialect_says(server: Server) -> None:
    body = json.dumps({"prompt": " the", "max_tokens": 4, "stream": True}).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: h\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", server._lease.port), timeout=4) as connection:
        connection.sendall(head + body)
        received = b""
        while not received.endswith(b"[DONE]\n\n\r\n0\r\n\r\n"):
            more = connection.recv(65536)
            assert more, received
            received += more
        survived = True
        with contextlib.suppress(TimeoutError):  # a kept connection is closed after 5 s
            survived = connection.recv(1) != b""
    assert survived == DIALECTS["llama.cpp"].survives_stream


def test_it_publishes_metrics(server: Server) -> None:
    before = server.metrics()["llamacpp:tokens_predicted_total"]
    complete(server, max_tokens=7, ignore_eos=True)
    assert server.metrics()["llamacpp:tokens_predicted_total"] == before + 7


def test_its_cache_can_be_emptied_and_one_request_can_do_without(server: Server) -> None:
    def cached(**body: object) -> int:
        usage = complete(server, prompt=" the cat" * 40, id_slot=0, **body)["usage"]
        return usage["prompt_tokens_details"]["cached_tokens"]

    cached()
    assert cached() > 70
    assert cached(**dict(DIALECTS["llama.cpp"].prefix_cache_off)) == 0
    assert cached() > 70
    assert server.reset_cache()
    assert cached() == 0


def test_idle_connections_do_not_hold_up_a_request(server: Server) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(40):
            idle = stack.enter_context(socket.create_connection(("127.0.0.1", server._lease.port)))
            idle.sendall(b"GET /health HTTP/1.1\r\nHost: h\r\n\r\n")
            idle.recv(1000)
        with server.client(timeout_s=2) as client:  # an idle connection is kept for 5 s
            assert client.post("/v1/completions", json={"prompt": " a", "max_tokens": 2}).status_code == 200


def test_it_can_be_used_as_a_url(server: Server, tmp_path: Path) -> None:
    pool = ServerPool(tmp_path)
    attached = pool.lease(ServerSpec(engine="url", url=f"{server.url}/v1"))
    assert (attached.model, attached.dialect_name, attached.pid, attached.ready_s) == (
        "forge-tiny",
        "llama.cpp",
        None,
        None,
    )
    assert attached.alive()
    assert attached.metrics()
    assert not attached.reset_cache()
    with pytest.raises(EngineError, match="a URL cannot be restarted"):
        pool.restart()
    pool.close()
    assert server.alive()
    assert not attached.alive()


def test_stop_leaves_no_process_and_a_free_port(tmp_path: Path) -> None:
    pool = ServerPool(tmp_path)
    running = pool.lease(PLAIN)
    pids, port = running.pids, running._lease.port
    assert running.pid in pids
    pool.close()
    assert not any(map(psutil.pid_exists, pids))
    assert ports.is_free(port)
    assert not running.alive()


def test_a_crash_is_seen_and_the_next_lease_boots_again(tmp_path: Path) -> None:
    pool = ServerPool(tmp_path)
    first = pool.lease(PLAIN)
    assert pool.lease(PLAIN) is first
    os.kill(first.pid, signal.SIGKILL)
    first._process.wait(10)
    assert "llama.cpp was killed by SIGKILL" in first.exit_report()
    second = pool.lease(PLAIN)
    assert second.log == tmp_path / "llama.cpp-2.log"
    assert complete(second)["usage"]["completion_tokens"] == 4
    pool.close()


def test_a_corrupt_model_shows_llama_cpps_own_words(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(forge_tiny.path().read_bytes()[:100_000])
    with pytest.raises(EngineError, match=r"llama\.cpp ended while booting") as caught:
        boot(ServerSpec(engine="llama.cpp", model=str(broken)), run_dir=tmp_path)
    assert "ended with exit code 1 after" in str(caught.value.seen)
    assert "model is corrupted or incomplete" in caught.value.log_tail
    assert caught.value.log_path == str(tmp_path / "llama.cpp-1.log")


def test_a_missing_model_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="GGUF files"):
        boot(ServerSpec(engine="llama.cpp", model=str(tmp_path / "missing.gguf")), run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_parameter_that_this_build_does_not_have_is_named_with_the_version(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="ended while booting") as caught:
        boot(ServerSpec(engine="llama.cpp", args=("no_such_thing=1",)), run_dir=tmp_path)
    assert "ended with exit code 2" in str(caught.value.seen)
    assert "does not take no_such_thing = 1" in caught.value.log_tail


def test_a_taken_port_is_refused_with_its_holder(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        with pytest.raises(EngineError, match=f"port {port} on 127.0.0.1 is taken") as caught:
            boot(ServerSpec(engine="llama.cpp", port=port), run_dir=tmp_path)
    assert f"process {os.getpid()} (" in str(caught.value.seen)


class AlwaysHealthy(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


def test_an_answer_from_somebody_else_on_our_port_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ports, "is_free", lambda _: True)  # the port is snatched right after the check
    with HTTPServer(("127.0.0.1", 0), AlwaysHealthy) as stranger:
        threading.Thread(target=stranger.serve_forever, daemon=True).start()
        with pytest.raises(EngineError, match=r"answered by another process|ended while booting"):
            boot(ServerSpec(engine="llama.cpp", port=stranger.server_port), run_dir=tmp_path)
        stranger.shutdown()


def test_a_key_guards_the_server_and_is_written_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_API_KEY", "s3cr3t-value")
    running = boot(
        ServerSpec(engine="llama.cpp", api_key_env="SOME_API_KEY", settings=pairs({"seed": 1})),
        run_dir=tmp_path,
    )
    try:
        assert complete(running)["usage"]["completion_tokens"] == 4
        assert running.metrics()
        monkeypatch.delenv("SOME_API_KEY")
        with running.client() as stranger:
            assert stranger.post("/v1/completions", json={"prompt": " a"}).status_code == 401
        with pytest.raises(EngineError, match="wants an API key"):
            boot(ServerSpec(engine="url", url=running.url), run_dir=tmp_path)
        shown = repr(running) + repr(running.spec) + " ".join(psutil.Process(running.pid).cmdline())
        written = "".join(file.read_text() for file in tmp_path.rglob("*") if file.is_file())
        assert "s3cr3t-value" not in shown + written
    finally:
        running.stop()
