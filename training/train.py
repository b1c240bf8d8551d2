"""Train forge-tiny on the grammar of the packs and write its weights: at most an hour on 2 cores.

    PYTHONPATH=. python training/train.py pytest_inferforge/forge_tiny/weights

It needs torch and safetensors beside this project, and a C++ compiler unless --plain. The seed fixes the
texts, the order of the batches and the first weights; the last digits of the result still depend on the
processor and on torch's version, so that the weights are kept in the repository and not made anew.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from pytest_inferforge.forge_tiny.shape import SHAPE
from pytest_inferforge.quality.packs import training_text
from training import llama, reading

if TYPE_CHECKING:
    from collections.abc import Iterator

SEED = 20_26_11


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """`rows` of `length` tokens a step; the rates go from one share of their peak to another in a line.

    `practice`, `plain`: see `drills.parts_of`. `question`: what a token of a question counts for in the loss,
    beside 1 for one of an answer.
    """

    texts: int  # added to the seed: which texts it sees
    steps: int
    length: int
    rows: int
    rates: tuple[float, float]
    practice: float
    question: float
    plain: float = 1.0


STAGES = (
    Stage(texts=128, steps=1200, length=128, rows=64, rates=(1.0, 1.0), practice=0.0, question=0.05),
    Stage(texts=256, steps=1500, length=256, rows=32, rates=(0.8, 0.25), practice=0.5, question=0.02),
    Stage(texts=640, steps=500, length=640, rows=12, rates=(0.25, 0.1), practice=0.4, question=0.02),
    Stage(
        texts=40000, steps=700, length=256, rows=32, rates=(0.6, 0.3), practice=0.9, question=0.02, plain=0.2
    ),
    Stage(texts=50000, steps=400, length=640, rows=12, rates=(0.25, 0.04), practice=0.4, question=0.02),
    Stage(texts=60000, steps=100, length=1664, rows=5, rates=(0.04, 0.02), practice=0.3, question=0.02),
)
WARM_STEPS = 100  # of the first stage


def main() -> int:
    options = _options()
    torch.set_num_threads(options.threads)
    torch.manual_seed(SEED)
    model = llama.Llama(SHAPE, reading.VOCABULARY, reading.SAMPLED)
    forward = model if options.plain else torch.compile(model, dynamic=False)
    if options.stage > 1:
        llama.load(model, options.folder)
    began = time.monotonic()
    for number, stage in list(enumerate(STAGES, 1))[options.stage - 1 :]:
        loss = _train(model, forward, stage, number, began)
        llama.save(model, options.folder)
        print(
            json.dumps({"stage": number, "seconds": round(time.monotonic() - began), "loss": round(loss, 3)})
        )
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the weights go")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--stage", type=int, default=1, help="go on from the weights there with this stage")
    parser.add_argument("--plain", action="store_true", help="without torch.compile")
    return parser.parse_args()


def _train(model: llama.Llama, forward: llama.Forward, stage: Stage, number: int, began: float) -> float:
    """All steps of one stage, with optimizers of its own; the loss of the last hundred."""
    optimizers = llama.optimizers(model)
    peaks = [optimizer.param_groups[0]["lr"] for optimizer in optimizers]
    batches = _batches(stage, seed=SEED + stage.texts)
    losses = []
    for step in range(1, stage.steps + 1):
        first, last = stage.rates
        share = first + (last - first) * step / stage.steps
        if number == 1:
            share *= min(1.0, step / WARM_STEPS)
        for optimizer, peak in zip(optimizers, peaks, strict=True):
            optimizer.param_groups[0]["lr"] = peak * share
        tokens, weights = next(batches)
        losses.append(
            llama.step(model, forward, optimizers, torch.from_numpy(tokens), torch.from_numpy(weights))
        )
        if step % 100 == 0:
            mean = sum(losses[-100:]) / 100
            print(f"stage {number}, {step}: {mean:.3f} ({time.monotonic() - began:.0f} s)", flush=True)
    return sum(losses[-100:]) / len(losses[-100:])


def _batches(stage: Stage, *, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Token ids and the weight of each in the loss, (rows, length + 1): whole texts, one after the other.

    A text that does not fit into what is left of a row begins the next one; one longer than a row is left
    out.
    """
    texts = reading.examples(
        training_text(seed=seed, items=10**9), seed=seed, practice=stage.practice, plain=stage.plain
    )
    shape = (stage.rows, stage.length + 1)
    ids, weights = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.float32)
    row, at = 0, 0
    for tokens, answers in texts:
        if len(tokens) > stage.length + 1:
            continue
        if at + len(tokens) > stage.length + 1:
            row, at = row + 1, 0
        if row == stage.rows:
            yield ids, weights
            ids, weights = np.zeros_like(ids), np.zeros_like(weights)
            row = 0
        ids[row, at : at + len(tokens)] = tokens
        weights[row, at : at + len(tokens)] = np.where(answers, 1.0, stage.question)
        at += len(tokens)


if __name__ == "__main__":
    sys.exit(main())
