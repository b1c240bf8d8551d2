from __future__ import annotations

import multiprocessing
from typing import TYPE_CHECKING, Any

import pytest

from pytest_inferforge.engines import forge_tiny
from pytest_inferforge.errors import UsageError
from pytest_inferforge.forge_tiny import folder as weights_folder
from pytest_inferforge.forge_tiny import vocabulary
from pytest_inferforge.forge_tiny.shape import BAN, SHAPE
from pytest_inferforge.words import WORDS

if TYPE_CHECKING:
    from pathlib import Path

gguf = pytest.importorskip("gguf")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def tensors(folder: Path) -> dict[str, Any]:
    return {tensor.name: tensor.data for tensor in gguf.GGUFReader(forge_tiny.path(cache_dir=folder)).tensors}


def test_it_is_written_once(folder: Path) -> None:
    first = forge_tiny.path(cache_dir=folder)
    written = first.stat().st_mtime_ns
    assert forge_tiny.path(cache_dir=folder) == first
    assert first.stat().st_mtime_ns == written
    assert [file.name for file in (folder / "models").iterdir()] == [first.name]


def test_the_same_weights_give_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    again = forge_tiny.path(cache_dir=tmp_path)
    assert again.name == forge_tiny.path(cache_dir=folder).name
    assert again.read_bytes() == forge_tiny.path(cache_dir=folder).read_bytes()


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_a_damaged_file_is_made_again(damage: str, tmp_path: Path) -> None:
    model = forge_tiny.path(cache_dir=tmp_path)
    good = model.read_bytes()
    model.write_bytes(good[:-1] if damage == "cut" else good[:-1] + bytes([good[-1] ^ 1]))
    assert forge_tiny.path(cache_dir=tmp_path) == model
    assert model.read_bytes() == good


def test_two_processes_may_make_it_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    with context.Pool(2) as pool:
        first, second = pool.starmap(forge_tiny.path, [("F16", tmp_path), ("F16", tmp_path)])
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
    pieces, _ = vocabulary.vocabulary()
    spelling = {character: chr(byte) for byte, character in vocabulary.byte_spelling().items()}
    texts = ["".join(map(spelling.__getitem__, token)) for token in pieces] + list(vocabulary.SPECIAL)
    output = tensors["output.weight"]
    assert len(texts) == len(output)
    sampled = {text for text, row in zip(texts, output, strict=True) if row[0] > -1000}
    assert all(row[0] == BAN and not row[1:].any() for row in output if row[0] <= -1000)
    marks = {chr(code) for code in range(32, 127) if not chr(code).isalpha()}
    assert sampled == {"\n"} | marks | {f" {word}" for word in WORDS}


def test_words_are_plain_and_differ() -> None:
    assert len(set(WORDS)) == len(WORDS) >= 200
    assert all(word.isascii() and word.isalpha() and word.islower() for word in WORDS)


def test_the_files_beside_the_weights_are_those_that_the_code_describes() -> None:
    described = weights_folder.described()
    for name, content in described.items():
        assert (weights_folder.FOLDER / name).read_text(encoding="utf-8") == content
    assert {file.name for file in weights_folder.FOLDER.iterdir()} == {
        *described, "model.safetensors", "README.md"
    }  # fmt: skip
    assert sum(file.stat().st_size for file in weights_folder.FOLDER.iterdir()) <= 8_000_000


def test_the_gguf_file_holds_the_weights_with_queries_and_keys_interleaved(tensors: dict[str, Any]) -> None:
    weights = weights_folder.weights()
    assert (tensors["token_embd.weight"] == weights["model.embed_tokens.weight"]).all()
    assert (tensors["blk.2.ffn_up.weight"] == weights["model.layers.2.mlp.up_proj.weight"]).all()
    halves = weights["model.layers.1.self_attn.q_proj.weight"]
    width = SHAPE.embedding // SHAPE.heads
    for head, pair in ((0, 0), (1, 5), (3, 31)):
        for half in (0, 1):
            row = tensors["blk.1.attn_q.weight"][head * width + 2 * pair + half]
            assert (row == halves[head * width + half * width // 2 + pair]).all()


@pytest.mark.parametrize("kind", forge_tiny.TYPES)
def test_every_type_is_written_as_it_is_called(kind: str, tmp_path: Path) -> None:
    reader = gguf.GGUFReader(forge_tiny.path(kind, tmp_path))
    types = {tensor.name: tensor.tensor_type.name for tensor in reader.tensors}
    fine = "F16" if kind == "F16" else "Q8_0"
    assert {types["token_embd.weight"], types["output.weight"]} == {fine}
    assert {name for t, name in types.items() if t.endswith(("_q.weight", "_down.weight"))} == {kind}
    assert {name for t, name in types.items() if t.endswith("norm.weight")} == {"F32"}


def test_a_type_is_named_behind_a_colon() -> None:
    assert forge_tiny.type_of(None) == forge_tiny.type_of("forge-tiny") == "F16"
    assert forge_tiny.type_of("forge-tiny:q8_0") == "Q8_0"
    assert forge_tiny.type_of("forge-tiny.gguf") is None
    with pytest.raises(UsageError, match="no such type") as error:
        forge_tiny.type_of("forge-tiny:Q4_K_M")
    assert "forge-tiny:Q4_0" in str(error.value)
