from __future__ import annotations

import inspect
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest

from pytest_inferforge import dialects, engines
from pytest_inferforge.engines.protocol import VOCABULARY, Engine
from pytest_inferforge.errors import UsageError

NAMES = [name for name in [*vars(Engine), *Engine.__annotations__] if not name.startswith("_")]
OWN = {  # settings that one engine alone has
    "llama.cpp": {"threads"},
    "llama-server": {"threads", "gpu_layers"},
    "tgi": {"max_concurrent_requests"},
    "transformers": {"continuous_batching", "compile", "device", "attn_implementation"},
    "lmdeploy": {"runtime"},
    "ollama": {"flash_attention"},
    "custom": {"dialect"},
    "url": {"dialect"},
}


@pytest.fixture(autouse=True)
def _nothing_added(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "_added", {})


def complete(**more: object) -> SimpleNamespace:
    return SimpleNamespace(**{**dict.fromkeys(engines._NAMES), **more})


@pytest.mark.parametrize("name", engines.ENGINES)
def test_every_engine_has_what_the_protocol_lists(name: str) -> None:
    module = engines.engine(name)
    assert {"check", "launch", "STARTS_PROCESS"} <= set(NAMES)
    for wanted in NAMES:
        assert hasattr(module, wanted), wanted
        promised = getattr(Engine, wanted, None)
        if promised is not None:
            assert list(inspect.signature(promised).parameters) == list(
                inspect.signature(getattr(module, wanted)).parameters
            )


def test_what_is_asked_of_an_added_engine_is_what_the_protocol_lists() -> None:
    assert set(engines._NAMES) == set(NAMES)


@pytest.mark.parametrize("name", engines.ENGINES)
def test_settings_are_neutral_or_the_engines_own(name: str) -> None:
    assert set(engines.engine(name).SETTINGS) - set(VOCABULARY) == OWN.get(name, set())


@pytest.mark.parametrize("name", engines.ENGINES)
def test_limits_are_sentences_and_signs_of_compiling_can_be_searched(name: str) -> None:
    module = engines.engine(name)
    assert all(limit[0].islower() and not limit.endswith(".") for limit in module.LIMITS)
    if module.COMPILING is not None:
        assert not re.compile(module.COMPILING).search("INFO: 127.0.0.1 - GET /health HTTP/1.1 200 OK")


@pytest.mark.parametrize("name", ["lama.cpp", "llama-cpp", "Llama.cpp"])
def test_an_unknown_engine_is_refused_with_the_nearest_name(name: str) -> None:
    with pytest.raises(UsageError, match="there is no engine") as caught:
        engines.engine(name)
    assert str(caught.value.do).startswith("did you mean llama.cpp")


def test_a_name_that_is_like_none_is_refused_with_all_names() -> None:
    with pytest.raises(UsageError) as caught:
        engines.engine("zzz")
    assert caught.value.do == f"choose one of {', '.join(engines.ENGINES)}"


def test_an_engine_can_be_added_and_may_take_the_place_of_ours() -> None:
    mine, other = complete(), complete()
    engines.add({"mine": mine, "vllm": other}, source="a hook")
    assert engines.engine("mine") is mine
    assert engines.engine("vllm") is other
    with pytest.raises(UsageError, match="there is no engine 'min'") as caught:
        engines.engine("min")
    assert caught.value.do == "did you mean mine?"


def test_an_engine_that_is_not_complete_is_refused_with_what_it_lacks() -> None:
    lacking = complete()
    del lacking.ready, lacking.LIMITS
    with pytest.raises(UsageError, match="the engine mine is not complete") as caught:
        engines.add({"mine": lacking}, source="a hook")
    assert caught.value.seen == "a hook: it lacks LIMITS, ready"
    assert "pytest_inferforge.engines.protocol.Engine" in str(caught.value.do)
    with pytest.raises(UsageError, match="there is no engine"):
        engines.engine("mine")


