"""Texts of the packs as token ids of forge-tiny."""

from __future__ import annotations

import random
import re
from typing import TYPE_CHECKING

from pytest_inferforge.forge_tiny import vocabulary
from training import drills

if TYPE_CHECKING:
    from collections.abc import Iterator

VOCABULARY = len(vocabulary.tokens())
SAMPLED = [vocabulary.tokens().index(token) for token in sorted(vocabulary.sampled_tokens())]

_PIECE = re.compile(r"<\|[a-z]+\|>| [a-z]+|[^a-z]")
CHAT = 0.3  # share of the single questions that are asked in a chat


def ids(text: str) -> list[int]:
    """What the tokenizer makes of a text in which every word is known and has a space before it."""
    return [_IDS[piece] for piece in _PIECE.findall(text)]


def examples(
    texts: Iterator[str], *, seed: int, practice: float, plain: float
) -> Iterator[tuple[list[int], list[bool]]]:
    """Token ids of each text, and which of them are of an answer; some in the form of a chat."""
    rng = random.Random(f"form/{seed}")
    for parts in drills.parts_of(texts, seed=seed, practice=practice, plain=plain):
        tokens: list[int] = []
        answers: list[bool] = []
        chat = len(parts) == 1 and rng.random() < CHAT
        for question, answer in parts:
            for piece, of_answer in (
                (vocabulary.asked_in_chat(question) if chat else question, False),
                (answer, True),
            ):
                found = ids(piece)
                tokens += found
                answers += [of_answer] * len(found)
        yield tokens, answers


_SPELLING = vocabulary.byte_spelling()
_BYTES = {character: chr(byte) for byte, character in _SPELLING.items()}
_IDS = {
    (token if token.startswith("<|") and len(token) > 2 else "".join(_BYTES[c] for c in token)): k
    for k, token in enumerate(vocabulary.tokens())
}
