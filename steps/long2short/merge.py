"""Model merging (§2.4): average the weights of the long-CoT model and of a short one; nothing is trained.

The long model is that of RL, the short one that of vanilla SFT. The report averages them evenly; the long model's
share is the recipe's here, by default one half.

    longhaul run --only long2short/merge --config configs/nano.yaml
"""

from pathlib import Path
from typing import cast

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor


class MergeRefused(ValueError):
    """The two models cannot be averaged."""


def _shards(model: Path) -> dict[str, Path]:
    """Which safetensors file holds each tensor."""
    files: dict[str, Path] = {}
    for path in sorted(model.glob("*.safetensors")):
        with safe_open(path, "pt") as shard:
            files |= dict.fromkeys(shard.keys(), path)
    return files


def _shape(path: Path, name: str) -> tuple[int, ...]:
    with safe_open(path, "pt") as shard:
        return tuple(shard.get_slice(name).get_shape())


def _twin(files: dict[str, Path], name: str) -> str | None:
    """Another matrix of the same model with the same values; None where there is none, and for a vector: norms that are
    all ones are equal and not tied."""
    tensor = _tensor(files[name], name)
    if tensor.dim() < 2:
        return None
    for other, path in files.items():
        if other != name and _shape(path, other) == tuple(tensor.shape) and torch.equal(_tensor(path, other), tensor):
            return other
    return None


def _tensor(path: Path, name: str) -> Tensor:
    with safe_open(path, "pt") as shard:
        return cast(Tensor, shard.get_tensor(name))


def merge_weights(long: Path, short: Path, long_weight: float, destination: Path) -> None:
    """Write the weighted average of two checkpoints into `destination`, shard by shard as `long` has them.

    Sums are taken in float32 and stored in the long model's type.

    Raises MergeRefused, naming the tensor, where names or shapes differ; nothing has been written then.
    """
    twins: dict[str, str] = {}
    short_files = _shards(short)
    long_files = _shards(long)
    for unmatched in sorted(long_files.keys() ^ short_files.keys()):
        own, other = (long_files, short_files) if unmatched in long_files else (short_files, long_files)
        twin = _twin(own, unmatched)
        if twin is None or twin not in other:
            raise MergeRefused(f"only one of {long} and {short} has the tensor {unmatched}: their architectures differ")
        # A tied head that one of them saves twice: the other one's is its embedding.
        twins[unmatched] = twin
    if not long_files:
        raise MergeRefused(f"{long} has no *.safetensors file with a tensor in it")
    for name, path in long_files.items():
        short_name = twins.get(name, name)
        long_shape, short_shape = _shape(path, name), _shape(short_files[short_name], short_name)
        if long_shape != short_shape:
            raise MergeRefused(f"{name} is {long_shape} in {long} and {short_shape} in {short}")
    destination.mkdir(parents=True, exist_ok=True)
    for path in sorted(set(long_files.values())):
        merged = {}
        with safe_open(path, "pt") as shard:
            for name in shard.keys():  # noqa: SIM118  (safe_open is not a mapping)
                long_tensor = shard.get_tensor(name)
                short_name = twins.get(name, name)
                short_tensor = _tensor(short_files[short_name], short_name)
                average = long_weight * long_tensor.float() + (1 - long_weight) * short_tensor.float()
                merged[name] = average.to(long_tensor.dtype)
            metadata = shard.metadata()
        save_file(merged, destination / path.name, metadata)
