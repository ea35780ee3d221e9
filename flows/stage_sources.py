"""What stages read from outside the store, by the recipe's key that names it: data, checkpoints, files of one's own.

A stage's key holds what is there, and not where it lies.
"""

from pathlib import Path
from typing import Any

from flows.checkpoint_checks import check_checkpoint_fits
from infra.store.backend import SCHEME, StoreError
from infra.store.evaluation_stages import EVALUATE, is_evaluation
from infra.store.sources import Kind, ResolvedSource, resolve_source, resolve_split
from steps.benchmark_rows import source_key
from steps.checkpoint_files import belongs
from steps.configs.data import images_key
from steps.configs.data_source import SourceConfig
from steps.recipe import Recipe
from steps.rewards.custom_source import function_fault

CUSTOM_FILE = "judging.custom.file"

CHAT_TEMPLATE = "import_checkpoint.chat_template"

OUTSIDE = {
    "data": ("sources.*.*.path", "sources.*.*.hub", "sources.*.*.images"),
    "import": ("checkpoint", "revision", "chat_template"),
    EVALUATE: ("benchmarks.*.path", "benchmarks.*.source.path", "benchmarks.*.source.hub", "benchmarks.*.source.name"),
    "long_cot_paths": ("teacher.checkpoint", "teacher.revision"),
}
"""By stage, the keys of its section that say where data outside the store lie; a * stands for each key or place."""


def sources_of(stage: str, recipe: Recipe, cache: Path, judges_with_a_function: bool) -> dict[str, ResolvedSource]:
    """What a stage reads from outside, as it is now.

    Raises StoreError naming the key, and LonghaulError for a checkpoint that other keys do not fit.
    """
    if stage == "data" and recipe.data.sources is not None:
        by_key = recipe.data.sources.by_key()
        sources = {key: _source(key, source, cache) for key, source in by_key.items()}
        folders = {images_key(key): source.images for key, source in by_key.items() if source.images}
        return sources | {key: _resolved(key, "folder", folder, cache) for key, folder in folders.items()}
    if stage == "import":
        key, own = "import_checkpoint.checkpoint", recipe.import_checkpoint
        check_checkpoint_fits(recipe)
        sources = {key: _resolved(key, "folder", own.checkpoint, cache, own.revision, belongs)}
        if own.chat_template is not None:
            sources[CHAT_TEMPLATE] = _resolved(CHAT_TEMPLATE, "file", own.chat_template, cache)
        return sources
    sources = {CUSTOM_FILE: _custom_reward(recipe, cache)} if judges_with_a_function else {}
    if is_evaluation(stage):
        sources |= _benchmarks(recipe, cache)
    if stage == "long_cot_paths" and recipe.long_cot_paths is not None:
        key, teacher = "long_cot_paths.teacher.checkpoint", recipe.long_cot_paths.teacher
        if teacher.checkpoint is not None:
            sources[key] = _resolved(key, "folder", teacher.checkpoint, cache, teacher.revision, belongs)
    return sources


def _custom_reward(recipe: Recipe, cache: Path) -> ResolvedSource:
    """The file of the function that judges. Raises StoreError for one that cannot, as far as its text says so."""
    custom = recipe.judging.custom
    assert custom is not None
    source = _resolved(CUSTOM_FILE, "file", custom.file, cache)
    if not source.address.startswith(SCHEME) and (fault := function_fault(Path(source.address), custom.function)):
        raise StoreError(f"{CUSTOM_FILE}: {fault}")
    return source


def _benchmarks(recipe: Recipe, cache: Path) -> dict[str, ResolvedSource]:
    """The rows of the benchmarks. Raises StoreError naming the key."""
    sources = {}
    for one in recipe.evaluation.benchmarks:
        key, path = source_key(one.name), one.path or one.source.path
        if path is not None:
            sources[key] = _resolved(key, "file", path, cache)
            continue
        try:
            sources[key] = resolve_split(one.source.hub or "", one.source.config, one.source.split)
        except StoreError as error:
            raise StoreError(f"{key}: {error}; or name a file with its rows (`path`)") from error
    return sources


def _source(key: str, source: SourceConfig, cache: Path) -> ResolvedSource:
    if source.hub is None:
        return _resolved(f"{key}.path", "file", source.path or "", cache)
    try:
        return resolve_split(source.hub, source.config, source.split)
    except StoreError as error:
        raise StoreError(f"{key}.hub: {error}") from error


def _resolved(key: str, kind: Kind, address: str, *more: Any) -> ResolvedSource:
    try:
        return resolve_source(kind, address, *more)
    except StoreError as error:
        raise StoreError(f"{key}: {error}") from error
