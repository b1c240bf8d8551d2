"""What each engine's server is asked, and how its answers are read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from pytest_inferforge import engines
from pytest_inferforge.dialects import DIALECTS
from pytest_inferforge.errors import EngineError
from pytest_inferforge.servers.spec import ServerSpec

if TYPE_CHECKING:
    from collections.abc import Callable

    Answering = Callable[..., httpx.Client]

PROBES = {
    "llama.cpp": "/health",
    "llama-server": "/health",
    "vllm": "/health",
    "sglang": "/ready",
    "tensorrt-llm": "/health",
    "tgi": "/health",
    "transformers": "/health",
    "lmdeploy": "/health",
    "ollama": "/api/version",
}
LOADING = ("llama.cpp", "llama-server", "sglang", "tensorrt-llm", "tgi", "lmdeploy", "ollama")
# Source: vLLM 0.32.0, a scrape of its server.
VLLM_METRICS = """\
# HELP vllm:cache_config_info Information of the LLMEngine CacheConfig
# TYPE vllm:cache_config_info gauge
vllm:cache_config_info{block_size="128",cache_dtype="auto",enable_prefix_caching="True",\
engine="0",num_gpu_blocks="512"} 1.0
vllm:num_requests_running{engine="0",model_name="m"} 0.0
"""
# Source: llama.cpp tools/server at 0c1e57098, GET /props, shortened.
PROPS = {
    "build_info": "b9999-0c1e57098",
    "model_ftype": "Q8_0",
    "total_slots": 2,
    "default_generation_settings": {"n_ctx": 4096, "params": {}},
}
# Source: text-generation-inference v3.3.7, GET /info, shortened.
TGI_INFO = {
    "model_id": "m",
    "model_sha": "abc",
    "max_concurrent_requests": 128,
    "max_input_tokens": None,
    "version": "3.3.7",
    "sha": "db931fcf0123456789",
    "docker_label": "sha-db931fc",
}


@pytest.mark.parametrize(("engine", "path"), PROBES.items())
def test_a_server_that_answers_its_probe_is_ready(engine: str, path: str, answering: Answering) -> None:
    seen: list[str] = []
    assert engines.engine(engine).ready(answering({f"GET {path}": 200}, seen)) is None
    assert seen == [f"GET {path}"]  # nothing is asked that costs a token


@pytest.mark.parametrize("engine", LOADING)
def test_a_server_that_loads_is_waited_for(engine: str, answering: Answering) -> None:
    path = PROBES[engine]
    assert engines.engine(engine).ready(answering({f"GET {path}": 503})) == f"GET {path} -> 503"


@pytest.mark.parametrize("engine", PROBES)
def test_another_answer_is_not_ready_and_is_shown(engine: str, answering: Answering) -> None:
    assert engines.engine(engine).ready(answering({})) == f"GET {PROBES[engine]} -> 404"


@pytest.mark.parametrize(("engine", "what"), [("vllm", "engine died"), ("transformers", "gave up")])
def test_a_server_that_listens_late_and_says_503_is_dead(
    engine: str, what: str, answering: Answering
) -> None:
    with pytest.raises(EngineError, match=what) as caught:
        engines.engine(engine).ready(answering({"GET /health": (503, "cb_worker_dead")}))
    assert "GET /health -> 503" in str(caught.value.seen)


@pytest.mark.parametrize("engine", [*PROBES, "url", "custom", "anthropic"])
def test_a_refused_connection_is_left_to_whoever_waits(engine: str, answering: Answering) -> None:
    refused = httpx.ConnectError("Connection refused")
    answers = {f"GET {path}": refused for path in ("/health", "/ready", "/api/version", "/v1/models")}
    with pytest.raises(httpx.ConnectError):
        engines.engine(engine).ready(answering({**answers, "POST /v1/messages": refused}))


@pytest.mark.parametrize("engine", [*PROBES, "anthropic"])
def test_the_dialect_is_the_engines_own(engine: str, answering: Answering) -> None:
    spec = ServerSpec(engine=engine, model="m")
    expected = "llama.cpp" if engine == "llama-server" else engine
    assert engines.engine(engine).dialect(spec, answering({})) == expected
    assert expected in DIALECTS


# -- versions


@pytest.mark.parametrize(
    ("engine", "answers", "version"),
    [
        ("vllm", {"GET /version": (200, {"version": "0.32.0"})}, "0.32.0"),
        ("sglang", {"GET /server_info": (200, {"version": "0.5.23"})}, "0.5.23"),
        ("sglang", {"GET /server_info": (200, {})}, None),
        ("tensorrt-llm", {"GET /version": (200, {"version": "1.2.1"})}, "1.2.1"),
        ("tensorrt-llm", {}, None),
        ("tgi", {"GET /info": (200, TGI_INFO)}, "3.3.7 (db931fcf)"),
        ("tgi", {"GET /info": (200, {"version": "3.3.7", "sha": None})}, "3.3.7"),
        ("tgi", {"GET /info": (200, {})}, None),
        ("transformers", {}, None),
        ("lmdeploy", {}, None),
        ("ollama", {"GET /api/version": (200, {"version": "0.33.0"})}, "0.33.0"),
        ("llama-server", {"GET /props": (200, PROPS)}, "b9999-0c1e57098"),
        ("llama-server", {"GET /props": (200, {})}, None),
        ("custom", {"GET /version": (200, {"version": "1"})}, "1"),
        ("custom", {"GET /version": (200, "<html>")}, None),
        ("custom", {"GET /version": (200, ["1"])}, None),
        ("anthropic", {}, None),
    ],
)
def test_versions(engine: str, answers: dict[str, object], version: str | None, answering: Answering) -> None:
    assert engines.engine(engine).version(answering(answers)) == version


def test_the_embedded_llama_cpp_is_known_by_its_wheel(answering: Answering) -> None:
    pytest.importorskip("xllamacpp")
    said = engines.engine("llama.cpp").version(answering({"GET /props": (200, PROPS)}))
    assert str(said).startswith("xllamacpp 2")
    assert str(said).endswith(" (b9999-0c1e57098)")


@pytest.mark.parametrize("engine", ["vllm", "sglang", "tgi", "ollama", "llama-server"])
def test_a_version_that_has_to_be_there_and_is_not_is_an_error(engine: str, answering: Answering) -> None:
    with pytest.raises(httpx.HTTPStatusError):
        engines.engine(engine).version(answering({}))


# -- facts


@pytest.mark.parametrize(
    ("engine", "answers", "facts"),
    [
        (
            "vllm",
            {
                "GET /v1/models": (200, {"data": [{"id": "m", "max_model_len": 4096}]}),
                "GET /metrics": (200, VLLM_METRICS),
            },
            {
                "max_model_len": "4096",
                "block_size": "128",
                "cache_dtype": "auto",
                "enable_prefix_caching": "True",
                "num_gpu_blocks": "512",
            },
        ),
        ("vllm", {"GET /v1/models": (200, {"data": [{"id": "m"}]})}, {}),
        (
            "sglang",
            {
                "GET /server_info": (
                    200,
                    {"attention_backend": "fa3", "page_size": 1, "sampling_backend": None, "port": 30000},
                )
            },
            {"attention_backend": "fa3", "page_size": "1"},
        ),
        (
            "tensorrt-llm",
            {"GET /server_info": (200, {"backend": "pytorch", "max_batch_size": 8, "kv": {}})},
            {"backend": "pytorch", "max_batch_size": "8"},
        ),
        ("tensorrt-llm", {}, {}),
        ("tgi", {"GET /info": (200, TGI_INFO)}, {"model_sha": "abc", "max_concurrent_requests": "128"}),
        ("transformers", {}, {}),
        (
            "lmdeploy",
            {"GET /v1/models": (200, {"data": [{"owned_by": "lmdeploy"}]})},
            {"owned_by": "lmdeploy"},
        ),
        (
            "ollama",
            {
                "GET /api/ps": (
                    200,
                    {"models": [{"digest": "365c", "details": {"quantization_level": "Q4_K_M"}}]},
                )
            },
            {"model_ftype": "Q4_K_M", "digest": "365c"},
        ),
        ("ollama", {"GET /api/ps": (200, {"models": []})}, {}),
        ("ollama", {"GET /api/ps": (200, {"models": None})}, {}),
        (
            "llama-server",
            {"GET /props": (200, PROPS)},
            {"build_info": "b9999-0c1e57098", "model_ftype": "Q8_0", "slots": "2", "n_ctx": "4096"},
        ),
        ("llama-server", {"GET /props": (200, {"total_slots": 1})}, {"slots": "1"}),
    ],
)
def test_facts_are_what_the_server_says_and_nothing_else(
    engine: str, answers: dict[str, object], facts: dict[str, str], answering: Answering
) -> None:
    assert engines.engine(engine).facts(answering(answers)) == facts


# -- forgetting prefixes


@pytest.mark.parametrize(
    ("engine", "path"), [("vllm", "POST /reset_prefix_cache"), ("sglang", "POST /flush_cache")]
)
def test_a_cache_is_emptied_where_the_server_lets_us(engine: str, path: str, answering: Answering) -> None:
    seen: list[str] = []
    assert engines.engine(engine).reset_cache(answering({path: 200}, seen)) is True
    assert seen == [path]
    assert engines.engine(engine).reset_cache(answering({})) is False


def test_llama_cpp_forgets_slot_by_slot(answering: Answering) -> None:
    erased = {f"POST /slots/{slot}?action=erase": 200 for slot in (0, 1)}
    seen: list[str] = []
    client = answering({"GET /props": (200, PROPS), **erased}, seen)
    assert engines.engine("llama-server").reset_cache(client) is True
    assert seen[1:] == list(erased)
    busy = answering({"GET /props": (200, PROPS), "POST /slots/0?action=erase": 200})
    assert engines.engine("llama-server").reset_cache(busy) is False


@pytest.mark.parametrize(
    ("engine", "forgets"),
    [
        ("tensorrt-llm", False),
        ("tgi", False),
        ("lmdeploy", False),
        ("ollama", False),
        ("custom", False),
        ("anthropic", False),
        ("transformers", True),  # it keeps none
    ],
)
def test_others_are_not_even_asked(engine: str, forgets: bool, answering: Answering) -> None:
    seen: list[str] = []
    assert engines.engine(engine).reset_cache(answering({}, seen)) is forgets
    assert seen == []


# -- a server that speaks the Messages API


@pytest.mark.parametrize("status", [200, 400, 422, 500])
def test_an_answer_about_an_empty_message_shows_that_the_route_is_there(
    status: int, answering: Answering
) -> None:
    seen: list[str] = []
    assert engines.engine("anthropic").ready(answering({"POST /v1/messages": status}, seen)) is None
    assert seen == ["POST /v1/messages"]


def test_messages_that_cannot_be_sent_are_told_apart(answering: Answering) -> None:
    anthropic = engines.engine("anthropic")
    assert anthropic.ready(answering({"POST /v1/messages": 502})) == "POST /v1/messages -> 502"
    with pytest.raises(EngineError, match="does not speak the Messages API"):
        anthropic.ready(answering({}))
    for status in (401, 403):
        with pytest.raises(EngineError, match="wants an API key, or another one") as caught:
            anthropic.ready(answering({"POST /v1/messages": status}))
        assert caught.value.seen == f"POST /v1/messages -> {status}"
