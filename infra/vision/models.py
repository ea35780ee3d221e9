"""Models that read images as transformers has them, and what of them is vision and what is language."""

from collections.abc import Iterable, Mapping
from typing import Any

from transformers import AutoModelForCausalLM, AutoModelForImageTextToText
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
)

from infra.configs import Frozen
from infra.vision.architectures import IMAGE_MODELS, reads_images

_TOWERS = ("model.visual.", "model.vision_model.", "model.connector.")
"""How the names of weights begin that make features of an image's pixels; all others are the language model's."""


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
