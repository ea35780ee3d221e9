"""How long a context a checkpoint has, by its configuration, as engine and trainer both understand it.

RoPE can be scaled in several ways, and `max_position_embeddings` counts before the scaling for some, after it for
others. Two kinds depend on the length of what is computed at once, which the engine takes from its own settings and the
trainer from the row (measured: log-probabilities differ by 0.3 and by 8): with these the context ends where the scaling
begins.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from infra.configs import EngineConfig
from infra.errors import LonghaulError

BY_LENGTH = ("dynamic", "longrope")
"""Kinds of RoPE whose frequencies depend on the length of the sequence."""


def text_config(config: dict[str, Any]) -> dict[str, Any]:
    """The part of a config.json that describes the language model."""
    part = config.get("text_config")
    return part if isinstance(part, dict) else config


def rope_settings(config: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The RoPE of a config.json, each with the key `rope_type`; several where kinds of layers have their own."""
    text = text_config(config)
    rope = text.get("rope_parameters") or text.get("rope_scaling") or {}
    for each in (rope, *rope.values()):
        if isinstance(each, dict) and (each is rope or "rope_type" in each or "type" in each):
            yield {**each, "rope_type": each.get("rope_type", each.get("type", "default"))}


def longest_context(config: dict[str, Any]) -> int | None:
    """Tokens of the longest context that a config.json describes; None where it does not say."""
    text = text_config(config)
    positions = text.get("max_position_embeddings")
    if type(positions) is not int:
        return None
    longest = positions
    for rope in rope_settings(config):
        if rope["rope_type"] == "linear" and not str(text.get("model_type", "")).startswith("gemma3"):
            # vLLM's reading, and that of the models which have it: positions count before the scaling, but for Gemma 3.
            longest = int(positions * rope.get("factor", 1.0))
        if rope["rope_type"] == "longrope":
            original = rope.get("original_max_position_embeddings", text.get("original_max_position_embeddings"))
            longest = min(longest, original or longest)
    return longest


def check_context(model: Path, config: EngineConfig) -> None:
    """Refuse a context that the checkpoint does not have, which vLLM refuses by a variable of its own, or computes in
    another way than the trainer. Raises LonghaulError naming engine.context."""
    content: dict[str, Any] = json.loads((model / "config.json").read_bytes())
    longest = longest_context(content)
    if longest is not None and config.context > longest:
        scaled = sorted({rope["rope_type"] for rope in rope_settings(content)} & set(BY_LENGTH))
        way_out = ", or raise the checkpoint's with import_checkpoint.context_length"
        if scaled:
            way_out = f"; beyond that, engine and trainer compute its {scaled[0]} RoPE differently"
        raise LonghaulError(
            f"engine.context is {config.context}, and the checkpoint has positions for {longest} tokens: lower "
            f"engine.context{way_out}"
        )
    tokenizer = model / "tokenizer_config.json"
    if tokenizer.is_file():
        limit = json.loads(tokenizer.read_bytes()).get("model_max_length")
        if isinstance(limit, int) and config.context > limit:
            raise LonghaulError(
                f"engine.context is {config.context}, and tokenizer_config.json has model_max_length {limit}: lower "
                "engine.context, or raise model_max_length there if the model reads more"
            )
