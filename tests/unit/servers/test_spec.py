from __future__ import annotations

import json

import pytest

from pytest_inferforge.errors import UsageError
from pytest_inferforge.redaction import is_secret, without_secrets
from pytest_inferforge.servers.spec import ServerSpec, environment, pairs


def test_specs_are_equal_whatever_the_order_of_their_settings() -> None:
    one = ServerSpec(
        engine="llama.cpp", settings=(("seed", 1), ("max_num_seqs", 2)), env=(("B", "1"), ("A", "2"))
    )
    two = ServerSpec(
        engine="llama.cpp", settings=(("max_num_seqs", 2), ("seed", 1)), env=(("A", "2"), ("B", "1"))
    )
    assert one == two
    assert len({one, two}) == 1


def test_tables_in_settings_can_be_hashed_and_come_back_as_tables() -> None:
    table = {"speculative": {"tokens": 4, "method": "ngram"}, "sizes": [1, 2]}
    spec = ServerSpec(engine="vllm", settings=pairs(table))
    hash(spec)
    assert spec.identity()["settings"] == {"sizes": [1, 2], "speculative": {"method": "ngram", "tokens": 4}}
    json.dumps(spec.identity())


def test_a_setting_given_twice_is_refused() -> None:
    with pytest.raises(UsageError, match="'seed' is given twice in settings"):
        ServerSpec(engine="llama.cpp", settings=(("seed", 1), ("seed", 2)))


def test_a_description_is_one_line_without_secrets() -> None:
    spec = ServerSpec(
        engine="vllm",
        model="m",
        settings=(("seed", 1),),
        args=("--api-key", "hunter22", "--swap-space=4"),
        env=(("HF_TOKEN", "hunter22"),),
    )
    assert spec.describe() == "vllm m seed=1 --api-key [redacted] --swap-space=4"


def test_no_secret_is_in_the_identity_or_the_repr_of_the_environment() -> None:
    spec = ServerSpec(engine="vllm", args=("--api-key=hunter22",), env=(("HF_TOKEN", "hunter22"), ("A", "b")))
    assert "hunter22" not in json.dumps(spec.identity())
    assert spec.identity()["env"] == {"A": "b", "HF_TOKEN": "[redacted]"}
    assert "HF_TOKEN" not in repr(spec)


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("vllm serve M --port {port}", "vllm serve M --port {port}"),
        ("vllm serve M --api-key hunter22 --port {port}", "vllm serve M --api-key [redacted] --port {port}"),
        ("vllm serve M --api-key=hunter22", "vllm serve M --api-key=[redacted]"),
        ("vllm serve M --api-key 'hunter22 and hunter22'", "vllm serve M --api-key [redacted]"),
        ("env HF_TOKEN=hunter22 vllm serve M", "env HF_TOKEN=[redacted] vllm serve M"),
        ("vllm serve 'M --api-key hunter22", "vllm serve 'M --api-key [redacted]"),
    ],
)
def test_secrets_in_a_command_are_shown_nowhere(command: str, shown: str) -> None:
    spec = ServerSpec(engine="custom", command=command)
    assert spec.describe() == f"custom {shown}"
    assert spec.identity()["command"] == shown


def test_a_description_names_what_the_server_is_made_of() -> None:
    assert ServerSpec(engine="vllm", model="m", image="i:1").describe() == "vllm m i:1"
    assert ServerSpec(engine="url", url="http://h").describe() == "url http://h"


def test_a_variable_handed_on_by_name_has_the_value_that_it_has_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_LEVEL", "3")
    monkeypatch.setenv("SOME_TOKEN", "hunter22")
    monkeypatch.delenv("NOT_SET", raising=False)
    spec = ServerSpec(
        engine="vllm", env=(("SOME_LEVEL", None), ("SOME_TOKEN", None), ("NOT_SET", None), ("A", "b"))
    )
    assert environment(spec.env) == {"A": "b", "SOME_LEVEL": "3", "SOME_TOKEN": "hunter22"}
    assert spec.identity()["env"] == {
        "A": "b", "SOME_LEVEL": "3", "SOME_TOKEN": "[redacted]", "NOT_SET": ""
    }  # fmt: skip
    assert "hunter22" not in repr(spec)
    monkeypatch.setenv("SOME_LEVEL", "4")
    assert spec == ServerSpec(engine="vllm", env=spec.env)  # what it was asked for, not what it came to
    assert environment(spec.env)["SOME_LEVEL"] == "4"


def test_what_makes_another_server_is_identity() -> None:
    plain = ServerSpec(engine="vllm", model="m").identity()
    for more in (
        {"revision": "abc"}, {"python": "p"}, {"command": "c"}, {"image": "i"}, {"gpus": 1}, {"url": "u"},
        {"args": ("--x",)}, {"env": (("A", "b"),)}, {"settings": (("seed", 1),)},
    ):  # fmt: skip
        assert ServerSpec(engine="vllm", model="m", **more).identity() != plain, more  # type: ignore[arg-type]


def test_port_key_and_patience_are_not_identity() -> None:
    plain = ServerSpec(engine="llama.cpp")
    other = ServerSpec(engine="llama.cpp", port=9000, api_key_env="K", boot_timeout_s=1)
    assert plain != other
    assert plain.identity() == other.identity()


@pytest.mark.parametrize(
    "name", ["OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY", "--hf-token", "DB_PASSWORD", "token"]
)
def test_names_of_secrets(name: str) -> None:
    assert is_secret(name)


@pytest.mark.parametrize(
    "name", ["--tokenizer", "--max-tokens", "KEYBOARD", "--max-num-batched-tokens", "MONKEY"]
)
def test_names_of_no_secrets(name: str) -> None:
    assert not is_secret(name)


def test_a_flag_after_a_secret_flag_without_value_stays() -> None:
    assert without_secrets(("--api-key", "--port", "80")) == ["--api-key", "--port", "80"]
