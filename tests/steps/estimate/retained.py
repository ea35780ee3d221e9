"""What a pass keeps for the backward pass, counted on a real module."""

from collections.abc import Callable

import torch
from torch import Tensor


def retained_bytes(module: torch.nn.Module, run: Callable[[], object]) -> int:
    """Bytes of all storages that autograd keeps while `run` calls the module, without those of its weights."""
    own = {parameter.untyped_storage().data_ptr() for parameter in module.parameters()}
    storages: dict[int, Tensor] = {}

    def note(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in own:
            storages[tensor.untyped_storage().data_ptr()] = tensor  # held, or its address would be used again
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        run()
    return sum(tensor.untyped_storage().nbytes() for tensor in storages.values())
