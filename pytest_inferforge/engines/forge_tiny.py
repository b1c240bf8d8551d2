"""forge-tiny: the model of the embedded default, made on the spot so that nothing is downloaded.

A Llama of 3.9 million seeded random weights. It says nothing sensible, but what a load test needs of a model
is exact:

- one sampled token is one non-empty piece of printable ASCII (a word, a digit, a mark, a newline);
- a reply, read back, has the tokens it was sampled with;
- it never ends by itself, so that a reply has the length that was asked for;
- each of `WORDS` with a space before it is one token, so that a prompt of n words has n tokens.

How sampling is restricted without biases, which the Llama architecture does not have: dimension 0 of the
hidden state is the same positive number everywhere (all embeddings hold it, no layer writes to it), and the
output row of a token that must not be sampled is a large negative weight there and zero elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_inferforge.engines.files import cache_folder, sha256_of
from pytest_inferforge.words import WORDS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NAME = "forge-tiny"

CONTEXT_TOKENS = 8192

_BEGIN, _END, _SYSTEM, _USER, _ASSISTANT = "<|begin|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"
_SPECIAL = (_BEGIN, _END, _SYSTEM, _USER, _ASSISTANT)

_CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)

_RECIPE: dict[str, Any] = {
    "recipe": 1,  # raise it when the code below changes what it writes
    "seed": 20_26_11,
    "layers": 4,
    "embedding": 256,
    "feed_forward": 768,
    "heads": 4,
    "context": CONTEXT_TOKENS,
    "rope_base": 10_000.0,
    "norm_epsilon": 1e-5,
    "constant": 1.0,  # dimension 0 of every embedding
    "ban": -2048.0,  # the weight in dimension 0 of the output row of a token that cannot be sampled
    "words": WORDS,
    "special": _SPECIAL,
    "chat_template": _CHAT_TEMPLATE,
}


def path(cache_dir: Path | None = None) -> Path:
    """The model's GGUF file; it is written (8 MB, half a second) when it is not there or is damaged.

    `cache_dir` is the package's cache folder (None: the user's). The file's name holds the recipe's hash and
    the digest of its content; it appears by one rename, so that two processes may do this at once.
    """
    folder = (cache_dir or cache_folder()) / "models"
    recipe = hashlib.sha256(json.dumps(_RECIPE, sort_keys=True).encode()).hexdigest()[:12]
    for found in sorted(folder.glob(f"{NAME}-{recipe}-*.gguf")):
        if sha256_of(found)[:16] == found.stem.rpartition("-")[2]:
            return found
    folder.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{NAME}-", suffix=".part", dir=folder)
    os.close(handle)
    part = Path(name)
    try:
        _write(part)
        final = folder / f"{NAME}-{recipe}-{sha256_of(part)[:16]}.gguf"
        part.chmod(0o644)
        part.replace(final)
    finally:
        part.unlink(missing_ok=True)
    return final


def _write(target: Path) -> None:
    """Source of the keys and tensor names: ggml's docs/gguf.md, as the `gguf` package spells them."""
    import gguf

    vocabulary, merges = _vocabulary()
    tokens = [*vocabulary, *_SPECIAL]
    kinds = [gguf.TokenType.NORMAL] * len(vocabulary) + [gguf.TokenType.CONTROL] * len(_SPECIAL)
    writer = gguf.GGUFWriter(target, "llama")
    writer.add_name(NAME)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_context_length(_RECIPE["context"])
    writer.add_embedding_length(_RECIPE["embedding"])
    writer.add_block_count(_RECIPE["layers"])
    writer.add_feed_forward_length(_RECIPE["feed_forward"])
    writer.add_head_count(_RECIPE["heads"])
    writer.add_head_count_kv(_RECIPE["heads"])
    writer.add_rope_dimension_count(_RECIPE["embedding"] // _RECIPE["heads"])
    writer.add_rope_freq_base(_RECIPE["rope_base"])
    writer.add_layer_norm_rms_eps(_RECIPE["norm_epsilon"])
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(merges)
    writer.add_bos_token_id(tokens.index(_BEGIN))
    writer.add_eos_token_id(tokens.index(_END))
    writer.add_add_bos_token(False)
    writer.add_chat_template(_CHAT_TEMPLATE)
    sampled = _sampled_tokens()
    banned = [token not in sampled for token in tokens]
    for name, tensor in _weights(banned):
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _vocabulary() -> tuple[list[str], list[str]]:
    """Tokens (256 bytes, then what the merges make) and merges, in GPT-2's printable spelling of bytes.

    Each word with its space is built from the left, one letter at a time. Then only the piece that begins
    with the space can ever be merged, so that the order of the merges cannot spoil a word.
    """
    spelling = _byte_spelling()
    tokens = [spelling[byte] for byte in range(256)]
    merges: list[str] = []
    known = set(tokens)
    for word in WORDS:
        piece = spelling[ord(" ")]
        for letter in word:
            longer = piece + letter
            if longer not in known:
                known.add(longer)
                tokens.append(longer)
                merges.append(f"{piece} {letter}")
            piece = longer
    return tokens, merges


def _byte_spelling() -> dict[int, str]:
    """How byte-level BPE writes each byte as one visible character.

    Source: `bytes_to_unicode` of OpenAI's GPT-2 encoder: printable Latin-1 stands for itself, the rest is
    moved to U+0100 and after in the order of the bytes.
    """
    visible = {*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)}
    hidden = [byte for byte in range(256) if byte not in visible]
    return {byte: chr(byte) for byte in visible} | {byte: chr(256 + i) for i, byte in enumerate(hidden)}


