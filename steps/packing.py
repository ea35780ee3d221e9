"""Packing (§2.5.2): several examples share a training row, with no attention and no loss from one to another.

Positions start again at 0 with each example. Where one ends is stated by the examples' lengths, by which attention
(infra/training/attention.py) keeps them apart; `tests/steps/test_packing.py` holds packed log-probabilities against
unpacked ones.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from infra.training.attention import Lengths
from steps.token_example import TokenExample


@dataclass(frozen=True)
class PackedRows:
    """A micro-batch of packed examples."""

    tokens: Int[Tensor, "rows length"]
    """Padding is token 0."""
    positions: Int[Tensor, "rows length"]
    """0 at the start of each example. Padding continues from the example before it."""
    example_lengths: Lengths
    """For each row the lengths of its examples, in tokens, in order; padding is counted as part of the last."""
    owners: Int[Tensor, "rows length-1"]
    """Which example (its place in the packed list) the prediction at t belongs to; -1 where the predicted token is not
    a response token."""
    images: Sequence[Path] = field(default=(), kw_only=True)
    """Of all rows, in the order in which their tokens appear: of the first row first, and there of its first example.
    One that stands in several examples is there several times."""

    def per_example(self, values: Float[Tensor, "rows predictions"], count: int) -> Float[Tensor, "{count}"]:
        """Sum token values over each example's response."""
        owners = self.owners.to(values.device)
        inside = owners >= 0
        return values.new_zeros(count).index_add(0, owners[inside], values[inside])

    def on_responses(self, per_token: Sequence[Sequence[float]]) -> Float[Tensor, "rows predictions"]:
        """Lay out one value per response token, given per example, in the rows; 0 elsewhere."""
        values_at = torch.zeros(self.owners.numel())
        owners = self.owners.flatten()
        inside = torch.nonzero(owners >= 0).flatten()
        # An example's tokens stand in order within its row, so a stable sort by owner gives the order of `per_token`.
        order = torch.argsort(owners[inside], stable=True)
        present = owners[inside].unique().tolist()
        values_at[inside[order]] = torch.tensor([value for owner in present for value in per_token[owner]])
        return values_at.view(self.owners.shape)


def _bins(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Which examples share a row: first fit in order of decreasing length."""
    bins: list[list[int]] = []
    room: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if lengths[index] > capacity:
            raise ValueError(f"example {index} has {lengths[index]} tokens and does not fit a row of {capacity}")
        for place, left in enumerate(room):
            if lengths[index] <= left:
                bins[place].append(index)
                room[place] -= lengths[index]
                break
        else:
            bins.append([index])
            room.append(capacity - lengths[index])
    return bins


def pack(examples: Sequence[TokenExample], length: int, rows: int) -> Iterator[PackedRows]:
    """Pack examples into micro-batches of at most `rows` rows of `length` tokens.

    Raises ValueError for an example longer than a row.
    """
    bins = _bins([len(example.tokens) for example in examples], length)
    for start in range(0, len(bins), rows):
        chosen = bins[start : start + rows]
        used = max(sum(len(examples[i].tokens) for i in members) for members in chosen)
        tokens = torch.zeros(len(chosen), used, dtype=torch.long)
        positions = torch.zeros_like(tokens)
        owners = torch.full((len(chosen), used - 1), -1, dtype=torch.long)
        lengths = [[len(examples[i].tokens) for i in members] for members in chosen]
        for row, members in enumerate(chosen):
            at = 0
            for index in members:
                example = examples[index]
                end = at + len(example.tokens)
                tokens[row, at:end] = torch.tensor(example.tokens)
                positions[row, at:] = torch.arange(used - at)
                owners[row, at + example.prompt_length - 1 : end - 1] = index
                for first, last in example.prompts_inside:
                    owners[row, at + first - 1 : at + last - 1] = -1
                at = end
            lengths[row][-1] += used - at
        images = [image for members in chosen for index in members for image in examples[index].images]
        yield PackedRows(tokens, positions, lengths, owners, images=images)
