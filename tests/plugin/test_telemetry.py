"""What the server says of itself, beside what the client saw."""

import pytest

pytest.importorskip("xllamacpp", reason="the embedded llama.cpp is not installed (extra llamacpp)")

LLAMA = "--infer-backend=llama.cpp"
TEST = """
import pytest

@pytest.mark.infer_workload(arrivals="closed 4", requests=80, prompt_tokens=48, output_tokens=24)
@pytest.mark.infer_slo("prefill < 5 s", "requests waiting < 1000", "queue < 1 s", {slo})
def test_it(infer_run):
    assert infer_run.metrics["server_memory_bytes"] > 1e6
    assert infer_run.metrics["prefix_hit_ratio"] == 0
"""


def run(suite, slo, *options):
    suite.write("test_t.py", TEST.format(slo=slo))
    return suite.run(LLAMA, *options)


def test_its_numbers_are_in_the_report_the_document_and_slos(suite):
    done = run(suite, '"server memory < 100 GB"')
    assert done.exit_code == 0, done.output
    boot = done.document["tests"][0]["boots"][0]
    assert boot["metrics"]["prefill_s"] > 0
    assert boot["metrics"]["decode_s"] > boot["metrics"]["prefill_s"] / 100
    assert 0 < boot["metrics"]["server_cpu_cores"] < 64
    assert boot["metrics"]["boot_first_token_s"] > boot["metrics"]["ready_s"] == boot["ready_s"]
    assert not [name for name in boot["metrics"] if name.startswith(("gpu_", "energy_", "peak_vram"))]
    verdicts = {slo["text"]: slo["verdict"] for slo in done.document["tests"][0]["slo"]}
    assert verdicts["prefill < 5 s"] == verdicts["server memory < 100 GB"] == "pass"
    assert verdicts["queue < 1 s"] == "inconclusive"  # llama.cpp does not say how long requests wait
    assert "TTFT p50: server says" in done.output
    assert "its first token after" in done.output
    assert "its machine: CPU" in done.output


def test_a_limit_on_what_the_server_says_fails_its_test(suite):
    done = run(suite, '"server memory < 1 MB"')
    assert done.outcomes == {"test_t.py::test_it": "failed"}
    assert "server memory < 1 MB" in done.failures["test_t.py::test_it"]


def test_what_cannot_be_compared_is_not_gated(suite):
    for _ in range(3):
        assert run(suite, '"preemptions <= 5"', "--infer-save=main").exit_code == 0
    done = run(suite, '"preemptions <= 5"', "--infer-compare=main", "--infer-policy=observe")
    assert {c["metric"] for c in done.document["comparisons"]} == {
        "output_tok_per_s", "tpot_s.mean", "prefill_s", "queue_s",
    }  # fmt: skip


def test_a_profile_is_named_or_said_not_to_be_had(suite):
    done = run(suite, '"server memory < 1 MB"', "--infer-profile=on-failure")
    assert "no profile: llama.cpp has no profiler" in done.output
    done = run(suite, '"server memory < 100 GB"', "--infer-profile=on-failure")
    assert "no profile" not in done.output
