"""What test_trainer_ranks.py trains on: a module of its own, for the ranks to find by its name."""

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from infra.training.trainer import LossValue
from steps.packing import PackedRows, pack
from steps.token_example import TokenExample

ROWS = list(pack([TokenExample(list(range(5 + i, 45 + 2 * i)), 4) for i in range(3)], 64, 1))
"""Three micro-batches: two ranks have an uneven number of them."""


@dataclass(frozen=True)
class Poisoned:
    """A loss that is NaN on one micro-batch, by its place; it counts how often it saw each."""

    place: int | None

    def __call__(self, logprobs: Tensor, batch: PackedRows) -> LossValue:
        (here,) = [place for place, rows in enumerate(ROWS) if torch.equal(rows.tokens, batch.tokens)]
        seen = torch.zeros(len(ROWS), dtype=torch.int64)
        seen[here] = 1
        return LossValue(-logprobs.mean() * (float("nan") if here == self.place else 1.0), {"seen": seen})


class Endless:
    """A loss that takes longer than any test."""

    def __call__(self, logprobs: Tensor, batch: PackedRows) -> LossValue:
        time.sleep(600)
        return LossValue(logprobs.sum())
