"""What we write for each setting is what the engine's own parser takes, or its documented options list.

vLLM and transformers are asked as installed, SGLang and LMDeploy by the parsers in their published wheels.
TensorRT-LLM, TGI and llama-server do not come as packages that can be loaded here.
"""

import json
import subprocess
from pathlib import Path

import pytest

from pytest_inferforge import engines
from pytest_inferforge.engines import launching
from pytest_inferforge.engines.installation import Found
from pytest_inferforge.errors import UsageError
from pytest_inferforge.servers.spec import ServerSpec, pairs

PARSE = Path(__file__).parent / "environments" / "parse_argv.py"
VERSIONS = {"vllm": "0.32.0", "sglang": "0.5.23", "lmdeploy": "0.18.0", "transformers": "5.19.0"}
DRAFTS = {
    "ngram": {"method": "ngram", "tokens": 3},
    "draft": {"method": "draft", "model": "m/draft", "tokens": 3},
    "eagle": {"method": "eagle", "model": "m/draft", "tokens": 3},
    "mtp": {"method": "mtp", "tokens": 1},
}
# setting -> values to try; an engine's own choice of words goes before
VALUES = {
    "dtype": ["bfloat16", "float16"],
    "max_model_len": [4096],
    "memory_fraction": [0.5],
    "kv_cache_bytes": [2**31],
    "max_num_seqs": [8],
    "max_num_batched_tokens": [2048],
    "chunked_prefill": [True, False],
    "prefix_caching": [True, False],
    "kv_cache_dtype": ["fp8"],
    "block_size": [32],
    "quantization": ["fp8"],
    "tensor_parallel": [2],
    "pipeline_parallel": [2],
    "data_parallel": [2],
    "expert_parallel": [1, 2],
    "eager": [True, False],
    "seed": [7],
}
OWN = {
    "lmdeploy": {
        "quantization": ["awq", "fp8"], "kv_cache_dtype": ["auto", "int8", "fp8"],
        "runtime": ["pytorch", "turbomind"],
    },
    "transformers": {
        "quantization": ["bnb-4bit"], "continuous_batching": [True, False], "compile": [True, False],
        "device": ["cpu"], "attn_implementation": ["sdpa"],
    },
    "tgi": {"max_concurrent_requests": [512]},
    "llama-server": {
        "kv_cache_dtype": ["q8_0"], "threads": [2], "gpu_layers": ["all"], "chunked_prefill": [True],
    },
}  # fmt: skip


def cases(name):
    """Every setting of an engine with each of its values, one at a time: (title, settings)."""
    found = [("nothing set", {})]
    for setting in engines.engine(name).SETTINGS:
        if setting == "speculative":
            continue
        values = OWN.get(name, {}).get(setting, VALUES.get(setting, ()))
        found += [(f"{setting}={value}", {setting: value}) for value in values]
        assert found[-1][0].startswith(f"{setting}="), f"{name} has {setting}, and no value to try it with"
    for method, draft in DRAFTS.items():
        if "speculative" in engines.engine(name).SETTINGS:
            found.append((f"speculative {method}", {"speculative": draft}))
    return found


def command(name, title, settings, folder):
    """Our arguments and variables for it; None for a way to draft that the engine does not have."""
    module = engines.engine(name)
    spec = ServerSpec(engine=name, model=settings.pop("model", "m/base"), settings=pairs(settings))
    way = module.KIND.ways[-1]  # the module's where there is one: it has no subcommand
    found = Found(way=way, program=("x",), version=VERSIONS.get(name), dists=(name,))
    if "speculative" in title:
        try:
            module.check(spec)
        except UsageError:
            return None
    own = module.arguments(spec, launching.HERE, 8123, folder, found)
    return list(way.argv((), str(spec.model), own.argv)), own.env


