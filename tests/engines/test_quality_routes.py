"""Log-likelihoods over HTTP against two that are known to be right: lm-eval's own path, and transformers."""

import asyncio
import importlib.util
import json
import subprocess
import sys

import pytest

from pytest_inferforge.dialects import DIALECTS
from pytest_inferforge.engines import forge_tiny
from pytest_inferforge.forge_tiny import folder
from pytest_inferforge.quality.client import Client
from pytest_inferforge.quality.evaluation import Target
from pytest_inferforge.quality.packs import items
from pytest_inferforge.quality.routes import choose
from pytest_inferforge.servers.spec import ServerSpec
from pytest_inferforge.servers.supervisor import boot

PAIRS = [
    (item.prompt, f" {choice}")
    for pack in ("forge_arithmetic", "forge_recall", "forge_grounded")
    for item in items(pack, seed=3, n=8, split="test")
    for choice in item.choices
]
SPACED = ("say the word : ", "cat")  # the space is the continuation's
SPLIT = ("the cat , ", "naïve 日本")  # characters of several tokens

LM_EVAL = """\
import json, sys
from lm_eval.api.instance import Instance
from lm_eval.models.openai_completions import LocalCompletionsAPI
url, model, pairs = json.load(sys.stdin)
lm = LocalCompletionsAPI(base_url=url + "/v1/completions", model=model, tokenizer_backend="remote")
asked = [Instance("loglikelihood", {}, tuple(pair), 0) for pair in pairs]
print(json.dumps(lm.loglikelihood(asked, disable_tqdm=True)))
"""
TRANSFORMERS = """\
import json, sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
folder, pairs = json.load(sys.stdin)
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
found = []
for context, continuation in pairs:
    before, ids = tokenizer(context)["input_ids"], tokenizer(context + continuation)["input_ids"]
    assert ids[:len(before)] == before
    with torch.no_grad():
        logprobs = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    found.append(sum(logprobs[k - 1, ids[k]].item() for k in range(len(before), len(ids))))
print(json.dumps(found))
"""


def printed(python, code, given):
    done = subprocess.run(
        [python, "-c", code],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def scores(server, pairs):
    """The route that is chosen, and the score of each pair."""

    async def go():
        target = Target(url=server.url, model=server.model, dialect=server.dialect_name)
        dialect = DIALECTS[server.dialect_name]
        client = Client(target, dialect, key=None, timeout_s=60, retries=0, concurrency=2)
        name, route = await choose(client)
        found = [await route.score(*pair) for pair in pairs]
        await client.close()
        return name, found

    return asyncio.run(go())


@pytest.fixture(scope="module")
def weights():
    """The folder of forge-tiny as transformers reads it."""
    home = folder.WEIGHTS.parent
    if not (home / "config.json").is_file() or not folder.WEIGHTS.is_file():
        pytest.skip(f"forge-tiny has no weights in {home}")
    return home


def test_echo_on_vllm_is_what_lm_eval_finds_and_what_transformers_finds(vllm_python, weights, tmp_path):
    if importlib.util.find_spec("lm_eval") is None or importlib.util.find_spec("tenacity") is None:
        pytest.skip("lm-eval is not installed with its HTTP clients: pip install 'lm-eval[api]'")
    spec = ServerSpec(
        engine="vllm",
        model=str(weights),
        python=vllm_python,
        settings=(("dtype", "float32"), ("eager", True), ("max_model_len", 2048)),
        args=("--enable-tokenizer-info-endpoint",),
        env=(("OMP_NUM_THREADS", "1"), ("VLLM_CPU_OMP_THREADS_BIND", "nobind")),
    )
    server = boot(spec, run_dir=tmp_path / "run")
    try:
        pairs = [*PAIRS, SPACED, SPLIT]
        name, ours = scores(server, pairs)
        theirs = printed(sys.executable, LM_EVAL, [server.url, server.model, pairs])
    finally:
        server.stop()
    assert name == "echo"
    for pair, score, (logprob, greedy) in zip(pairs, ours, theirs, strict=True):
        assert score.logprob == pytest.approx(logprob, abs=1e-4, rel=0), pair
        assert score.greedy == greedy, pair
    exact = printed(vllm_python, TRANSFORMERS, [str(weights), PAIRS])
    assert [score.logprob for score in ours[: len(PAIRS)]] == pytest.approx(exact, abs=1e-3, rel=0)


def as_float32(source, target):
    """A GGUF file with the same weights in float32, so that no product is rounded."""
    import gguf
    import numpy as np

    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, "llama")
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name == "general.architecture":
            continue
        kind = field.types[0]
        value = field.contents()
        if field.name == "general.file_type":
            value = int(gguf.LlamaFileType.ALL_F32)
        inner = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, value, kind, sub_type=inner)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, np.asarray(tensor.data, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_token_by_token_on_llamacpp_is_what_transformers_finds(vllm_python, weights, tmp_path):
    for package in ("xllamacpp", "gguf"):
        pytest.importorskip(package, reason=f"the embedded llama.cpp needs {package} (extra llamacpp)")
    exact = printed(vllm_python, TRANSFORMERS, [str(weights), PAIRS])
    model = tmp_path / "forge-tiny-f32.gguf"
    as_float32(forge_tiny.path(), model)
    # llama.cpp's own defaults round: products of float16 weights, and what attention keeps (see below).
    plain = ServerSpec(
        engine="llama.cpp",
        model=str(model),
        settings=(("kv_cache_dtype", "f32"),),
        args=('flash_attn_type="LLAMA_FLASH_ATTN_TYPE_DISABLED"',),
    )
    for spec, apart in ((plain, 1e-2), (ServerSpec(engine="llama.cpp"), 0.2)):
        server = boot(spec, run_dir=tmp_path / f"run-{apart}")
        try:
            name, ours = scores(server, PAIRS)
        finally:
            server.stop()
        assert name == "teacher_forced"
        assert [score.logprob for score in ours] == pytest.approx(exact, abs=apart, rel=0)
