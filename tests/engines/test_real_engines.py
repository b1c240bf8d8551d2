"""The same suite on each engine that runs here, booted by the plugin as a user boots it."""

import pytest

SUITE = """\
import pytest

@pytest.mark.infer_workload(
    arrivals="poisson 8 req/s", requests=120,
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
ENGINES = ("llama.cpp", "vllm", "transformers")


@pytest.mark.parametrize("engine", ENGINES)
def test_a_suite_is_green_and_nothing_is_left(engine, backends, suite):
    suite.write("test_suite.py", SUITE)
    done = suite.run(*backends(engine), timeout_s=600)
    assert done.exit_code == 0, done.output
    assert set(done.outcomes.values()) == {"passed"}
    assert suite.running() == []
    chat = done.document["tests"][0]
    assert chat["boots"][0]["ready_s"] > 0
    assert [slo["verdict"] for slo in chat["slo"]][:2] == ["pass", "pass"]
    assert chat["server"]["engine"] == engine
