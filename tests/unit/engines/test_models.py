from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_inferforge.engines import models
from pytest_inferforge.errors import UsageError
from pytest_inferforge.servers.spec import ServerSpec, pairs

if TYPE_CHECKING:
    from pathlib import Path


def spec(model: str | None, **settings: object) -> ServerSpec:
    return ServerSpec(engine="vllm", model=model, settings=pairs(settings))


def test_a_folder_and_a_name_on_the_hub_are_models(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(model.parent)
    for name in (str(model), "./tiny", "tiny", "gpt2", "meta-llama/Llama-3.1-8B-Instruct"):
        models.check(spec(name))
    assert models.on_hub(spec("gpt2")) == "gpt2"
    assert models.on_hub(spec("tiny")) is None  # it is here
    assert models.told(spec("tiny")) == models.told(spec("./tiny")) == str(model)
    assert models.told(spec("gpt2")) == "gpt2"
    assert models.told(spec(None)) is None


def test_a_folder_in_the_home_is_found(home: Path) -> None:
    (home / "tiny").mkdir()
    (home / "tiny" / "config.json").write_text("{}")
    models.check(spec("~/tiny"))
    assert models.told(spec("~/tiny")) == str(home / "tiny")


@pytest.mark.parametrize(
    ("name", "what"),
    [
        (None, "vllm needs a model"),
        ("", "vllm needs a model"),
        ("./missing", "there is no such model here"),
        ("/missing", "there is no such model here"),
        ("a/b/c", "there is no such model here"),
        ("-tiny", "there is no such model here"),
        ("a model", "there is no such model here"),
    ],
)
def test_what_cannot_be_a_model_is_refused(name: str | None, what: str) -> None:
    with pytest.raises(UsageError, match=what):
        models.check(spec(name))


def test_a_folder_without_a_model_is_refused_with_what_it_lacks(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="this folder holds no model") as caught:
        models.check(spec(str(tmp_path)))
    assert caught.value.seen == f"{tmp_path} has no config.json"


def test_a_folder_has_no_revisions(model: Path) -> None:
    with pytest.raises(UsageError, match="a folder has no revisions") as caught:
        models.check(ServerSpec(engine="vllm", model=str(model), revision="main"))
    assert caught.value.seen == f"revision=main of {model}"
    models.check(ServerSpec(engine="vllm", model="gpt2", revision="main"))


def test_the_hub_is_left_alone_where_nothing_is_on_it(
    home: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offline = {"A": "b", "HF_HUB_OFFLINE": "1"}
    assert models.without_hub(spec(str(model)), {"A": "b"}) == offline
    assert models.without_hub(spec("gpt2"), {"A": "b"}) == {"A": "b"}
    draft = {"method": "draft", "model": "org/draft"}
    assert models.without_hub(spec(str(model), speculative=draft), {"A": "b"}) == {"A": "b"}
    draft["model"] = str(model)
    assert models.without_hub(spec(str(model), speculative=draft), {"A": "b"}) == offline
    assert models.without_hub(spec(str(model), speculative="ngram"), {"A": "b"}) == offline
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")  # said by whoever runs us
    assert models.without_hub(spec(str(model)), {"A": "b"}) == {"A": "b"}
