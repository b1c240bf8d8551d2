from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_inferforge import engines
from pytest_inferforge.engines import installation, launching
from pytest_inferforge.engines.installation import Found
from pytest_inferforge.errors import EngineError, UsageError
from pytest_inferforge.servers.spec import ServerSpec, pairs

if TYPE_CHECKING:
    from pytest_inferforge.engines.protocol import Launch

RUN_BY_KIND = ("vllm", "sglang", "tensorrt-llm", "tgi", "transformers", "lmdeploy", "ollama", "llama-server")
PYTHON = "/env/bin/python"


@pytest.fixture(autouse=True)
def _installed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every engine is installed, in an environment that none of these tests looks at."""

    def find(
        spec: ServerSpec, ways: tuple[installation.Way, ...], *, package: str | None, install: str
    ) -> Found:
        python = PYTHON if package else None
        return Found(way=ways[0], program=("/env/bin/program",), version="1.2.3", python=python)

    monkeypatch.setattr(installation, "find", find)


def spec(engine: str = "vllm", **fields: object) -> ServerSpec:
    fields.setdefault("model", "org/model")
    return ServerSpec(engine=engine, settings=pairs(fields.pop("settings", {})), **fields)  # type: ignore[arg-type]


def launched(asked: ServerSpec, tmp_path: Path, port: int = 8123) -> Launch:
    module = engines.engine(asked.engine)
    module.check(asked)
    return module.launch(asked, port, tmp_path)


# -- a command of the user's own


def test_a_command_is_run_verbatim_with_its_places_filled(tmp_path: Path) -> None:
    command = (
        "vllm serve {model} --host={host} --port {port}"
        """ --config '{"method": "ngram", "tokens": {port}0}' '{other} {} {port'"""
    )
    asked = spec(command=command, args=("--raw", "{port}"))
    made = launched(asked, tmp_path)
    assert made.argv == (
        "vllm", "serve", "org/model", "--host=127.0.0.1", "--port", "8123", "--config",
        '{"method": "ngram", "tokens": 81230}', "{other} {} {port", "--raw", "{port}",
    )  # fmt: skip
    assert (made.base_url, made.model, made.env, made.facts) == ("http://127.0.0.1:8123", "org/model", (), ())
    assert (made.fetch, made.cleanup) == (None, ())


@pytest.mark.parametrize("engine", [*RUN_BY_KIND, "custom"])
def test_a_command_without_a_port_is_refused(engine: str) -> None:
    with pytest.raises(UsageError, match="does not say where the port goes") as caught:
        engines.engine(engine).check(spec(engine, command="./serve --port 8000"))
    assert caught.value.seen == "./serve --port 8000"
    assert "{port}" in str(caught.value.do)


def test_a_command_with_bad_quotes_is_refused() -> None:
    with pytest.raises(UsageError, match="the command cannot be read") as caught:
        engines.engine("vllm").check(spec(command="vllm serve 'M --port {port}"))
    assert caught.value.do == "mend its quotes"


def test_a_command_that_asks_for_a_model_needs_one() -> None:
    with pytest.raises(UsageError, match="the command asks for a model"):
        engines.engine("vllm").check(spec(model=None, command="vllm serve {model} --port {port}"))
    engines.engine("vllm").check(spec(model=None, command="vllm serve M --port {port}"))


def test_settings_are_not_written_into_a_command() -> None:
    asked = spec(command="vllm serve M --port {port}", settings={"max_num_seqs": 8, "eager": True})
    with pytest.raises(UsageError, match="settings are not written into a command") as caught:
        engines.engine("vllm").check(asked)
    assert caught.value.seen == "eager=True, max_num_seqs=8"


@pytest.mark.parametrize("engine", [*RUN_BY_KIND, "custom"])
@pytest.mark.parametrize(
    "fields",
    [
        {"command": "x {port}", "image": "i"},
        {"command": "x {port}", "python": "p"},
        {"image": "i", "python": "p", "args": ("{port}",)},
    ],
)
def test_two_ways_at_once_are_refused(engine: str, fields: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="in one way only") as caught:
        engines.engine(engine).check(spec(engine, **fields))
    assert " and " in str(caught.value.seen)


# -- a server of the user's own


def test_a_server_of_ones_own_needs_its_command() -> None:
    for fields in ({}, {"python": "python3"}):
        with pytest.raises(UsageError, match="needs its command"):
            engines.engine("custom").check(spec("custom", **fields))


def test_an_image_of_ones_own_has_to_be_told_its_port() -> None:
    custom = engines.engine("custom")
    with pytest.raises(UsageError, match="nothing tells the server in the image its port") as caught:
        custom.check(spec("custom", image="mine:1", args=("--fast",)))
    assert caught.value.seen == "mine:1 --fast"
    custom.check(spec("custom", image="mine:1", args=("--port={port}",)))
    custom.check(spec("custom", image="mine:1", port=8000))


def test_the_dialect_of_ones_own_server_can_be_said(tmp_path: Path) -> None:
    launched(spec("custom", command="x {port}", settings={"dialect": "sglang"}), tmp_path)
    with pytest.raises(UsageError, match="custom cannot take this dialect"):
        launched(spec("custom", command="x {port}", settings={"dialect": "latin"}), tmp_path)
    with pytest.raises(UsageError, match="custom has no setting 'seed'"):
        launched(spec("custom", command="x {port}", settings={"seed": 1}), tmp_path)


# -- keys


@pytest.mark.parametrize(("engine", "variable"), [("vllm", "VLLM_API_KEY"), ("tgi", "API_KEY")])
def test_a_key_goes_by_the_engines_variable_and_never_by_its_command_line(
    engine: str, variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "hunter22")
    made = launched(spec(engine, api_key_env="MY_KEY"), tmp_path)
    assert dict(made.env)[variable] == "hunter22"
    assert "hunter22" not in " ".join(made.argv)
    assert variable not in dict(launched(spec(engine), tmp_path).env)


def test_llama_server_has_a_variable_for_its_key_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "hunter22")
    (tmp_path / "m.gguf").touch()
    made = launched(spec("llama-server", model=str(tmp_path / "m.gguf"), api_key_env="MY_KEY"), tmp_path)
    assert dict(made.env) == {"LLAMA_API_KEY": "hunter22"}


@pytest.mark.parametrize("engine", ["sglang", "tensorrt-llm", "transformers", "lmdeploy", "ollama"])
def test_a_key_is_refused_where_all_could_read_it(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "hunter22")
    with pytest.raises(UsageError, match="on its command line only") as caught:
        engines.engine(engine).check(spec(engine, api_key_env="MY_KEY"))
    assert "hunter22" not in str(caught.value)
    engines.engine(engine).check(spec(engine, api_key_env="MY_KEY", command="x {port} --key-file f"))


@pytest.mark.parametrize("engine", [*RUN_BY_KIND, "custom"])
def test_a_key_that_is_not_set_is_refused(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "")
    with pytest.raises(UsageError, match="the API key is not set") as caught:
        engines.engine(engine).check(spec(engine, api_key_env="MY_KEY", command="x {port}"))
    assert caught.value.seen == "MY_KEY is empty"


# -- revisions, fetching, facts


@pytest.mark.parametrize("engine", ["vllm", "sglang", "tensorrt-llm", "tgi", "lmdeploy"])
def test_a_revision_is_told_of_models_on_the_hub_only(engine: str, model: Path, tmp_path: Path) -> None:
    argv = launched(spec(engine, revision="abc"), tmp_path).argv
    assert argv[argv.index("--revision") + 1] == "abc"
    with pytest.raises(UsageError, match="a folder has no revisions"):
        launched(spec(engine, model=str(model), revision="abc"), tmp_path)
    assert "--revision" not in launched(spec(engine), tmp_path).argv


@pytest.mark.parametrize("engine", ["transformers", "ollama"])
def test_a_revision_is_refused_where_it_cannot_be_told(engine: str) -> None:
    with pytest.raises(UsageError, match=f"{engine} cannot be told a revision") as caught:
        engines.engine(engine).check(spec(engine, revision="abc"))
    assert caught.value.seen == "revision=abc"


def test_a_model_on_the_hub_is_fetched_by_the_engines_own_python(model: Path, tmp_path: Path) -> None:
    fetch = launched(spec(revision="abc"), tmp_path).fetch
    assert fetch is not None
    assert fetch.what == "the model org/model"
    assert fetch.argv == (PYTHON, str(Path(launching.__file__).with_name("hub_fetch.py")), "org/model", "abc")
    fetch = launched(spec(), tmp_path).fetch
    assert fetch is not None
    assert fetch.argv[2:] == ("org/model",)
    assert launched(spec(model=str(model)), tmp_path).fetch is None
    assert launched(spec("tgi"), tmp_path).fetch is None  # a binary fetches by itself


def test_what_is_known_beforehand_is_a_fact(tmp_path: Path) -> None:
    made = launched(spec(), tmp_path)
    assert made.facts == (("package_version", "1.2.3"),)
    assert launching.with_facts(made, more="x").facts == (("package_version", "1.2.3"), ("more", "x"))


def test_raw_arguments_come_last_so_that_they_win(tmp_path: Path) -> None:
    asked = spec(revision="abc", settings={"max_num_seqs": 4}, args=("--max-num-seqs", "8", "{port}"))
    assert launched(asked, tmp_path).argv[-3:] == ("--max-num-seqs", "8", "{port}")


@pytest.mark.parametrize("engine", RUN_BY_KIND)
def test_what_is_not_installed_is_said_when_it_is_to_be_launched(
    engine: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(*_: object, **__: object) -> Found:
        raise EngineError("not installed here")

    monkeypatch.setattr(installation, "find", nothing)
    gguf = tmp_path / "m.gguf"
    gguf.touch()
    asked = spec(engine, model=str(gguf if engine == "llama-server" else model))
    engines.engine(engine).check(asked)
    with pytest.raises(EngineError, match="not installed"):
        engines.engine(engine).launch(asked, 8123, tmp_path)


def test_sglang_has_one_flag_for_chunks_and_their_size() -> None:
    both = {"chunked_prefill": False, "max_num_batched_tokens": 512}
    with pytest.raises(UsageError, match="one flag for both") as caught:
        engines.engine("sglang").check(spec("sglang", settings=both))
    assert caught.value.seen == "chunked_prefill=False and max_num_batched_tokens=512"
    engines.engine("sglang").check(spec("sglang", settings=both | {"chunked_prefill": True}))


def test_ollama_and_llama_server_say_what_a_model_is_for_them(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="ollama needs a model"):
        engines.engine("ollama").check(spec("ollama", model=None))
    with pytest.raises(UsageError, match="GGUF files here") as caught:
        engines.engine("llama-server").check(spec("llama-server"))
    assert caught.value.seen == "org/model: no such file"
