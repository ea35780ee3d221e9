"""Sizes of a server that answers many: context and KV cache, by the checkpoint and the machine."""

from dataclasses import dataclass
from pathlib import Path

import psutil

from infra.errors import LonghaulError
from infra.inference.sizes import kv_bytes, text_config

_SMALLEST_CACHE = 256 * 2**20
_BLOCK = 32
"""Tokens of a block of the cache on a CPU."""


@dataclass(frozen=True)
class ServingSizes:
    """What a server on a CPU is started with."""

    context: int
    """Tokens."""
    kv_cache: int
    """Bytes."""
    positions: int
    """Tokens that the checkpoint has positions for."""


def serving_sizes(model: Path, context: int | None = None, free: int | None = None) -> ServingSizes | None:
    """Context and KV cache of a float32 server on a CPU: the checkpoint's whole context, or what a quarter of the free
    memory holds of it. None where config.json does not say what a token takes.

    Args:
        context: tokens, where a user wants so many; they may take all of the free memory.
        free: bytes; those of this machine by default.

    Raises:
        LonghaulError: for a `context` that the checkpoint or the memory has no room for.
    """
    each, positions = kv_bytes(model, "float32"), text_config(model).get("max_position_embeddings")
    if each is None or not isinstance(positions, int):
        return None
    free = psutil.virtual_memory().available if free is None else free
    if context is not None:
        if context > positions:
            raise LonghaulError(f"--context is {context:,}, and the checkpoint has positions for {positions:,} tokens")
        if context * each > free:
            raise LonghaulError(
                f"--context is {context:,}, for which the KV cache takes {context * each / 2**30:.1f} GiB, and "
                f"{free / 2**30:.1f} GiB are free: lower it"
            )
    else:
        context = min(positions, max(_BLOCK, free // 4 // each // _BLOCK * _BLOCK))
    # Room for four at once, where that is no more than a quarter of the memory.
    cache = max(min(4 * context * each, free // 4), (context + _BLOCK) * each, _SMALLEST_CACHE)
    return ServingSizes(context, cache, positions)
