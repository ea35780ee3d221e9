"""What a context takes of an engine's KV cache, so that one that does not fit is refused before vLLM starts."""

import json
from pathlib import Path
from typing import Any

from infra.configs import EngineConfig
from infra.errors import LonghaulError

_WIDTHS = {"float32": 4, "bfloat16": 2}


def text_config(model: Path) -> dict[str, Any]:
    """The fields of a checkpoint's config.json that describe its language model."""
    content: dict[str, Any] = json.loads((model / "config.json").read_bytes())
    nested = content.get("text_config")
    return nested if isinstance(nested, dict) else content


def kv_bytes(model: Path, dtype: str, tensor_parallel: int = 1) -> int | None:
    """Bytes of KV cache for a token on each of an engine's devices; None where config.json does not say, and where a
    layer keeps less than the keys and values of every token (windows, recurrence, latent attention).
    """
    config = text_config(model)
    sliding = config.get("sliding_window") and config.get("use_sliding_window", True)
    kinds = set(config.get("layer_types") or ()) - {"full_attention"}
    if sliding or kinds or config.get("kv_lora_rank") or config.get("layers_block_type"):
        return None
    try:
        heads = int(config["num_attention_heads"])
        layers, keys = int(config["num_hidden_layers"]), int(config.get("num_key_value_heads") or heads)
        size = int(config.get("head_dim") or int(config["hidden_size"]) // heads)
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    return 2 * layers * max(1, keys // tensor_parallel) * size * _WIDTHS[dtype]


def check_kv_cache(model: Path, config: EngineConfig) -> None:
    """Raises LonghaulError, with the keys' names, for a KV cache that cannot hold one response of the context."""
    each = kv_bytes(model, config.dtype, config.tensor_parallel)
    if each is None or config.kv_cache_mb is None:
        return
    needed = -(-each * config.context // 2**20)
    if needed > config.kv_cache_mb:
        raise LonghaulError(
            f"engine.kv_cache_mb is {config.kv_cache_mb}, and one response of engine.context {config.context:,} tokens "
            f"takes {needed:,} MiB of it: raise engine.kv_cache_mb, or lower engine.context"
        )
