"""What a plan can say of a checkpoint before anything is copied or started, where its config.json can be read here."""

import json
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

from infra.errors import LonghaulError
from infra.inference.context import check_context, text_config
from infra.store.source import Source
from infra.vision.architectures import reads_images
from steps.checkpoint_context import check_raised_context
from steps.configs.data_source import ROLES
from steps.configs.import_checkpoint import ImportConfig
from steps.problem import MalformedRow
from steps.recipe import Recipe
from steps.row_images import UnreadImages
from steps.source_rows import read_source


def check_checkpoint_fits(recipe: Recipe) -> None:
    """Compare the recipe with the config.json of its checkpoint, in its folder or in the hub's cache.

    Raises LonghaulError, with the key's name, for a context that its positions do not reach, for heads that
    `trainer.sequence_parallel` does not divide, for images where the model reads text alone, and for what is not done
    with a model that reads images. A checkpoint that lies elsewhere is compared once it is imported.
    """
    own = recipe.import_checkpoint
    folder = _folder(own)
    if folder is None:
        return
    try:
        _check(folder, recipe)
    except LonghaulError:
        raise
    except (ValueError, TypeError, AttributeError, KeyError):
        return  # import has the better words for a configuration that cannot be read


def _check(folder: Path, recipe: Recipe) -> None:
    own = recipe.import_checkpoint
    config: dict[str, Any] = json.loads((folder / "config.json").read_bytes())
    if own.context_length is None:
        check_context(folder, recipe.engine)
    else:
        check_raised_context(config, own.context_length, own.rope_theta)
    fault = _not_done_with_images(recipe) if reads_images(config) else _images_fault(config, recipe) or _frozen(recipe)
    if fault is not None:
        raise LonghaulError(fault)
    text = text_config(config)
    queries = int(text["num_attention_heads"])
    if problem := recipe.trainer.uneven_heads(queries, int(text.get("num_key_value_heads") or queries)):
        raise LonghaulError(problem)


def images_fault(recipe: Recipe) -> str | None:
    """Why the recipe's data are not for its checkpoint: they have images and it reads text alone. None where its
    config.json cannot be read here."""
    folder = _folder(recipe.import_checkpoint)
    try:
        return None if folder is None else _images_fault(json.loads((folder / "config.json").read_bytes()), recipe)
    except (ValueError, TypeError, AttributeError):
        return None


def _images_fault(config: Any, recipe: Recipe) -> str | None:
    if reads_images(config) or not (place := first_image(recipe)):
        return None
    return (
        f"{place} has an image, and the model of import_checkpoint.checkpoint reads text alone: name a checkpoint that "
        "reads images, or leave such rows out"
    )


def _not_done_with_images(recipe: Recipe) -> str | None:
    """What the recipe asks for that a model which reads images is not trained with; the trainer would refuse it only
    where a stage comes to it."""
    if recipe.trainer.sequence_parallel > 1:
        return (
            f"trainer.sequence_parallel is {recipe.trainer.sequence_parallel}, and rows of a model that reads images "
            "are not shared by ranks: set it to 1, and divide rows among them with trainer.ranks"
        )
    if recipe.reward_models is not None:
        return (
            "reward_models: a classic reward model is not made of a model that reads images, and import_checkpoint."
            "checkpoint is one: take the section out, and set rl.reward to rules"
        )
    return None


def _frozen(recipe: Recipe) -> str | None:
    """The first key that freezes a part of a model which has no parts."""
    short = recipe.long2short
    frozen = {
        "trainer": recipe.trainer.freeze,
        "vanilla_sft": recipe.vanilla_sft.freeze,
        "long_cot_sft": recipe.long_cot_sft.freeze,
        "rl": recipe.rl.freeze,
        "long2short.shortest": short.shortest.freeze,
        "long2short.dpo": short.dpo.freeze,
        "long2short.rl": short.rl.freeze,
    }
    for key, part in frozen.items():
        if part not in (None, "none"):
            return (
                f"{key}.freeze is {part}, and the model of import_checkpoint.checkpoint reads text alone: "
                "take the key out, or name a checkpoint that reads images"
            )
    return None


_ROWS = 1000
"""Of each file, how many rows are looked at for images before anything runs. Later ones stop the stage that reads them
as prompts."""


def first_image(recipe: Recipe) -> str | None:
    """Where the recipe's data have their first image: a key, or a row of a file on this machine."""
    data = recipe.data
    if data.nano_world is not None:
        return "data.nano_world.vision" if data.nano_world.vision else None
    assert data.sources is not None
    for role in ROLES:
        for source in data.sources.of(role):
            path = Path(source.path or "").expanduser()
            if not path.is_file():
                continue
            # A file that cannot be read is for the data stage, which says why.
            with suppress(MalformedRow, OSError):
                for place, row in islice(read_source(Source(path, str(path)), source, role, UnreadImages()), _ROWS):
                    if not isinstance(row, MalformedRow) and row.images:
                        return place
    return None


def _folder(own: ImportConfig) -> Path | None:
    folder = Path(own.checkpoint).expanduser()
    if (folder / "config.json").is_file():
        return folder
    if own.checkpoint.startswith("s3://"):
        return None
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        cached = try_to_load_from_cache(own.checkpoint, "config.json", revision=own.revision)
    except HFValidationError:
        return None
    return Path(cached).parent if isinstance(cached, str) else None
