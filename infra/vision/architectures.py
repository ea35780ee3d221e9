"""Which checkpoints read images, by their config.json alone, without loading transformers: a plan asks it, too.

Only architectures that were held against packed rows, against the engine and against each other (docs/vision.md) are
taken; a checkpoint of another one that transformers has as a language model is read as that, by its text alone.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

IMAGE_MODELS = (
    "Qwen2_5_VLForConditionalGeneration",
    "Qwen3VLForConditionalGeneration",
    "Idefics3ForConditionalGeneration",
)
"""Architectures whose images are read."""

_IMAGE_TOKENS = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
"""Keys of config.json with tokens that stand for images or around them."""


def architecture(config: Mapping[str, Any]) -> str:
    """The one architecture that a config.json names; empty where it names none or several."""
    names = config.get("architectures") or []
    return str(names[0]) if isinstance(names, list) and len(names) == 1 else ""


def reads_images(config: Mapping[str, Any]) -> bool:
    """Whether a checkpoint with this config.json reads images."""
    return architecture(config) in IMAGE_MODELS


def folder_reads_images(model: Path) -> bool:
    """The same of the checkpoint in a folder."""
    path = model / "config.json"
    return path.is_file() and reads_images(json.loads(path.read_bytes()))


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
