"""What a plan can say of a checkpoint before anything is copied or started, where its config.json can be read here."""

import json
from pathlib import Path
from typing import Any

from infra.errors import LonghaulError
from infra.inference.context import check_context, text_config
from steps.checkpoint_context import check_raised_context
from steps.configs.import_checkpoint import ImportConfig
from steps.recipe import Recipe


def check_checkpoint_fits(recipe: Recipe) -> None:
    """Compare the recipe with the config.json of its checkpoint, in its folder or in the hub's cache.

    Raises LonghaulError, with the key's name, for a context that its positions do not reach, and for heads that
    `trainer.sequence_parallel` does not divide. A checkpoint that lies elsewhere is compared once it is imported.
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
    text = text_config(config)
    queries = int(text["num_attention_heads"])
    if problem := recipe.trainer.uneven_heads(queries, int(text.get("num_key_value_heads") or queries)):
        raise LonghaulError(problem)


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
