from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_inferforge.engines import anthropic, url
from pytest_inferforge.errors import EngineError, UsageError
from pytest_inferforge.servers.spec import ServerSpec

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

    Answering = Callable[..., httpx.Client]


def spec(address: str | None = "http://server", **more: object) -> ServerSpec:
    return ServerSpec(engine="url", url=address, **more)  # type: ignore[arg-type]


MODELS = {"data": [{"id": "m", "owned_by": "vllm"}]}


@pytest.mark.parametrize("address", ["http://h:1", "http://h:1/", "http://h:1/v1", "http://h:1/v1/"])
def test_the_base_has_no_v1(address: str) -> None:
    assert url.launch(spec(address), 0, Path()).base_url == "http://h:1"


@pytest.mark.parametrize("address", [None, "", "h:1", "ftp://h", "http://"])
def test_what_is_no_url_is_refused(address: str | None) -> None:
    with pytest.raises(UsageError, match="no usable URL"):
        url.check(spec(address))


@pytest.mark.parametrize("address", ["http://user:hunter22@h", "http://h/?key=hunter22"])
def test_a_url_with_a_secret_is_refused_without_printing_it(address: str) -> None:
    with pytest.raises(UsageError) as caught:
        url.check(spec(address))
    assert "hunter22" not in str(caught.value)


def test_a_key_that_is_not_set_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOME_KEY", raising=False)
    with pytest.raises(UsageError, match="API key is not set") as caught:
        url.check(spec(api_key_env="SOME_KEY"))
    assert caught.value.seen == "SOME_KEY is empty"


def test_any_answer_below_500_is_ready(answering: Answering) -> None:
    assert url.ready(answering({"GET /health": 200, "GET /v1/models": (200, MODELS)})) is None
    assert url.ready(answering({})) is None
    assert url.ready(answering({"GET /health": 503, "GET /v1/models": (200, MODELS)})) == "GET /health -> 503"
    assert url.ready(answering({"GET /v1/models": 502})) == "GET /v1/models -> 502"


@pytest.mark.parametrize("status", [401, 403])
def test_a_server_that_wants_a_key_is_an_error_that_says_where_it_comes_from(
    status: int, answering: Answering
) -> None:
    with pytest.raises(EngineError, match="wants an API key") as caught:
        url.ready(answering({"GET /health": 200, "GET /v1/models": status}))
    assert caught.value.seen == f"GET /v1/models -> {status}"
    assert "environment variable" in str(caught.value.do)


@pytest.mark.parametrize(
    ("owner", "name"), [("vllm", "vllm"), ("llamacpp", "llama.cpp"), ("system", "generic")]
)
def test_the_dialect_follows_the_owner_of_the_model(owner: str, name: str, answering: Answering) -> None:
    models = {"data": [{"id": "m", "owned_by": owner}]}
    assert url.dialect(spec(), answering({"GET /v1/models": (200, models)})) == name


@pytest.mark.parametrize("said", [{}, {"data": []}, {"data": None}, {"data": ["m"]}, [], ["m"], "null"])
def test_a_list_of_models_in_another_shape_says_nothing(said: object, answering: Answering) -> None:
    strange = answering({"GET /v1/models": (200, said)})
    assert url.dialect(spec(), strange) == "generic"
    assert url.facts(strange) == {}


def test_the_dialect_can_be_given(answering: Answering) -> None:
    asked = spec(settings=(("dialect", "llama.cpp"),))
    url.check(asked)
    assert url.dialect(asked, answering({"GET /v1/models": (200, MODELS)})) == "llama.cpp"
    with pytest.raises(UsageError, match="cannot take this dialect"):
        url.check(spec(settings=(("dialect", "latin"),)))


def test_version_and_facts_are_what_the_server_tells(answering: Answering) -> None:
    talkative = answering({"GET /version": (200, {"version": "0.32.0"}), "GET /v1/models": (200, MODELS)})
    assert (url.version(talkative), url.facts(talkative)) == ("0.32.0", {"owned_by": "vllm"})
    assert (url.version(answering({})), url.facts(answering({}))) == (None, {})
    assert url.reset_cache(talkative) is False


def test_raw_arguments_have_nowhere_to_go() -> None:
    with pytest.raises(UsageError, match="a URL takes no server arguments") as caught:
        url.check(spec(args=("--fast", "--more")))
    assert caught.value.seen == "--fast --more"


def test_the_messages_api_needs_the_name_of_a_model() -> None:
    asked = ServerSpec(engine="anthropic", url="https://server/v1")
    with pytest.raises(UsageError, match="the Messages API needs a model"):
        anthropic.check(asked)
    asked = ServerSpec(engine="anthropic", url="https://server/v1", model="some-model")
    anthropic.check(asked)
    made = anthropic.launch(asked, 0, Path())
    assert (made.argv, made.base_url, made.model) == ((), "https://server", "some-model")
    with pytest.raises(UsageError, match="no usable URL"):
        anthropic.check(ServerSpec(engine="anthropic", model="some-model"))
