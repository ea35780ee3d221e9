"""Which checkpoints read images, and what of them is vision and what is language.

Only architectures that were held against packed rows, against the engine and against each other (docs/vision.md) are
taken; a checkpoint of another one that transformers has as a language model is read as that, by its text alone.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM, AutoModelForImageTextToText
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
)

from infra.configs import Frozen

IMAGE_MODELS = (
    "Qwen2_5_VLForConditionalGeneration",
    "Qwen3VLForConditionalGeneration",
    "Idefics3ForConditionalGeneration",
)
"""Architectures whose images are read."""

_TOWERS = ("model.visual.", "model.vision_model.", "model.connector.")
"""How the names of weights begin that make features of an image's pixels; all others are the language model's."""

_IMAGE_TOKENS = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
"""Keys of config.json with tokens that stand for images or around them."""


def architecture(config: Mapping[str, Any]) -> str:
    """The one architecture that a config.json names; empty where it names none or several."""
    names = config.get("architectures") or []
    return str(names[0]) if len(names) == 1 else ""


def reads_images(config: Mapping[str, Any]) -> bool:
    """Whether a checkpoint with this config.json reads images."""
    return architecture(config) in IMAGE_MODELS


def folder_reads_images(model: Path) -> bool:
    """The same of the checkpoint in a folder."""
    path = model / "config.json"
    return path.is_file() and reads_images(json.loads(path.read_bytes()))


def is_other_image_model(name: str) -> bool:
    """Whether transformers has this architecture for images alone, and it is none that is read here."""
    return (
        name in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES.values()
        and name not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values()
        and name not in IMAGE_MODELS
    )


def model_class(config: Mapping[str, Any]) -> Any:
    """transformers' class that loads it."""
    return AutoModelForImageTextToText if reads_images(config) else AutoModelForCausalLM


def attention(config: Mapping[str, Any], language: str) -> str | dict[str, str]:
    """`attn_implementation` with this attention in the language model. A tower attends to all of an image, which
    torch's own attention computes image by image."""
    return {"text_config": language, "vision_config": "sdpa"} if reads_images(config) else language


def image_tokens(model: Path) -> tuple[int, ...]:
    """Tokens that only prompts may have, sorted; none for a checkpoint that reads text alone.

    A response with one of them would ask for the features of an image that is not there: the engine does not sample
    them, and the trainer's log-probabilities leave them out in the same way.
    """
    path = model / "config.json"
    config = json.loads(path.read_bytes()) if path.is_file() else {}
    if not reads_images(config):
        return ()
    return tuple(sorted({token for key in _IMAGE_TOKENS if isinstance(token := config.get(key), int)}))


def is_vision(name: str) -> bool:
    """Whether a weight, by its name in transformers' model, is the vision tower's or its projection's."""
    return name.startswith(_TOWERS)


def freeze(parameters: Iterable[tuple[str, Any]], part: Frozen) -> None:
    """Take one part of a model's named parameters out of training. Raises ValueError where nothing would be left."""
    left = 0
    for name, parameter in parameters:
        if part != "none" and is_vision(name) == (part == "vision"):
            parameter.requires_grad = False
        else:
            left += 1
    if not left:
        raise ValueError(f"freeze: {part} leaves nothing of this model to train: set it to none")
