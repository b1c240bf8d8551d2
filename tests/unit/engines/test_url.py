from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from pytest_inferforge.engines import url
from pytest_inferforge.errors import EngineError, UsageError
from pytest_inferforge.servers.spec import ServerSpec


def client(**answers: tuple[int, object]) -> httpx.Client:
    """Answers by path, `/` written as `_`; 404 for all others."""

    def answer(request: httpx.Request) -> httpx.Response:
        status, body = answers.get(request.url.path.strip("/").replace("/", "_"), (404, {}))
        return httpx.Response(status, json=body)

    return httpx.Client(base_url="http://server", transport=httpx.MockTransport(answer))


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


def test_any_answer_below_500_is_ready() -> None:
    assert url.ready(client(health=(200, {}), v1_models=(200, MODELS))) is None
    assert url.ready(client()) is None
    assert url.ready(client(health=(503, {}), v1_models=(200, MODELS))) == "GET /health -> 503"
    assert url.ready(client(v1_models=(502, {}))) == "GET /v1/models -> 502"


@pytest.mark.parametrize("status", [401, 403])
def test_a_server_that_wants_a_key_is_an_error_that_says_where_it_comes_from(status: int) -> None:
    with pytest.raises(EngineError, match="wants an API key") as caught:
        url.ready(client(health=(200, {}), v1_models=(status, {})))
    assert caught.value.seen == f"GET /v1/models -> {status}"
    assert "environment variable" in str(caught.value.do)


@pytest.mark.parametrize(
    ("owner", "name"), [("vllm", "vllm"), ("llamacpp", "llama.cpp"), ("system", "openai")]
)
def test_the_dialect_follows_the_owner_of_the_model(owner: str, name: str) -> None:
    models = {"data": [{"id": "m", "owned_by": owner}]}
    assert url.dialect(spec(), client(v1_models=(200, models))) == name


def test_the_dialect_can_be_given() -> None:
    asked = spec(settings=(("dialect", "llama.cpp"),))
    url.check(asked)
    assert url.dialect(asked, client(v1_models=(200, MODELS))) == "llama.cpp"
    with pytest.raises(UsageError, match="cannot take this dialect"):
        url.check(spec(settings=(("dialect", "latin"),)))


def test_version_and_facts_are_what_the_server_tells() -> None:
    talkative = client(version=(200, {"version": "0.32.0"}), v1_models=(200, MODELS))
    assert (url.version(talkative), url.facts(talkative)) == ("0.32.0", {"owned_by": "vllm"})
    assert (url.version(client()), url.facts(client())) == (None, {})
    assert url.reset_cache(talkative) is False
