"""Makes a small random Llama with a tokenizer, as engines load it: `python tiny_llama.py FOLDER WORDS.txt`.

Run by the Python of an engine's environment: it needs torch, transformers and tokenizers. The weights are
drawn from a fixed seed. The tokenizer's vocabulary holds every byte, so that any text can be written, and the
words of WORDS.txt, so that prompts of exact length can be made of them.
"""

from __future__ import annotations

import sys
from pathlib import Path

LAYERS, HIDDEN, HEADS, CONTEXT, VOCABULARY = 2, 128, 4, 2048, 2048  # heads of 32: less is refused by vLLM
ROLES = ("system", "user", "assistant")
MIN_TOKEN = 3  # letters, the space before them included
CHAT_TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<s>", "</s>", "<pad>", *(f"<|{role}|>" for role in ROLES)],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator(sentences(), trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(folder)
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=HIDDEN,
        intermediate_size=4 * HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        max_position_embeddings=CONTEXT,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    # It says whole words only: a reply of special tokens or half characters would have no text.
    known = tokenizer.get_vocab()
    mute = [known[token] for token in known if not token.startswith("\u0120") or len(token) < MIN_TOKEN]
    with torch.no_grad():
        model.lm_head.weight[mute] = 0.0
    model.save_pretrained(folder)


def sentences() -> list[str]:
    """Texts in which every word comes often enough to become a token, after a space."""
    words = Path(sys.argv[2]).read_text(encoding="utf-8").split()
    return [" ".join(["", *words[k : k + 12]]) for k in range(0, len(words), 12)] * 8


if __name__ == "__main__":
    main()
