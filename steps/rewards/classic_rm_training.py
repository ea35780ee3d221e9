"""How the classic reward model is trained (§2.3.5): a value head on the policy's architecture, with a binary
cross-entropy on labelled answers. Apart from the model, so that RL depends on how it judges alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from infra.progress.tasks import task
from infra.training.attention import Lengths, lengths_of_whole_rows
from infra.training.interface import PADDING, LossValue
from infra.training.ranks import AnyTrainer
from steps.configs.phase import PhaseConfig
from steps.rewards.reward_model import Tokens
from steps.supervised import learning_rate, optimizer_steps


@dataclass(frozen=True)
class ValueExample:
    """What the model reads, and whether the answer in it is right."""

    tokens: Tokens
    right: bool


@dataclass(frozen=True)
class ValueRows:
    """A micro-batch of one example per row."""

    tokens: Tensor
    """int64 [rows, length], filled up with PADDING."""
    positions: Tensor
    """int64 [rows, length]"""
    example_lengths: Lengths
    """Of whole rows."""
    right: Tensor
    """float32 [rows]: 1 for a right answer, 0 for a wrong one."""
    images: tuple[Path, ...] = ()
    """None: reward models read text alone."""


def value_rows(examples: Sequence[ValueExample], most_tokens: int) -> list[ValueRows]:
    """Micro-batches of at least one row and at most `most_tokens` tokens, padding counted; like lengths together."""
    batches: list[list[ValueExample]] = [[]]
    for example in sorted(examples, key=lambda example: len(example.tokens)):
        if batches[-1] and (len(batches[-1]) + 1) * len(example.tokens) > most_tokens:
            batches.append([])
        batches[-1].append(example)
    return [_rows(batch) for batch in batches if batch]


def _rows(examples: Sequence[ValueExample]) -> ValueRows:
    tokens = torch.full((len(examples), max(len(example.tokens) for example in examples)), PADDING)
    for row, example in zip(tokens, examples, strict=True):
        row[: len(example.tokens)] = torch.tensor(example.tokens)
    positions = torch.arange(tokens.shape[1]).expand_as(tokens)
    return ValueRows(
        tokens, positions, lengths_of_whole_rows(tokens), torch.tensor([float(example.right) for example in examples])
    )


@dataclass(frozen=True)
class BinaryCrossEntropy:
    """Mean binary cross-entropy of one optimizer step, micro-batch by micro-batch."""

    count: int
    """Examples in the whole step."""

    def __call__(self, values: Tensor, rows: ValueRows) -> LossValue:
        right = rows.right.to(values.device)
        loss = functional.binary_cross_entropy_with_logits(values, right, reduction="sum") / self.count
        return LossValue(loss, {"agrees": ((values > 0) == (right > 0)).sum()})


def train_classic_rm(
    trainer: AnyTrainer,
    examples: Sequence[ValueExample],
    phase: PhaseConfig,
    rng: Random,
    log: Callable[[dict[str, Any]], None],
) -> None:
    """Train the trainer's value head and all below it. Raises ValueError where there is nothing to train on."""
    if not examples:
        raise ValueError("classic reward model: there are no labelled answers to train on")
    steps = optimizer_steps(examples, phase, rng)
    name = "classic reward model"
    with task(name, total=len(steps), unit="steps") as progress:
        for number, chosen in enumerate(steps):
            rows = value_rows(chosen, trainer.config.micro_batch_tokens)
            rate = learning_rate(phase, number, len(steps))
            result = trainer.step(rows, BinaryCrossEntropy(len(chosen)), rate)
            agrees = float(result.sums["agrees"]) / len(chosen)
            log({f"{name}/loss": result.loss, f"{name}/gradient_norm": result.gradient_norm, f"{name}/rate": rate})
            progress.advance(1)
            progress.note(f"loss {result.loss:.3f}, {agrees:.0%} judged as labelled")
