"""The architecture in torch, and one step of training it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

from pytest_inferforge.forge_tiny.shape import BAN, CONSTANT, Shape

if TYPE_CHECKING:
    from pathlib import Path

Forward = Callable[[torch.Tensor], torch.Tensor]

MATRIX_RATE, OTHER_RATE = 0.02, 3e-3


class Block(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width, inner = shape.embedding, shape.feed_forward
        self.heads = shape.heads
        self.attention_norm = nn.RMSNorm(width, eps=shape.norm_epsilon)
        self.q, self.k, self.v, self.o = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.feed_norm = nn.RMSNorm(width, eps=shape.norm_epsilon)
        self.gate, self.up = (nn.Linear(width, inner, bias=False) for _ in range(2))
        self.down = nn.Linear(inner, width, bias=False)

    def forward(self, x: torch.Tensor, turn: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        rows, length, width = x.shape
        a = self.attention_norm(x)
        q, k, v = (
            layer(a).view(rows, length, self.heads, -1).transpose(1, 2) for layer in (self.q, self.k, self.v)
        )
        seen = functional.scaled_dot_product_attention(_turned(q, turn), _turned(k, turn), v, is_causal=True)
        x = x + self.o(seen.transpose(1, 2).reshape(rows, length, width))
        a = self.feed_norm(x)
        return x + self.down(functional.silu(self.gate(a)) * self.up(a))


class Llama(nn.Module):
    """Rotary positions in halves, as transformers keeps them; only `sampled` tokens have a logit."""

    def __init__(self, shape: Shape, vocabulary: int, sampled: list[int]) -> None:
        super().__init__()
        self.shape, self.vocabulary = shape, vocabulary
        self.register_buffer("sampled", torch.tensor(sampled))
        places = torch.full((vocabulary,), -1)
        places[self.sampled] = torch.arange(len(sampled))
        self.register_buffer("place", places)
        self.embedding = nn.Embedding(vocabulary, shape.embedding)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = nn.RMSNorm(shape.embedding, eps=shape.norm_epsilon)
        self.output = nn.Linear(shape.embedding, len(sampled), bias=False)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                last = name.endswith(("o.weight", "down.weight"))
                spread = 0.02 / (2 * shape.layers) ** 0.5 if last else 0.02
                nn.init.normal_(parameter, std=0.25 if name == "embedding.weight" else spread * 3)
        self.hold()

    @torch.no_grad()
    def hold(self) -> None:
        """Dimension 0 of the hidden state is a constant: all embeddings hold it, no layer writes to it."""
        self.embedding.weight[:, 0] = CONSTANT
        self.norm.weight[0] = 1.0
        for block in self.blocks:
            block.o.weight[0] = 0.0
            block.down.weight[0] = 0.0

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Logits of the sampled tokens, (rows, length, sampled)."""
        turn = _angles(ids.shape[1], self.shape)
        x = self.embedding(ids)
        for block in self.blocks:
            x = block(x, turn)
        return self.output(self.norm(x))


def _angles(length: int, shape: Shape) -> tuple[torch.Tensor, torch.Tensor]:
    half = shape.embedding // shape.heads // 2
    rates = shape.rope_base ** (-torch.arange(half, dtype=torch.float32) / half)
    angles = torch.arange(length, dtype=torch.float32)[:, None] * rates
    return torch.cat([angles, angles], 1).cos(), torch.cat([angles, angles], 1).sin()


def _turned(x: torch.Tensor, turn: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    cos, sin = (part.to(x.dtype) for part in turn)
    one, other = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-other, one], -1) * sin


def optimizers(model: Llama) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside, Adam for the rest; rates are set at each step."""
    inside = [p for n, p in model.named_parameters() if n.startswith("blocks.") and p.dim() == 2]
    rest = [p for n, p in model.named_parameters() if not n.startswith("blocks.") or p.dim() != 2]
    return [
        torch.optim.Muon(inside, lr=MATRIX_RATE, weight_decay=0.05, momentum=0.95),
        torch.optim.AdamW(rest, lr=OTHER_RATE, betas=(0.9, 0.98), eps=1e-9, weight_decay=0.0, fused=True),
    ]


def step(
    model: Llama,
    forward: Forward,
    optimizers: list[torch.optim.Optimizer],
    tokens: torch.Tensor,
    weights: torch.Tensor,
) -> float:
    """One step; the loss in nats per token of an answer (mostly).

    `forward`: the model, compiled. tokens, weights: (rows, length + 1).
    """
    wanted = model.place[tokens[:, 1:]]
    counted = torch.where(wanted >= 0, weights[:, 1:], 0.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = forward(tokens[:, :-1])
    losses = functional.cross_entropy(
        logits.float().flatten(0, 1), wanted.clamp(min=0).flatten(), reduction="none"
    )
    loss = (losses * counted.flatten()).sum() / counted.sum()
    model.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimizer in optimizers:
        optimizer.step()
    model.hold()
    return float(loss.detach())


def save(model: Llama, folder: Path) -> None:
    """`model.safetensors` in float16 with the names that transformers gives to a Llama."""
    from safetensors.torch import save_file

    state = model.state_dict()
    output = torch.zeros(model.vocabulary, model.shape.embedding)
    output[:, 0] = BAN
    output[model.sampled] = state["output.weight"]
    named = {_OUTPUT: output} | {theirs: state[ours] for ours, theirs in _names(model).items()}
    folder.mkdir(parents=True, exist_ok=True)
    half = {name: tensor.to(torch.float16).contiguous() for name, tensor in named.items()}
    save_file(half, folder / "model.safetensors", metadata={"format": "pt"})


def load(model: Llama, folder: Path) -> None:
    """Take what `save` wrote."""
    from safetensors.torch import load_file

    stored = {name: tensor.float() for name, tensor in load_file(folder / "model.safetensors").items()}
    state = {ours: stored[theirs] for ours, theirs in _names(model).items()}
    model.load_state_dict(state | {"output.weight": stored[_OUTPUT][model.sampled]}, strict=False)
    model.hold()


_OUTPUT = "lm_head.weight"
_PARTS = {
    "attention_norm": "input_layernorm",
    "feed_norm": "post_attention_layernorm",
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "o": "self_attn.o_proj",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}


def _names(model: Llama) -> dict[str, str]:
    """Our names of all weights but the output's -> those of transformers."""
    inner = {
        f"blocks.{layer}.{ours}.weight": f"model.layers.{layer}.{theirs}.weight"
        for layer in range(model.shape.layers)
        for ours, theirs in _PARTS.items()
    }
    return inner | {"embedding.weight": "model.embed_tokens.weight", "norm.weight": "model.norm.weight"}
