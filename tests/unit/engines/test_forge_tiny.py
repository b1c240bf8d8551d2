from __future__ import annotations

import multiprocessing
from typing import TYPE_CHECKING, Any

import pytest

from pytest_inferforge.engines import forge_tiny

if TYPE_CHECKING:
    from pathlib import Path

gguf = pytest.importorskip("gguf")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def tensors(folder: Path) -> dict[str, Any]:
    return {tensor.name: tensor.data for tensor in gguf.GGUFReader(forge_tiny.path(folder)).tensors}


def test_it_is_written_once(folder: Path) -> None:
    first = forge_tiny.path(folder)
    written = first.stat().st_mtime_ns
    assert forge_tiny.path(folder) == first
    assert first.stat().st_mtime_ns == written
    assert [file.name for file in (folder / "models").iterdir()] == [first.name]


def test_the_same_recipe_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    again = forge_tiny.path(tmp_path)
    assert again.name == forge_tiny.path(folder).name
    assert again.read_bytes() == forge_tiny.path(folder).read_bytes()


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_a_damaged_file_is_made_again(damage: str, tmp_path: Path) -> None:
    model = forge_tiny.path(tmp_path)
    good = model.read_bytes()
    model.write_bytes(good[:-1] if damage == "cut" else good[:-1] + bytes([good[-1] ^ 1]))
    assert forge_tiny.path(tmp_path) == model
    assert model.read_bytes() == good


def test_two_processes_may_make_it_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    with context.Pool(2) as pool:
        first, second = pool.map(forge_tiny.path, [tmp_path, tmp_path])
    assert first == second
    assert [file.name for file in (tmp_path / "models").iterdir()] == [first.name]


def test_it_has_the_size_it_says(tensors: dict[str, Any]) -> None:
    assert 3.5e6 < sum(data.size for data in tensors.values()) < 4e6


def test_no_layer_writes_to_dimension_0(tensors: dict[str, Any]) -> None:
    writers = [name for name in tensors if name.endswith(("attn_output.weight", "ffn_down.weight"))]
    assert len(writers) == 8
    for name in writers:
        assert not tensors[name][0].any()
        assert tensors[name][1].any()
    assert (tensors["token_embd.weight"][:, 0] == 1).all()


def test_only_words_digits_marks_and_the_newline_can_be_sampled(tensors: dict[str, Any]) -> None:
    vocabulary, _ = forge_tiny._vocabulary()
    spelling = {character: chr(byte) for byte, character in forge_tiny._byte_spelling().items()}
    texts = ["".join(map(spelling.__getitem__, token)) for token in vocabulary] + list(forge_tiny._SPECIAL)
    output = tensors["output.weight"]
    assert len(texts) == len(output)
    sampled = {text for text, row in zip(texts, output, strict=True) if row[0] == 0}
    assert all(row[0] < -1000 and not row[1:].any() for row in output if row[0] != 0)
    marks = {chr(code) for code in range(32, 127) if not chr(code).isalpha()}
    assert sampled == {"\n"} | marks | {f" {word}" for word in forge_tiny.WORDS}


def test_words_are_plain_and_differ() -> None:
    assert len(set(forge_tiny.WORDS)) == len(forge_tiny.WORDS) >= 200
    assert all(word.isascii() and word.isalpha() and word.islower() for word in forge_tiny.WORDS)