@pytest.mark.parametrize("name", ["vllm", "sglang", "lmdeploy", "transformers"])
def test_the_engines_own_parser_takes_every_setting(name, engines_python, unpacked, tmp_path):
    commands = {}
    for title, settings in cases(name):
        if (made := command(name, title, settings, tmp_path)) is not None:
            commands[title] = made[0]
    assert len(commands) > len(engines.engine(name).SETTINGS)
    nonsense = {"nonsense": [*commands["nothing set"], "--no-such-flag-of-anybody"]}
    ran = subprocess.run(
        [engines_python, str(PARSE), name, unpacked(name)],
        input=json.dumps(commands | nonsense),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    told = json.loads(ran.stdout)["complaints"]
    assert told.pop("nonsense") is not None  # it does read what it is given
    assert {title: said for title, said in told.items() if said} == {}


# Source: TensorRT-LLM, tensorrt_llm/commands/serve.py at 00209af, options of `trtllm-serve serve`.
TENSORRT_LLM_OPTIONS = {
    "--tokenizer", "--custom_tokenizer", "--host", "--port", "--backend", "--max_beam_width",
    "--max_batch_size", "--max_num_tokens", "--max_seq_len", "--tp_size", "--pp_size", "--cp_size",
    "--ep_size", "--free_gpu_memory_fraction", "--num_postprocess_workers", "--trust_remote_code",
    "--revision", "--config", "--extra_llm_api_options", "--reasoning_parser", "--tool_parser",
    "--chat_template", "--enable_chunked_prefill", "--otlp_traces_endpoint", "--log_level",
}  # fmt: skip
# Source: TensorRT-LLM API reference, TorchLlmArgs and KvCacheConfig; llm_args.py of the 1.2 line.
TENSORRT_LLM_KEYS = {
    "dtype", "kv_cache_config", "cuda_graph_config", "speculative_config", "return_perf_metrics",
    "kv_cache_config.enable_block_reuse", "kv_cache_config.free_gpu_memory_fraction",
    "kv_cache_config.dtype", "kv_cache_config.tokens_per_block", "speculative_config.decoding_type",
    "speculative_config.max_draft_len", "speculative_config.max_matching_ngram_size",
    "speculative_config.speculative_model", "speculative_config.num_nextn_predict_layers",
}  # fmt: skip
# Source: text-generation-inference, docs/source/reference/launcher.md at 032fc4c (v3.3); the variables
# PREFIX_CACHING and PREFILL_CHUNKING: backends/v3 and launcher/src/main.rs of the same.
TGI_OPTIONS = {
    "--model-id", "--revision", "--validation-workers", "--sharded", "--num-shard", "--quantize",
    "--speculate", "--dtype", "--kv-cache-dtype", "--trust-remote-code", "--max-concurrent-requests",
    "--max-best-of", "--max-input-tokens", "--max-total-tokens", "--waiting-served-ratio",
    "--max-batch-prefill-tokens", "--max-batch-total-tokens", "--max-waiting-tokens",
    "--max-batch-size", "--cuda-graphs", "--hostname", "--port", "--shard-uds-path", "--master-addr",
    "--master-port", "--cuda-memory-fraction", "--json-output", "--usage-stats",
}  # fmt: skip
TGI_VARIABLES = {"PREFIX_CACHING", "PREFILL_CHUNKING", "HF_HUB_OFFLINE"}
# Source: llama.cpp, tools/server/README.md (generated from common/arg.cpp) and tools/server at 0c1e57098.
LLAMA_SERVER_OPTIONS = {
    "--model", "--threads", "--threads-batch", "--ctx-size", "--batch-size", "--ubatch-size",
    "--cache-type-k", "--cache-type-v", "--n-gpu-layers", "--seed", "--host", "--port", "--parallel",
    "--metrics", "--no-webui", "--offline", "--cache-prompt", "--no-cache-prompt", "--cache-ram",
    "--slot-save-path", "--threads-http", "--spec-type", "--model-draft", "--spec-draft-n-max", "--fit",
}  # fmt: skip
DOCUMENTED = {"tensorrt-llm": TENSORRT_LLM_OPTIONS, "tgi": TGI_OPTIONS, "llama-server": LLAMA_SERVER_OPTIONS}


def keys(config, above=""):
    for key, value in config.items():
        yield above + key
        if isinstance(value, dict):
            yield from keys(value, f"{above}{key}.")


@pytest.mark.parametrize("name", DOCUMENTED)
def test_every_setting_is_written_in_documented_options(name, tmp_path):
    tried = 0
    for title, settings in cases(name):
        if (made := command(name, title, settings, tmp_path)) is None:
            continue
        argv, env = made
        tried += 1
        assert {word for word in argv if word.startswith("--")} <= DOCUMENTED[name], title
        if name == "tgi":
            assert set(env) <= TGI_VARIABLES
        if name == "tensorrt-llm":
            written = json.loads((tmp_path / "tensorrt-llm-8123.yaml").read_text())
            assert set(keys(written)) <= TENSORRT_LLM_KEYS, title
    assert tried > len(engines.engine(name).SETTINGS)
