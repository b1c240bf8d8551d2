"""Four tests to copy: a chat under Poisson load, a batch job in a closed loop, load by hand, and answers.

Run it on the embedded llama.cpp, which needs no GPU and no download:

    pytest example_suites/quickstart --infer-backend=llama.cpp
"""

import pytest

pytestmark = pytest.mark.infer_server(max_num_seqs=4)


@pytest.mark.infer_workload(
    arrivals="poisson 20 req/s",
    requests=320,
    prompt_tokens="lognormal median=32 sigma=0.4 max=128 min=16",
    output_tokens=12,
    api="chat",
)
@pytest.mark.infer_slo("ttft p99 < 2 s", "tpot p95 < 500 ms", "error rate <= 1 %")
def test_chat(infer_run):
    assert infer_run.metrics["ttft_s.p50"] < 1.0


@pytest.mark.infer_workload(arrivals="closed 8", requests=160, prompt_tokens=64, output_tokens=32)
@pytest.mark.infer_slo(">= 50 tok/s", "e2e p50 < 10 s")
def test_batch(infer_run):
    assert infer_run.requests.counts["output_tokens"].min() == 32


@pytest.mark.asyncio
@pytest.mark.infer_slo("ttft p50 < 1 s")
async def test_by_hand(infer_server, infer_load):
    async with infer_server.async_client() as client:
        answer = await client.post(
            "/v1/completions", json={"model": infer_server.model, "prompt": "once upon a", "max_tokens": 8}
        )
    assert answer.json()["choices"][0]["text"]
    run = await infer_load.go(
        arrivals="constant 20 req/s", requests=40, prompt_tokens="uniform 16..64", output_tokens=8
    )
    assert run.metrics["error_ratio"] == 0.0


@pytest.mark.infer_quality(tasks=["forge_recall", "forge_arithmetic_choice"], limit=100, at_least="35 %")
def test_answers(infer_quality):
    assert infer_quality["forge_recall"] > 0.35