def _sampled_tokens() -> frozenset[str]:
    """Whole words, digits, marks, the space and the newline.

    No single letters and no unfinished words: after a word they would be read back as one longer token.
    """
    spelling = _byte_spelling()
    single = [chr(byte) for byte in range(ord(" "), ord("~") + 1) if not chr(byte).isalpha()]
    return frozenset(
        "".join(spelling[ord(character)] for character in text)
        for text in ["\n", *single, *(f" {word}" for word in WORDS)]
    )


def _weights(banned: list[bool]) -> list[tuple[str, NDArray[Any]]]:
    """All tensors; rows are outputs, columns inputs, as GGUF stores a linear layer."""
    import numpy as np

    width, inner = int(_RECIPE["embedding"]), int(_RECIPE["feed_forward"])
    stream = np.random.PCG64(_RECIPE["seed"])

    def noise(rows: int, columns: int, spread: float) -> NDArray[np.float32]:
        # Raw bits, because numpy promises the stream of a bit generator and not that of `normal()`.
        bits = stream.random_raw(rows * columns) >> np.uint64(40)
        uniform = bits.astype(np.float32) / np.float32(2**23) - np.float32(1)
        return (uniform * np.float32(spread * 3**0.5)).reshape(rows, columns)

    def silent_in_0(rows: int, columns: int, spread: float) -> NDArray[np.float32]:
        weights = noise(rows, columns, spread)
        weights[0] = 0
        return weights

    half = np.float16
    ones = np.ones(width, dtype=np.float32)
    embedding = noise(len(banned), width, 0.25)
    embedding[:, 0] = _RECIPE["constant"]
    tensors: list[tuple[str, NDArray[Any]]] = [("token_embd.weight", embedding.astype(half))]
    for layer in range(int(_RECIPE["layers"])):
        block = f"blk.{layer}"
        tensors.append((f"{block}.attn_norm.weight", ones))
        tensors += [
            (f"{block}.attn_{x}.weight", noise(width, width, width**-0.5).astype(half)) for x in "qkv"
        ]
        tensors.append(
            (f"{block}.attn_output.weight", silent_in_0(width, width, 0.5 * width**-0.5).astype(half))
        )
        tensors.append((f"{block}.ffn_norm.weight", ones))
        tensors += [
            (f"{block}.ffn_{x}.weight", noise(inner, width, width**-0.5).astype(half)) for x in ("gate", "up")
        ]
        tensors.append(
            (f"{block}.ffn_down.weight", silent_in_0(width, inner, 0.5 * inner**-0.5).astype(half))
        )
    output = noise(len(banned), width, 1.5 * width**-0.5)
    output[:, 0] = 0
    forbidden = np.asarray(banned)
    output[forbidden] = 0
    output[forbidden, 0] = _RECIPE["ban"]
    return [*tensors, ("output_norm.weight", ones), ("output.weight", output.astype(half))]
