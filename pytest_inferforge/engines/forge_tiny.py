"""forge-tiny as GGUF files: written from the weights of the package when they are first needed.

Source of the keys and tensor names: ggml's docs/gguf.md, as the `gguf` package spells them; of the order of
the rows of queries and keys, which GGUF interleaves where transformers keeps halves: llama.cpp's
convert_hf_to_gguf.py, `LlamaModel.permute`.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_inferforge.engines.files import cache_folder, sha256_of
from pytest_inferforge.errors import UsageError
from pytest_inferforge.forge_tiny import folder
from pytest_inferforge.forge_tiny.shape import NAME, SHAPE
from pytest_inferforge.forge_tiny.vocabulary import BEGIN, CHAT_TEMPLATE, END, SPECIAL, tokens, vocabulary

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CONTEXT_TOKENS = SHAPE.context

TYPES = ("F16", "Q8_0", "Q4_0", "TQ2_0")  # of the matrices inside; the `gguf` package can write no K-quants

_LAYOUT = 1  # raise it when the code below changes what it writes
_FINE = "Q8_0"  # of the embedding and the output, where the matrices inside are coarser
_TENSORS = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
_OUTER = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}


def type_of(model: str | None) -> str | None:
    """The type that `forge-tiny` or `forge-tiny:TYPE` names; None: another model.

    Raises:
        UsageError: a type that cannot be written.
    """
    if model in (None, NAME):
        return TYPES[0]
    name, colon, kind = str(model).partition(":")
    if name != NAME or not colon:
        return None
    if kind.upper() not in TYPES:
        raise UsageError(
            "forge-tiny has no such type",
            seen=str(model),
            do=f"write one of: {', '.join(f'{NAME}:{known}' for known in TYPES)}",
        )
    return kind.upper()


def path(kind: str = TYPES[0], cache_dir: Path | None = None) -> Path:
    """The GGUF file of that type; it is written (half a second) when it is not there or is damaged.

    `cache_dir` is the package's cache folder (None: the user's). The file's name holds what it was made from
    and the digest of its content; it appears by one rename, so that two processes may do this at once.
    """
    models = (cache_dir or cache_folder()) / "models"
    recipe = hashlib.sha256(f"{_LAYOUT} {_digest_of_weights()} {tokens()}".encode()).hexdigest()[:12]
    for found in sorted(models.glob(f"{NAME}-{kind}-{recipe}-*.gguf")):
        if sha256_of(found)[:16] == found.stem.rpartition("-")[2]:
            return found
    models.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{NAME}-", suffix=".part", dir=models)
    os.close(handle)
    part = Path(name)
    try:
        write(part, kind, folder.weights())
        final = models / f"{NAME}-{kind}-{recipe}-{sha256_of(part)[:16]}.gguf"
        part.chmod(0o644)
        part.replace(final)
    finally:
        part.unlink(missing_ok=True)
    return final


@cache
def _digest_of_weights() -> str:
    return sha256_of(folder.WEIGHTS)


def write(target: Path, kind: str, weights: dict[str, NDArray[np.float16]]) -> None:
    """A GGUF file of these weights, matrices in that type."""
    import gguf

    kinds = [gguf.TokenType.NORMAL] * len(vocabulary()[0]) + [gguf.TokenType.CONTROL] * len(SPECIAL)
    writer = gguf.GGUFWriter(target, "llama")
    writer.add_name(NAME)
    writer.add_file_type(gguf.LlamaFileType[f"MOSTLY_{kind}"])
    writer.add_context_length(SHAPE.context)
    writer.add_embedding_length(SHAPE.embedding)
    writer.add_block_count(SHAPE.layers)
    writer.add_feed_forward_length(SHAPE.feed_forward)
    writer.add_head_count(SHAPE.heads)
    writer.add_head_count_kv(SHAPE.heads)
    writer.add_rope_dimension_count(SHAPE.embedding // SHAPE.heads)
    writer.add_rope_freq_base(SHAPE.rope_base)
    writer.add_layer_norm_rms_eps(SHAPE.norm_epsilon)
    writer.add_vocab_size(len(tokens()))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(list(tokens()))
    writer.add_token_types(kinds)
    writer.add_token_merges(list(vocabulary()[1]))
    writer.add_bos_token_id(tokens().index(BEGIN))
    writer.add_eos_token_id(tokens().index(END))
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)
    for name, tensor in weights.items():
        _add(writer, *_renamed(name, tensor), kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _renamed(name: str, tensor: NDArray[np.float16]) -> tuple[str, NDArray[np.float16]]:
    """A tensor as GGUF names it and orders its rows."""
    if name in _OUTER:
        return _OUTER[name], tensor
    layer, part = name.removeprefix("model.layers.").removesuffix(".weight").split(".", 1)
    if part.endswith(("q_proj", "k_proj")):
        rows, columns = tensor.shape
        halves = tensor.reshape(SHAPE.heads, 2, rows // SHAPE.heads // 2, columns)
        tensor = halves.swapaxes(1, 2).reshape(rows, columns)
    return f"blk.{layer}.{_TENSORS[part]}.weight", tensor


def _add(writer: Any, name: str, tensor: NDArray[np.float16], kind: str) -> None:
    """Norms as float32, the embedding and the output never coarser than `_FINE`."""
    import gguf
    import numpy as np

    if tensor.ndim == 1:
        writer.add_tensor(name, tensor.astype(np.float32))
        return
    if kind == "F16":
        writer.add_tensor(name, tensor)
        return
    quantized = gguf.GGMLQuantizationType[_FINE if name in _OUTER.values() else kind]
    data = gguf.quants.quantize(tensor.astype(np.float32), quantized)
    writer.add_tensor(name, data, raw_dtype=quantized)
