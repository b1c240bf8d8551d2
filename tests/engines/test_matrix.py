"""Settings as a matrix on real engines: the effect of each is seen in what the engine says of itself."""

import itertools
import json
import re

TELL_ALL = "verbosity=4"  # else its log is silent about its cache
SUITE = """\
import json, os, re
import pytest

REPEATED = " the cat sat on the mat and the dog ran to the old red house by the river" * 6

{cases}

@pytest.mark.infer_workload(
    arrivals="closed 4", requests=16, prompt_tokens=256, output_tokens=32, prefix_cache=True
)
def test_effect(case, infer_server, infer_run):
    with infer_server.client() as client:
        for _ in range(3):  # equal prompts, which a prefix cache knows
            body = {{"model": infer_server.model, "prompt": REPEATED, "max_tokens": 48, "temperature": 0}}
            assert client.post("/v1/completions", json=body).status_code == 200
    seen = {{
        "case": case,
        "metrics": infer_server.metrics(),
        "log": infer_server.log.read_text(errors="replace"),
        "ok": infer_run.metrics["error_ratio"] == 0,
    }}
    if infer_server.engine == "llama.cpp":
        with infer_server.client() as client:
            seen["slots"] = client.get("/props").json()["total_slots"]
    with open(os.environ["SEEN"], "a") as file:
        file.write(json.dumps(seen) + "\\n")
"""


def measured(suite, backend, matrix, tmp_path, monkeypatch, **more):
    """What each combination's server said, beside the combination; all have the settings `more`."""
    names = list(matrix)
    combinations = [dict(zip(names, values, strict=True)) for values in itertools.product(*matrix.values())]
    given = [{**more, **{k: v for k, v in c.items() if v is not None}} for c in combinations]
    marks = ",\n".join(
        f"    pytest.param({n}, marks=pytest.mark.infer_server(**{settings!r}))"
        for n, settings in enumerate(given)
    )
    cases = f'@pytest.mark.parametrize("case", [\n{marks},\n])'
    suite.write("test_matrix.py", SUITE.format(cases=cases))
    monkeypatch.setenv("SEEN", str(tmp_path / "seen.jsonl"))
    done = suite.run(*backend, timeout_s=900)
    assert done.exit_code == 0, done.output
    lines = (tmp_path / "seen.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines]
    assert len(found) == len(combinations)
    assert all(seen["ok"] for seen in found)
    return [(combinations[seen["case"]], seen) for seen in found]


def total(seen, name):
    """A metric over all its series; None when there is none."""
    values = [value for key, value in seen["metrics"].items() if key.partition("{")[0] == name]
    return sum(values) if values else None


def test_vllm_prefix_caching_and_chunked_prefill(suite, backends, tmp_path, monkeypatch):
    matrix = {"prefix_caching": [True, False], "chunked_prefill": [True, False]}
    for settings, seen in measured(suite, backends("vllm"), matrix, tmp_path, monkeypatch):
        hits = total(seen, "vllm:prefix_cache_hits_total")
        assert (hits > 0) if settings["prefix_caching"] else not hits, settings
        said = re.search(r"enable_chunked_prefill=(True|False)", seen["log"])
        assert said is not None, settings
        assert said[1] == str(settings["chunked_prefill"]), settings


def test_llama_cpp_cache_type_slots_and_speculation(suite, backends, tmp_path, monkeypatch):
    matrix = {
        "kv_cache_dtype": ["f16", "q8_0"],
        "max_num_seqs": [1, 4],
        "speculative": [None, {"method": "ngram", "tokens": 8}],
    }
    for settings, seen in measured(
        suite, backends("llama.cpp"), matrix, tmp_path, monkeypatch, args=[TELL_ALL]
    ):
        assert seen["slots"] == settings["max_num_seqs"]
        drafted = total(seen, "llamacpp:spec_decode_num_draft_tokens_total")
        assert (drafted > 0) if settings["speculative"] else not drafted, settings
        kind = settings["kv_cache_dtype"]
        assert re.search(rf"K \({kind}\)", seen["log"]), settings
