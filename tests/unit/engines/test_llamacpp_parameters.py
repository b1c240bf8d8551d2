from __future__ import annotations

import enum
import json
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from pytest_inferforge.engines import llamacpp
from pytest_inferforge.engines.llamacpp_runner import assign
from pytest_inferforge.errors import EngineError, UsageError
from pytest_inferforge.servers.spec import ServerSpec, pairs

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("xllamacpp")
pytest.importorskip("gguf")


def spec(model: str | None = None, args: tuple[str, ...] = (), **settings: object) -> ServerSpec:
    return ServerSpec(engine="llama.cpp", model=model, args=args, settings=pairs(settings))


def launched(
    asked: ServerSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[dict[str, Any], Any]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    llamacpp.check(asked)
    launch = llamacpp.launch(asked, 20_001, tmp_path)
    return json.loads((tmp_path / "llama.cpp-20001.json").read_text())["parameters"], launch


def test_the_context_is_asked_for_all_slots_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parameters, _ = launched(spec(max_model_len=1000, max_num_seqs=3), tmp_path, monkeypatch)
    assert (parameters["n_parallel"], parameters["n_ctx"]) == (3, 3000)


def test_caches_are_off_unless_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parameters, _ = launched(spec(), tmp_path, monkeypatch)
    assert (parameters["cache_prompt"], parameters["cache_ram_mib"]) == (False, 0)
    parameters, _ = launched(spec(prefix_caching=True), tmp_path, monkeypatch)
    assert (parameters["cache_prompt"], parameters["cache_ram_mib"]) == (True, 0)


def test_settings_reach_their_parameters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = spec(
        max_num_batched_tokens=64, kv_cache_dtype="q8_0", seed=5, threads=3, args=("n_keep=8", "x=on")
    )
    parameters, launch = launched(asked, tmp_path, monkeypatch)
    assert (parameters["n_batch"], parameters["n_ubatch"]) == (64, 64)
    assert parameters["cache_type_k"] == parameters["cache_type_v"] == "GGML_TYPE_Q8_0"
    assert parameters["sampling.seed"] == 5
    assert parameters["cpuparams.n_threads"] == parameters["cpuparams_batch.n_threads"] == 3
    assert (parameters["n_keep"], parameters["x"]) == (8, "on")
    assert dict(launch.facts)["threads"] == "3"
    assert launch.model == "forge-tiny"
    assert launch.argv[0] == sys.executable


def test_a_file_is_known_by_its_name_and_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tmp_path / "some-model.gguf"
    model.write_bytes(b"abc")
    parameters, launch = launched(spec(str(model)), tmp_path, monkeypatch)
    assert parameters["model.path"] == str(model)
    assert launch.model == "some-model"
    # Source: FIPS 180-2, appendix B.1
    assert (
        dict(launch.facts)["model_sha256"]
        == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"tensor_parallel": 2}, "has no setting 'tensor_parallel'"),
        ({"max_num_seqs": 0}, "cannot take this max_num_seqs"),
        ({"kv_cache_dtype": "fp8"}, "cannot take this kv_cache_dtype"),
        ({"max_model_len": 8193}, "cannot take this max_model_len"),
    ],
)
def test_what_it_cannot_do_is_refused(settings: dict[str, object], what: str) -> None:
    with pytest.raises(UsageError, match=what):
        llamacpp.check(spec(**settings))


def test_a_model_that_is_no_file_is_refused() -> None:
    with pytest.raises(UsageError, match="GGUF files") as caught:
        llamacpp.check(spec("meta-llama/Llama-3.1-8B-Instruct"))
    assert caught.value.seen == "meta-llama/Llama-3.1-8B-Instruct: no such file"


def test_a_command_line_flag_is_refused() -> None:
    with pytest.raises(UsageError, match="no command line"):
        llamacpp.check(spec(args=("--ctx-size", "4096")))


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    llamacpp.check(spec())  # said when it is needed, so that tests of other servers go on
    with pytest.raises(EngineError, match="not installed") as caught:
        llamacpp.launch(spec(), 1, tmp_path)
    assert caught.value.do == "pip install 'pytest-inferforge[llamacpp]'"


def test_a_key_that_is_not_set_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOME_KEY", raising=False)
    with pytest.raises(UsageError, match="API key is not set"):
        llamacpp.check(ServerSpec(engine="llama.cpp", api_key_env="SOME_KEY"))


class Colour(enum.IntEnum):
    RED = 1
    BLUE = 2


def test_the_runner_assigns_in_the_type_that_is_there() -> None:
    target = SimpleNamespace(plain=1, colour=Colour.RED, names=set(), inner=SimpleNamespace(plain=1))
    for name, value in {"plain": 2, "inner.plain": 3, "colour": "BLUE", "names": "a"}.items():
        assign(target, name, value)
    assert (target.plain, target.inner.plain, target.colour, target.names) == (2, 3, Colour.BLUE, {"a"})
    for name, value in {"missing": 1, "inner.missing": 1, "colour": "GREEN"}.items():
        with pytest.raises((AttributeError, KeyError)):
            assign(target, name, value)
