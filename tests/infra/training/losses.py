"""What test_trainer_ranks.py trains on: a module of its own, for the ranks to find by its name."""

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed
from transformers import PreTrainedModel

from infra.training.interface import LossValue
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


@dataclass(frozen=True)
class WithGradients:
    """A loss whose sums hold its gradient by each parameter's name, added up over ranks and micro-batches.

    Parameters are found through the graph of the loss, and their names in the model that has them: a loss is given
    neither. What it returns is filled during the backward pass, which the trainer takes before it reads the sums.
    """

    loss: Callable[[Tensor, Any], LossValue]
    shared: bool
    """Whether ranks share rows: each then has a part of the gradient."""

    def __call__(self, logprobs: Tensor, batch: Any) -> LossValue:
        value = self.loss(logprobs, batch)
        leaves = list(_leaves(value.loss))
        named = _named_parameters(leaves)
        return LossValue(value.loss, {name: self._filled(parameter) for name, parameter in named.items()})

    def _filled(self, parameter: Tensor) -> Tensor:
        result = torch.zeros_like(parameter, requires_grad=False)

        def fill(gradient: Tensor) -> None:
            # The trainer multiplies the loss by the ranks, since DeepSpeed takes their mean.
            result.copy_(gradient / distributed.get_world_size())
            if self.shared:
                distributed.all_reduce(result)
            handle.remove()

        handle = parameter.register_hook(fill)
        return result


_KNOWN: list[PreTrainedModel] = []


def _named_parameters(leaves: Sequence[Tensor]) -> dict[str, Tensor]:
    """The parameters of the model that has these, by name."""
    chosen = {id(leaf) for leaf in leaves}
    if not any(chosen <= {id(one) for one in model.parameters()} for model in _KNOWN):
        gc.unfreeze()  # what was frozen (infra/inference/engine.py does that) is not listed
        # By type: some objects compute their class when they are asked for it.
        _KNOWN[:] = [one for one in gc.get_objects() if issubclass(type(one), PreTrainedModel)]
    model = next(model for model in _KNOWN if chosen <= {id(one) for one in model.parameters()})
    return dict(model.named_parameters())


def _leaves(tensor: Tensor) -> Iterator[Tensor]:
    """The parameters that a tensor was computed from."""
    waiting, seen = [tensor.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            yield node.variable
        waiting += [following for following, _ in node.next_functions]


class FitValue:
    """A loss of a value head's values, one of each row."""

    def __call__(self, values: Tensor, batch: PackedRows) -> LossValue:
        return LossValue((values - 1).square().sum())


class Endless:
    """A loss that takes longer than any test."""

    def __call__(self, logprobs: Tensor, batch: PackedRows) -> LossValue:
        time.sleep(600)
        return LossValue(logprobs.sum())