@pytest.mark.parametrize("name", ["", "Mine", "my engine", "-mine", "mine/2"])
def test_what_is_no_name_for_an_engine_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="no name for an engine") as caught:
        engines.add({name: complete()}, source="a hook")
    assert caught.value.seen == f"{name!r} from a hook"


def offered(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    point = metadata.EntryPoint(name="offered", value=value, group=engines.ENTRY_POINTS)

    def entry_points(*, group: str) -> list[metadata.EntryPoint]:
        return [point] if group == engines.ENTRY_POINTS else []

    monkeypatch.setattr(metadata, "entry_points", entry_points)


def test_an_entry_point_is_loaded_when_its_engine_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    module = SimpleNamespace(engine=complete())
    monkeypatch.setitem(sys.modules, "somebodys_engine", module)
    offered(monkeypatch, "somebodys_engine:engine")
    assert engines.engine("vllm").__name__ == "pytest_inferforge.engines.vllm"
    assert engines.engine("offered") is module.engine
    with pytest.raises(UsageError) as caught:
        engines.engine("offerd")
    assert caught.value.do == "did you mean offered?"


@pytest.mark.parametrize("value", ["no_such_module", "sys:no_such_name"])
def test_an_entry_point_that_cannot_be_loaded_is_named(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    offered(monkeypatch, value)
    with pytest.raises(UsageError, match="the engine offered cannot be loaded") as caught:
        engines.engine("offered")
    assert str(caught.value.seen).startswith(f"the entry point {value}: ")


def test_an_incomplete_entry_point_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    offered(monkeypatch, "json")
    with pytest.raises(UsageError, match="the engine offered is not complete") as caught:
        engines.engine("offered")
    assert str(caught.value.seen).startswith("the entry point json: it lacks STARTS_PROCESS")


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("vllm serve M --port {port}", "vllm"),
        ("/opt/vllm/bin/vllm serve M --port {port}", "vllm"),
        ("env CUDA_VISIBLE_DEVICES=1 nice -n 5 vllm serve M", "vllm"),
        ("python -m vllm.entrypoints.openai.api_server --model M", "vllm"),
        ("sglang serve --model-path M", "sglang"),
        ("/env/bin/python3 -m sglang.launch_server --model-path M", "sglang"),
        ("trtllm-serve M --port {port}", "tensorrt-llm"),
        ("python -m tensorrt_llm.commands.serve M", "tensorrt-llm"),
        ("./build/bin/llama-server -m F.gguf --port {port}", "llama-server"),
        ("text-generation-launcher --model-id M", "tgi"),
        ("transformers serve M", "transformers"),
        ("lmdeploy serve api_server M", "lmdeploy"),
        ("ollama serve", "ollama"),
        ("./serve --port {port}", "custom"),
        ("docker run vllm/vllm-openai --model M", "custom"),
        ("vllm serve 'M", "custom"),
        ("", "custom"),
    ],
)
def test_an_engine_is_recognised_by_the_words_of_its_command(command: str, name: str) -> None:
    assert engines.recognised(command) == name


def test_specs_and_the_registry_import_the_standard_library_only() -> None:
    code = (
        "import sys; before = set(sys.modules); import pytest_inferforge.servers.spec;"
        "import pytest_inferforge.engines;"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before};"
        "print(sorted(new - set(sys.stdlib_module_names)))"
    )
    root = Path(engines.__file__).parents[2]
    shown = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "['pytest_inferforge']"


@pytest.mark.parametrize(("name", "dialect"), dialects.DIALECTS.items())
def test_dialects_know_their_names_and_can_be_hashed(name: str, dialect: dialects.Dialect) -> None:
    assert dialect.name == name
    hash(dialect)


def test_what_is_no_table_of_engines_is_refused() -> None:
    with pytest.raises(UsageError) as caught:
        engines.add(["house"], source="the hook")  # type: ignore[arg-type]
    assert caught.value.seen == "['house'] from the hook"
