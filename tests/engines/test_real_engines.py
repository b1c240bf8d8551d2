"""The same suite on each engine that runs here, booted by the plugin as a user boots it."""

import re
from pathlib import Path

import pytest

from pytest_inferforge.servers.spec import ServerSpec
from pytest_inferforge.servers.supervisor import boot

SUITE = """\
import pytest

@pytest.mark.infer_workload(
    arrivals="poisson 5 req/s", requests=80,
    prompt_tokens="lognormal median=32 sigma=0.4 min=16 max=128", output_tokens=12, api="chat",
)
@pytest.mark.infer_slo("ttft p90 < 5 s", "tpot p90 < 1 s")
def test_chat(infer_run):
    assert infer_run.metrics["output_tok_per_s"] > 0

@pytest.mark.infer_workload(arrivals="closed 2", requests=60, prompt_tokens=48, output_tokens=16)
def test_batch(infer_run):
    assert infer_run.metrics["error_ratio"] == 0
    assert (infer_run.requests.counts["output_tokens"] == 16).all()

@pytest.mark.asyncio
async def test_by_hand(infer_server, infer_load):
    assert infer_server.ready_s > 0 and infer_server.first_token_s >= infer_server.ready_s
    run = await infer_load.go(arrivals="constant 5 req/s", requests=10, prompt_tokens=24, output_tokens=4)
    assert run.metrics["error_ratio"] == 0
"""
MESSAGES = """\
def test_chat(infer_load):
    run = infer_load(arrivals="closed 2", requests=40, prompt_tokens=24, output_tokens=8, api="chat")
    assert run.metrics["error_ratio"] == 0
    assert (run.requests.counts["prompt_tokens"] == 24).all()

def test_completions(infer_load):
    infer_load(arrivals="closed 2", requests=4, prompt_tokens=24, output_tokens=8)
"""
ENGINES = ("llama.cpp", "vllm", "transformers")


@pytest.mark.parametrize("engine", ENGINES)
def test_a_suite_is_green_and_nothing_is_left(engine, backends, suite):
    suite.write("test_suite.py", SUITE)
    done = suite.run(*backends(engine), "--infer-profile=always", timeout_s=600)
    assert done.exit_code == 0, done.output
    assert set(done.outcomes.values()) == {"passed"}
    assert suite.running() == []
    chat = done.document["tests"][0]
    assert chat["boots"][0]["ready_s"] > 0
    assert [slo["verdict"] for slo in chat["slo"]][:2] == ["pass", "pass"]
    assert chat["server"]["engine"] == engine
    if engine == "vllm":  # its own profiler wrote what the report names
        traces = re.findall(r"profile: (\S+\.pt\.trace\.json\.gz)", done.output)
        assert traces
        assert all(Path(trace).stat().st_size > 0 for trace in traces)
    else:
        assert f"no profile: {engine} has no profiler" in done.output


def test_the_messages_api_of_a_server_that_runs(suite, tmp_path):
    running = boot(ServerSpec(engine="llama.cpp"), run_dir=tmp_path / "server")
    try:
        suite.write("test_suite.py", MESSAGES)
        done = suite.run(
            "--infer-backend=anthropic", f"--infer-url={running.url}", "--infer-model=forge-tiny"
        )
    finally:
        running.stop()
    assert done.outcomes == {
        "test_suite.py::test_chat": "passed",
        "test_suite.py::test_completions": "failed",
    }, done.output
    assert "the server offers no completions" in done.failures["test_suite.py::test_completions"]
