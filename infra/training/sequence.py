"""One training row over several ranks: each has a part of its tokens, and attention exchanges heads for tokens.

This is Ulysses (arXiv 2309.14509), by DeepSpeed: before attention the ranks of a group exchange, so that each has all
tokens of a share of the heads, and after it back. All else in a model is computed token by token.
"""

from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, distributed
from torch.nn import functional
from transformers import PreTrainedConfig

from infra.configs import TrainerConfig
from infra.errors import LonghaulError
from infra.training.attention import Attend, Exchanged, Lengths


def check_heads(config: PreTrainedConfig, trainer: TrainerConfig) -> None:
    """Raises LonghaulError, with the key's name, for a model whose heads cannot be shared out."""
    text = config.get_text_config()
    queries = text.num_attention_heads
    if problem := trainer.uneven_heads(queries, getattr(text, "num_key_value_heads", None) or queries):
        raise LonghaulError(problem)


@dataclass(frozen=True)
class RowPart:
    """What a rank has of a micro-batch whose rows are shared out."""

    tokens: Int[Tensor, "rows part"]
    positions: Int[Tensor, "rows part"]
    targets: Int[Tensor, "rows part"]
    """The token after each; PADDING after the last of the row."""
    example_lengths: Lengths
    """Of the whole rows, which are filled up to a multiple of the ranks."""


class SequenceGroup:
    """The ranks that share rows with this one. With a single rank nothing is exchanged."""

    def __init__(self, size: int) -> None:
        rank, world = distributed.get_rank(), distributed.get_world_size()
        self.size = size
        self.number, self.place = divmod(rank, size)
        """Which group it is, and this rank's place in it."""
        self.count = world // size
        # All ranks have to make all groups.
        groups: list[Any] = [
            distributed.new_group(range(first, first + size)) for first in range(0, world, size) if size > 1
        ]
        self._ranks = groups[self.number] if groups else None

    def part(self, tokens: Tensor, positions: Tensor, example_lengths: Lengths, padding: int) -> RowPart:
        """This rank's part of rows [rows, length]."""
        more = -tokens.shape[1] % self.size
        targets = functional.pad(tokens[:, 1:], (0, more + 1), value=padding)
        if more:
            tokens = functional.pad(tokens, (0, more), value=padding)
            following = positions[:, -1:] + torch.arange(1, more + 1, device=positions.device)
            positions = torch.cat([positions, following], 1)
            example_lengths = [[*row[:-1], row[-1] + more] for row in example_lengths]
        mine = slice(*(place * (tokens.shape[1] // self.size) for place in (self.place, self.place + 1)))
        return RowPart(tokens[:, mine], positions[:, mine], targets[:, mine], example_lengths)

    @property
    def exchanged(self) -> Exchanged | None:
        """What has attention computed on whole rows; None where rows are whole already."""
        return self._exchanged if self.size > 1 else None

    def _exchanged(self, attend: Attend, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """All tokens of a share of the heads, in place of a part of the tokens of all heads, and back."""
        from deepspeed.sequence.layer import DistributedAttention

        def tokens_first(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            return attend(query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2))

        exchange = DistributedAttention(tokens_first, self._ranks, scatter_idx=2, gather_idx=1)
        attended: Tensor = exchange(*(one.transpose(1, 2).contiguous() for one in (query, key, value)), batch_dim_idx=0)
        return attended

    def join(self, part: Float[Tensor, "rows part"], length: int) -> Float[Tensor, "rows {length}"]:
        """The first `length` values of whole rows, from the parts of all ranks.

        Its gradient is that of this rank's part: what follows has to be computed by all ranks alike.
        """
        if self.size == 1:
            return part[:, :length]
        return cast(Tensor, _Join.apply(part, self))[:, :length]


class _Join(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, part: Tensor, group: SequenceGroup) -> Tensor:
        ctx.group = group
        parts = [torch.empty_like(part) for _ in range(group.size)]
        distributed.all_gather(parts, part.contiguous(), group=group._ranks)
        return torch.cat(parts, 1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        return gradient.chunk(ctx.group.size, 1)[ctx.group.place].contiguous(), None
