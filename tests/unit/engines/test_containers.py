"""How a server in a container is started. That it is ended: tests/faults/test_containers.py."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from pytest_inferforge import engines
from pytest_inferforge.engines import launching
from pytest_inferforge.errors import EngineError
from pytest_inferforge.servers.spec import ServerSpec, pairs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_inferforge.engines.protocol import Launch

NAME = re.compile(r"pytest-inferforge-\d+-8123-[0-9a-f]{8}")


@pytest.fixture(autouse=True)
def docker(
    home: Path, tmp_path: Path, script: Callable[[Path, str], Path], monkeypatch: pytest.MonkeyPatch
) -> str:
    """A program of that name on PATH, a home without anything in it, and no GPU."""
    program = script(tmp_path / "bin" / "docker", "#!/bin/false")
    monkeypatch.setenv("PATH", str(program.parent))
    monkeypatch.setattr(launching, "_NVIDIA", tmp_path / "none")
    return str(program)


def launched(tmp_path: Path, engine: str = "vllm", **fields: object) -> Launch:
    fields = {"model": "org/model", "image": "some/image:1"} | fields
    asked = ServerSpec(engine=engine, settings=pairs(fields.pop("settings", {})), **fields)  # type: ignore[arg-type]
    module = engines.engine(engine)
    module.check(asked)
    return module.launch(asked, 8123, tmp_path / "run")


def values(made: Launch, flag: str) -> list[str]:
    return [made.argv[n + 1] for n, word in enumerate(made.argv) if word == flag]


def inside(made: Launch, image: str = "some/image:1") -> tuple[str, ...]:
    """What stands behind the image."""
    return made.argv[made.argv.index(image) + 1 :]


def test_a_container_is_named_labelled_and_published_on_loopback_only(
    tmp_path: Path, docker: str, home: Path
) -> None:
    made = launched(tmp_path, settings={"max_num_seqs": 8})
    (name,) = values(made, "--name")
    assert NAME.fullmatch(name)
    run = tmp_path / "run"
    assert made.argv == (
        docker, "run", "--rm", "--init", "--name", name, "--label", f"pytest-inferforge={name}",
        "--publish", "127.0.0.1:8123:8123", "--ipc", "host",
        "--volume", f"{home}/.cache/huggingface:/huggingface", "--volume", f"{run}:{run}",
        "--env", "HF_HOME=/huggingface",
        "--env", "VLLM_NO_USAGE_STATS=1", "--env", "VLLM_SERVER_DEV_MODE=1",
        "some/image:1",
        "--model", "org/model", "--max-num-seqs", "8", "--host", "0.0.0.0", "--port", "8123",
    )  # fmt: skip
    assert (made.base_url, made.boot_timeout_s, made.grace_s) == ("http://127.0.0.1:8123", 600.0, 10.0)
    assert made.cleanup == (docker, "rm", "--force", name)
    assert made.facts == (("image", "some/image:1"),)
    assert made.fetch is not None
    assert made.fetch.argv == (docker, "pull", "some/image:1")
    assert made.fetch.unless == (docker, "image", "inspect", "some/image:1")


def test_two_containers_never_share_a_name(tmp_path: Path) -> None:
    one, other = launched(tmp_path), launched(tmp_path)
    assert values(one, "--name") != values(other, "--name")


@pytest.mark.parametrize(
    ("engine", "begins"),
    [
        ("vllm", ("--model", "org/model")),
        ("sglang", ("python3", "-m", "sglang.launch_server", "--model-path", "org/model")),
        ("tgi", ("--model-id", "org/model")),
        ("transformers", ("transformers", "serve", "org/model")),
        ("lmdeploy", ("lmdeploy", "serve", "api_server", "org/model")),
        ("ollama", ("serve",)),
    ],
)
def test_an_image_is_given_what_its_entry_point_lacks(
    engine: str, begins: tuple[str, ...], tmp_path: Path
) -> None:
    assert inside(launched(tmp_path, engine))[: len(begins)] == begins


def test_tensorrt_llm_finds_its_file_in_the_container(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    made = launched(tmp_path, "tensorrt-llm")
    words = inside(made)
    assert words[:2] == ("trtllm-serve", "org/model")
    assert words[words.index("--config") + 1] == str(tmp_path / "run" / "tensorrt-llm-8123.yaml")
    assert f"{tmp_path / 'run'}:{tmp_path / 'run'}" in values(made, "--volume")


def test_ones_own_image_gets_its_places_filled(tmp_path: Path) -> None:
    made = launched(tmp_path, "custom", args=("--listen={host}:{port}", "{model}", '{"a": 1}'))
    assert inside(made) == ("--listen=0.0.0.0:8123", "org/model", '{"a": 1}')


def test_values_of_the_environment_are_on_no_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_hunter22")
    monkeypatch.setenv("MY_KEY", "key-hunter22")
    monkeypatch.setenv("HANDED_ON", "x")
    env = (("SECRET_THING", "thing-hunter22"), ("HANDED_ON", None), ("NOT_SET_HERE", None))
    made = launched(tmp_path, env=env, api_key_env="MY_KEY")
    assert "hunter22" not in " ".join((*made.argv, *made.cleanup))
    handed = [word for word in values(made, "--env") if "=" not in word]
    assert handed == ["HF_TOKEN", "HANDED_ON", "NOT_SET_HERE", "SECRET_THING", "VLLM_API_KEY"]
    assert made.env == (("VLLM_API_KEY", "key-hunter22"),)  # for the program that hands it on


def test_ones_own_image_gets_its_key_by_the_users_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "key-hunter22")
    made = launched(tmp_path, "custom", args=("{port}",), api_key_env="MY_KEY")
    assert values(made, "--env") == ["HF_HOME=/huggingface", "MY_KEY"]
    assert made.env == ()


def test_a_folder_here_is_seen_at_its_own_path_and_cannot_be_written(model: Path, tmp_path: Path) -> None:
    draft = tmp_path / "draft.gguf"
    draft.touch()
    speculative = {"method": "draft", "model": str(draft), "tokens": 2}
    made = launched(tmp_path, model=str(model), settings={"speculative": speculative})
    assert {f"{model}:{model}:ro", f"{draft}:{draft}:ro"} <= set(values(made, "--volume"))
    assert inside(made)[:2] == ("--model", str(model))
    assert "HF_HUB_OFFLINE=1" in values(made, "--env")


def test_what_was_fetched_is_kept_where_this_user_keeps_it(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert f"{home}/.ollama/models:/models" in values(launched(tmp_path, "ollama"), "--volume")
    assert f"{home}/.cache/huggingface:/data" in values(launched(tmp_path, "tgi"), "--volume")
    assert (home / ".ollama" / "models").is_dir()  # a runtime would make it for root
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    assert f"{tmp_path}/hub:/huggingface" in values(launched(tmp_path), "--volume")
    assert f"{home}/.ollama/models:/models" in values(launched(tmp_path, "ollama"), "--volume")


@pytest.mark.parametrize(
    ("driver", "visible", "asked", "given"),
    [
        (False, None, None, []),
        (True, None, None, ["all"]),
        (True, None, 0, []),
        (False, None, 2, ["2"]),
        (True, None, 2, ["2"]),
        (False, "0,2,3", None, ["all"]),  # or its indices would be others inside
        (True, "GPU-1a,GPU-2b", 1, ["all"]),
        (True, "", None, []),
        (True, "", 1, []),
        (True, "-1", None, []),
        (True, "0", 0, []),
    ],
)
def test_gpus_are_given_where_there_are_any_and_no_more_than_can_be_seen(
    driver: bool,
    visible: str | None,
    asked: int | None,
    given: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if driver:
        monkeypatch.setattr(launching, "_NVIDIA", tmp_path)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    made = launched(tmp_path, gpus=asked)
    assert values(made, "--gpus") == given
    handed_on = "CUDA_VISIBLE_DEVICES" in values(made, "--env")  # those that it was given, by name alone
    assert handed_on is bool(given)


def test_podman_is_used_where_docker_is_not(
    docker: str, tmp_path: Path, script: Callable[[Path, str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    podman = script(tmp_path / "bin" / "podman", "#!/bin/false")
    assert launching.runtime() == docker
    (tmp_path / "bin" / "docker").unlink()
    assert launched(tmp_path).argv[0] == str(podman)
    podman.unlink()
    with pytest.raises(EngineError, match="nothing here runs containers") as caught:
        launched(tmp_path)
    assert caught.value.seen == "none of docker, podman on PATH"
