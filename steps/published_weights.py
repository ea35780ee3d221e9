"""Weights as they are published: in the number format of the checkpoint that was imported.

Between stages weights stay as the trainer has them (float32, by default), so that nothing is rounded on the way.
"""

import json
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

CONFIG = "config.json"


def dtype_of(folder: Path) -> str | None:
    """The number format that a checkpoint's configuration names, such as `bfloat16`."""
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    dtype = config.get("dtype") or config.get("torch_dtype")
    return dtype if isinstance(dtype, str) and isinstance(getattr(torch, dtype, None), torch.dtype) else None


def in_dtype(folder: Path, dtype: str, target: Path) -> dict[str, Path]:
    """The files of a checkpoint that have to change for another number format, written to `target`, by their path."""
    files: dict[str, Path] = {}
    size = 0
    for source in sorted(folder.glob("*.safetensors")):
        with safe_open(source, "pt") as shard:
            metadata = shard.metadata() or {}
            names = list(shard.keys())
            tensors = {name: _cast(shard.get_tensor(name), getattr(torch, dtype)) for name in names}
        size += sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
        files[source.name] = target / source.name
        save_file(tensors, files[source.name], metadata)
    for source in folder.glob("*.safetensors.index.json"):
        index = json.loads(source.read_text(encoding="utf-8"))
        index["metadata"] = {**index.get("metadata", {}), "total_size": size}
        files[source.name] = target / source.name
        files[source.name].write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    config["torch_dtype" if "torch_dtype" in config else "dtype"] = dtype
    files[CONFIG] = target / CONFIG
    files[CONFIG].write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    return files


def _cast(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return tensor.to(dtype).contiguous() if tensor.is_floating_point() else tensor
