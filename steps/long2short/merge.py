"""Model merging (§2.4): average the weights of the long-CoT model and of a short one; nothing is trained."""

from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file


class MergeRefused(ValueError):
    """The two models cannot be averaged."""


def _shards(model: Path) -> dict[str, Path]:
    """Which safetensors file holds each tensor."""
    found: dict[str, Path] = {}
    for path in sorted(model.glob("*.safetensors")):
        with safe_open(path, "pt") as shard:
            found |= dict.fromkeys(shard.keys(), path)
    return found


def _shape(path: Path, name: str) -> tuple[int, ...]:
    with safe_open(path, "pt") as shard:
        return tuple(shard.get_slice(name).get_shape())


def merge_weights(long: Path, short: Path, long_weight: float, destination: Path) -> None:
    """Write the weighted average of two checkpoints into `destination`, shard by shard as `long` has them.

    Sums are taken in float32 and stored in the long model's type.

    Raises MergeRefused, naming the tensor, where names or shapes differ; nothing has been written then.
    """
    theirs = _shards(short)
    ours = _shards(long)
    if ours.keys() != theirs.keys():
        odd = sorted(ours.keys() ^ theirs.keys())[0]
        raise MergeRefused(f"only one of {long} and {short} has the tensor {odd}: they are different architectures")
    if not ours:
        raise MergeRefused(f"{long} has no *.safetensors file with a tensor in it")
    for name, path in ours.items():
        mine, yours = _shape(path, name), _shape(theirs[name], name)
        if mine != yours:
            raise MergeRefused(f"{name} is {mine} in {long} and {yours} in {short}")
    destination.mkdir(parents=True, exist_ok=True)
    for path in sorted(set(ours.values())):
        merged = {}
        with safe_open(path, "pt") as shard:
            for name in shard.keys():  # noqa: SIM118  (safe_open is no mapping)
                mine = shard.get_tensor(name)
                with safe_open(theirs[name], "pt") as other:
                    yours = other.get_tensor(name)
                average = long_weight * mine.to(torch.float32) + (1 - long_weight) * yours.to(torch.float32)
                merged[name] = average.to(mine.dtype)
            metadata = shard.metadata()
        save_file(merged, destination / path.name, metadata)
