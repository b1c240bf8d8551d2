from __future__ import annotations

import os
import signal
from types import SimpleNamespace
from typing import TYPE_CHECKING

import httpx
import pytest

from pytest_inferforge.errors import EngineError
from pytest_inferforge.servers import server as server_module
from pytest_inferforge.servers.server import Server, exit_words, parse_metrics
from pytest_inferforge.servers.spec import ServerSpec

if TYPE_CHECKING:
    from pathlib import Path


class Clock:
    """Stands still, unless somebody sleeps."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


class StubProcess:
    def __init__(self, code: int | None = None) -> None:
        self.pid = os.getpid()
        self.code = code

    def poll(self) -> int | None:
        return self.code

    def descendants(self) -> tuple[int, ...]:
        return (self.pid,)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(server_module.time, "sleep", made.sleep)
    return made


def running(
    clock: Clock, *, ready_at_s: float = 0.0, process: StubProcess | None = None, **fields: object
) -> Server:
    """A server that can be used from `ready_at_s` on; before, connections are refused."""

    def ready(_: httpx.Client) -> str | None:
        if clock.now_s < ready_at_s:
            raise httpx.ConnectError("refused")
        return None

    fields.setdefault("engine", "vllm" if process else "url")
    return Server(
        ServerSpec(**fields),  # type: ignore[arg-type]
        SimpleNamespace(ready=ready),  # type: ignore[arg-type]
        url="http://127.0.0.1:1",
        number=1,
        clock=clock,
        process=process,  # type: ignore[arg-type]
    )


def test_a_server_that_answers_is_used_again(clock: Clock) -> None:
    server = running(clock, process=StubProcess())
    assert server.answers()
    assert server.alive()
    assert clock.now_s == 0


@pytest.mark.parametrize("process", [StubProcess(), None])
def test_a_pause_is_outlived(process: StubProcess | None, clock: Clock) -> None:
    server = running(clock, ready_at_s=8, process=process)
    assert server.answers()
    assert server.alive()
    assert 8 <= clock.now_s < 9


@pytest.mark.parametrize("process", [StubProcess(), None])
def test_a_server_that_does_not_answer_is_never_used_again(process: StubProcess | None, clock: Clock) -> None:
    server = running(clock, ready_at_s=16, process=process)
    assert not server.answers()
    assert 15 <= clock.now_s < 16
    clock.now_s = 20
    assert not server.alive()  # though its process runs, and it would answer now


def test_a_server_that_has_ended_is_not_waited_for(clock: Clock) -> None:
    server = running(clock, ready_at_s=99, process=StubProcess(-9))
    assert not server.answers()
    assert clock.now_s == 0


def test_a_url_lives_as_long_as_it_answers(clock: Clock) -> None:
    server = running(clock, ready_at_s=5)
    assert not server.alive()
    clock.now_s = 5
    assert server.alive()
    server.stop()
    assert not server.alive()


def test_what_runs_in_a_container_cannot_be_seen_from_here(clock: Clock) -> None:
    plain = running(clock, process=StubProcess())
    assert plain.pids == (os.getpid(),)
    assert (plain.memory_bytes() or 0) > 1_000_000
    contained = running(clock, process=StubProcess(), image="some/image")
    assert contained.pids == ()
    assert contained.memory_bytes() is None
    assert running(clock).memory_bytes() is None


def test_an_end_is_told_with_its_time(clock: Clock) -> None:
    process = StubProcess()
    server = running(clock, process=process)
    assert server.exit_report() == f"vllm runs (process {os.getpid()})"
    clock.now_s, process.code = 12.34, -9
    assert server.exit_report() == "vllm was killed by SIGKILL, seen 12.3 s after its start"
    assert running(clock).exit_report() == "url http://127.0.0.1:1 was not started here"


def test_no_secret_is_in_the_end_of_a_log(
    clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_OWN", "key-hunter22")
    monkeypatch.setenv("SOME_TOKEN", "token-hunter22")
    env = (("OTHER_TOKEN", "other-hunter22"), ("LEVEL", "verbose"))
    server = running(clock, process=StubProcess(), api_key_env="MY_OWN", env=env)
    server.log = tmp_path / "log"
    server.log.write_text("key-hunter22 token-hunter22 other-hunter22 verbose")
    assert server.log_tail() == "[redacted] [redacted] [redacted] verbose"
    assert "hunter22" not in repr(server)
    assert server.api_key == "key-hunter22"


@pytest.mark.parametrize(
    ("metrics", "said"),
    [
        ({"process_start_time_seconds": 1763700000.25}, "1763700000.2"),
        ({"other": 1.0}, None),
        (EngineError("it publishes none"), None),
        (ValueError("no exposition"), None),
    ],
)
def test_one_start_of_a_server_behind_a_url_is_told_from_another(
    metrics: dict[str, float] | Exception, said: str | None, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = running(clock)

    def scrape() -> dict[str, float]:
        if isinstance(metrics, Exception):
            raise metrics
        return metrics

    monkeypatch.setattr(server, "metrics", scrape)
    assert server.started_at() == said


def test_samples_are_named_with_their_labels_in_order() -> None:
    text = """\
# HELP vllm:num_requests_running Number of requests.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{model_name="m",engine="0"} 2.0
# TYPE llamacpp:tokens_predicted_total counter
llamacpp:tokens_predicted_total 3336
# TYPE t_seconds histogram
t_seconds_bucket{le="0.1"} 1
t_seconds_bucket{le="+Inf"} 2
t_seconds_sum 0.5
t_seconds_count 2
"""
    assert parse_metrics(text) == {
        'vllm:num_requests_running{engine="0",model_name="m"}': 2.0,
        "llamacpp:tokens_predicted_total": 3336.0,
        't_seconds_bucket{le="0.1"}': 1.0,
        't_seconds_bucket{le="+Inf"}': 2.0,
        "t_seconds_sum": 0.5,
        "t_seconds_count": 2.0,
    }


def test_nothing_scraped_is_no_samples() -> None:
    assert parse_metrics("") == {}


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, "ended with exit code 0"),
        (1, "ended with exit code 1"),
        (-signal.SIGSEGV, "was killed by SIGSEGV"),
        (-250, "was killed by signal 250"),
    ],
)
def test_ends_in_words(code: int, words: str) -> None:
    assert exit_words(code) == words
