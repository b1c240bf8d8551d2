"""Loads that one rate and one length do not describe: see README.md beside this file."""

import pytest

pytestmark = pytest.mark.infer_server(max_num_seqs=4, prefix_caching=True)


@pytest.mark.infer_workload(
    duration="3 s",
    classes={
        "chat": {"arrivals": "poisson 16 req/s", "api": "chat", "prompt_tokens": "uniform 24..48"},
        "batch": {"arrivals": "closed 2", "prompt_tokens": 128},
    },
    output_tokens=16,
)
@pytest.mark.infer_slo("chat: ttft p90 < 1 s", "batch: >= 20 tok/s")
def test_chat_beside_batch(infer_run):
    chat, batch = infer_run.of("chat"), infer_run.of("batch")
    assert len(chat.requests) + len(batch.requests) == len(infer_run.requests)
    assert chat.metrics["ttft_s.p50"] < 1.0


@pytest.mark.infer_workload(
    arrivals="poisson 10 req/s",  # conversations a second
    requests=40,  # turns of all conversations together
    api="chat",
    turns="uniform 2..4",
    think_time="exponential 200 ms",
    prompt_tokens=24,  # what is new in each turn
    output_tokens=16,
)
@pytest.mark.infer_slo("ttft p90 < 1 s")
def test_conversations(infer_run):
    first, second, *_ = infer_run.by_turn("ttft_s.p50")
    assert first < 1.0
    assert second < 1.0
    counts = infer_run.requests.counts
    assert (counts["prompt_tokens"][counts["turn"] > 0] > 24 + 16).all()  # the history is sent along


@pytest.mark.infer_workload(
    arrivals="poisson 16 req/s",
    requests=32,
    shared_prefix="2 x 192 tokens, 75 %",
    prompt_tokens=224,
    output_tokens=16,
)
@pytest.mark.infer_slo("ttft p90 < 1 s")
def test_shared_prefix(infer_run):
    counts = infer_run.requests.counts
    assert (counts["prompt_tokens"] == 224).all()
    assert counts["cached_tokens"].sum() > 0
