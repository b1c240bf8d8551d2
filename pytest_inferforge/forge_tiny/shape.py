"""What forge-tiny looks like: sizes, and the two numbers that keep it from saying what it must not.

Sampling is restricted without biases, which the Llama architecture does not have: dimension 0 of the hidden
state is the same positive number everywhere (all embeddings hold it, no layer writes to it), and the output
row of a token that must not be sampled is a large negative weight there and zero elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass

NAME = "forge-tiny"

CONSTANT = 1.0  # dimension 0 of every embedding
BAN = -8192.0  # the weight in dimension 0 of the output row of a token that cannot be sampled


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    layers: int
    embedding: int
    feed_forward: int
    heads: int
    context: int  # tokens
    rope_base: float
    norm_epsilon: float


SHAPE = Shape(
    layers=4, embedding=256, feed_forward=768, heads=4, context=8192, rope_base=10_000.0, norm_epsilon=1e-5
)
