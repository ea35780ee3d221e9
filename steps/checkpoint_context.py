"""How far the context of a checkpoint can be raised, by its config.json: the plan asks this before import does."""

from collections.abc import Mapping
from typing import Any

from infra.inference.context import longest_context, rope_settings, text_config
from steps.checkpoint_refused import CheckpointRefused

PRESCALED = ("yarn", "llama3")
"""Kinds of RoPE that scale by a factor from `original_max_position_embeddings`, whatever the context is."""


def check_raised_context(config: Mapping[str, Any], context_length: int, rope_theta: float | None) -> None:
    """Raises CheckpointRefused for a context that a config.json's positions do not reach, or a base beside a scaling.

    `rope_theta` is the base to go with the raised context; None leaves the checkpoint's.
    """
    content = dict(config)
    own = longest_context(content)
    if own is None:
        return
    if context_length < own:
        raise CheckpointRefused(
            f"config.json: context_length {context_length} is below the checkpoint's {own}: leave it out, and limit "
            "the length of responses where they are sampled"
        )
    text = text_config(content)
    rope, *by_layer = rope_settings(content)
    kind = "unknown" if by_layer else rope["rope_type"]
    theta = rope.get("rope_theta", text.get("rope_theta"))
    if rope_theta not in (None, theta) and (context_length == own or kind != "default"):
        raise CheckpointRefused(
            f"config.json: rope_theta {rope_theta} would replace {theta} without a longer context "
            f"than the checkpoint's {own}, or beside its {kind} scaling, which only damages the model: leave it out"
        )
    if context_length == own:
        return
    if kind in PRESCALED:
        most = int(rope["factor"] * rope.get("original_max_position_embeddings", text["max_position_embeddings"]))
        most = max(most, own)  # Llama 3's kind counts its factor from a shorter length than it is for
        if context_length > most:
            raise CheckpointRefused(
                f"config.json: context_length {context_length} is above the {most} tokens that its {kind} RoPE scales "
                "to: lower it, or raise rope_parameters.factor in the checkpoint's config.json"
            )
    elif kind != "default":
        raise CheckpointRefused(
            f"config.json: context_length {context_length} is above the checkpoint's {own}, and its {kind} RoPE does "
            "not reach further: leave context_length out, or raise rope_parameters.factor in the checkpoint's "
            "config.json where it has one (linear)"
        )
