"""forge-tiny as a folder that transformers, vLLM and SGLang load: its weights, and what describes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_inferforge.forge_tiny.shape import NAME, SHAPE
from pytest_inferforge.forge_tiny.vocabulary import BEGIN, CHAT_TEMPLATE, END, SPECIAL, tokens, vocabulary

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FOLDER = Path(__file__).with_name("weights")
WEIGHTS = FOLDER / "model.safetensors"


def weights(path: Path = WEIGHTS) -> dict[str, NDArray[np.float16]]:
    """Tensors by the names that transformers gives them; rows are outputs, columns inputs.

    Source: the safetensors format, a length of 8 bytes, a JSON header, and the bytes of the tensors.
    """
    import numpy as np

    content = path.read_bytes()
    begin = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:begin])
    found = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        if entry["dtype"] != "F16":
            raise ValueError(f"{path}: {name} is {entry['dtype']}, not F16")
        first, last = entry["data_offsets"]
        flat = np.frombuffer(content[begin + first : begin + last], dtype="<f2")
        found[name] = flat.reshape(entry["shape"])
    return found


def described() -> dict[str, str]:
    """Names and contents of the files beside the weights.

    Source: transformers 5.19 (LlamaConfig, PreTrainedTokenizerFast) and tokenizers 0.22 (tokenizer.json).
    """
    ids = {token: k for k, token in enumerate(tokens())}
    begin, end = ids[BEGIN], ids[END]
    files: dict[str, dict[str, Any]] = {
        "config.json": {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "_name_or_path": NAME,
            "vocab_size": len(ids),
            "hidden_size": SHAPE.embedding,
            "intermediate_size": SHAPE.feed_forward,
            "num_hidden_layers": SHAPE.layers,
            "num_attention_heads": SHAPE.heads,
            "num_key_value_heads": SHAPE.heads,
            "head_dim": SHAPE.embedding // SHAPE.heads,
            "max_position_embeddings": SHAPE.context,
            "rope_theta": SHAPE.rope_base,
            "rms_norm_eps": SHAPE.norm_epsilon,
            "hidden_act": "silu",
            "attention_bias": False,
            "mlp_bias": False,
            "tie_word_embeddings": False,
            "bos_token_id": begin,
            "eos_token_id": end,
            "torch_dtype": "float16",
        },
        "generation_config.json": {"bos_token_id": begin, "eos_token_id": end, "do_sample": False},
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": BEGIN,
            "eos_token": END,
            "model_max_length": SHAPE.context,
            "clean_up_tokenization_spaces": False,
            "chat_template": CHAT_TEMPLATE,
        },
        "tokenizer.json": _tokenizer(ids),
    }
    return {name: json.dumps(content, ensure_ascii=False, indent=1) + "\n" for name, content in files.items()}


def _tokenizer(ids: dict[str, int]) -> dict[str, Any]:
    pieces, merges = vocabulary()
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": ids[token],
                "content": token,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for token in SPECIAL
        ],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": {piece: ids[piece] for piece in pieces},
            "merges": [merge.split(" ") for merge in merges],
        },
    }
