"""The tokens of forge-tiny: a byte-level BPE that knows each of `WORDS` with a space before it whole."""

from __future__ import annotations

from functools import cache

from pytest_inferforge.words import WORDS

BEGIN, END = "<|begin|>", "<|end|>"
SPECIAL = (BEGIN, END, "<|system|>", "<|user|>", "<|assistant|>")

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def asked_in_chat(question: str) -> str:
    """One question as the chat template writes it, up to where the answer begins."""
    return f"<|user|>{question}{END}<|assistant|>"


@cache
def tokens() -> tuple[str, ...]:
    """All tokens in the order of their ids, in GPT-2's printable spelling of bytes."""
    return (*vocabulary()[0], *SPECIAL)


@cache
def vocabulary() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Tokens (256 bytes, then what the merges make) and merges, without the special ones.

    Each word with its space is built from the left, one letter at a time. Then only the piece that begins
    with the space can ever be merged, so that the order of the merges cannot spoil a word.
    """
    spelling = byte_spelling()
    pieces = [spelling[byte] for byte in range(256)]
    merges: list[str] = []
    known = set(pieces)
    for word in WORDS:
        piece = spelling[ord(" ")]
        for letter in word:
            longer = piece + letter
            if longer not in known:
                known.add(longer)
                pieces.append(longer)
                merges.append(f"{piece} {letter}")
            piece = longer
    return tuple(pieces), tuple(merges)


def byte_spelling() -> dict[int, str]:
    """How byte-level BPE writes each byte as one visible character.

    Source: `bytes_to_unicode` of OpenAI's GPT-2 encoder: printable Latin-1 stands for itself, the rest is
    moved to U+0100 and after in the order of the bytes.
    """
    visible = {*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)}
    hidden = [byte for byte in range(256) if byte not in visible]
    return {byte: chr(byte) for byte in visible} | {byte: chr(256 + i) for i, byte in enumerate(hidden)}


@cache
def sampled_tokens() -> frozenset[str]:
    """Whole words, digits, marks, the space and the newline.

    No single letters and no unfinished words: after a word they would be read back as one longer token.
    """
    spelling = byte_spelling()
    single = [chr(byte) for byte in range(ord(" "), ord("~") + 1) if not chr(byte).isalpha()]
    return frozenset(
        "".join(spelling[ord(character)] for character in text)
        for text in ["\n", *single, *(f" {word}" for word in WORDS)]
    )
