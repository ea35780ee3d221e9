"""Import: the pretrained base that the recipe starts from (report §2.5.1 and appendix B).

The report pretrains its own vision-language base, cools it down, and activates long context from 4,096 over 32,768 to
131,072 tokens with a RoPE base of 1,000,000. This stage does none of that: it takes a base checkpoint in the Hugging
Face format, wherever it came from (infra/store/sources.py), proves that it is whole (steps/checkpoint.py), and records
where it came from. What remains of long-context activation is that the context length and the RoPE
base can be raised (with yarn and llama3, the context up to what they scale to); the weights are not trained for it
here, the long phase of SFT does that. Checkpoints that read images are imported with their processor
(steps/checkpoint_images.py).

    longhaul run --only import --config configs/nano.yaml
"""

import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from infra.files import folder_written_aside, write_text_atomically
from infra.store.source import Source
from steps.checkpoint import check_checkpoint, context_of, load_config, select_files
from steps.checkpoint_context import check_raised_context
from steps.checkpoint_images import SIDES, ImageCheck
from steps.checkpoint_prompt import read_template, write_prompt, write_template
from steps.checkpoint_repairs import repair_checkpoint
from steps.configs.import_checkpoint import ImportConfig

LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImportResult:
    """What was imported, for the lineage."""

    source: str
    """Where it came from: a folder's absolute path, an s3:// address, or hf://owner/name@commit."""
    architecture: str
    parameters: int
    """Number of weights; tied ones count once."""
    context_length: int
    """In tokens, after raising."""
    system_prompt: str
    """What the chat template writes before each prompt by itself."""
    original_context_length: int
    """In tokens, as it came."""
    left_out: tuple[str, ...]
    """Files at the source that are not part of the checkpoint, pickled weights among them; whole folders end in '/'."""
    images: ImageCheck | None
    """How images are read; None for a model of text alone."""


def import_checkpoint(
    source: Source,
    config: ImportConfig,
    destination: Path,
    report: Callable[[str], None] = LOGGER.info,
    chat_template: Path | None = None,
) -> ImportResult:
    """Copy the checkpoint in the folder of `source` to the folder `destination`, checked, whole or not at all.

    `report` takes progress in one line each; `chat_template` is a file that replaces the checkpoint's.

    Raises CheckpointRefused naming the file that is wrong and the way out, FileExistsError where `destination` has
    files already.
    """
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise FileExistsError(f"{destination} exists already: import into a new or empty folder")
    with folder_written_aside(destination) as aside:
        left_out = _copy(source, aside)
        if left_out:
            report(f"left out of {source.address}: {', '.join(left_out)}")
        if chat_template is not None:
            write_template(aside, read_template(chat_template))
        repair_checkpoint(aside, report)
        write_prompt(aside, config, report)
        original = context_of(load_config(aside))
        if config.context_length is not None:
            _raise_context(aside, config.context_length, config.rope_theta)
            report(f"context raised from {original} to {config.context_length} tokens")
        checked = check_checkpoint(aside)
        if checked.unusable_tokens:
            report(f"tokens without an embedding, refused in data: {', '.join(checked.unusable_tokens)}")
        if checked.system_prompt:
            report(f"the chat template begins each prompt with a text of its own: {checked.system_prompt[:200]!r}")
        if checked.images:
            tokens = " and ".join(map(str, checked.images.tokens))
            sizes = " and ".join(f"{width} × {height}" for width, height in SIDES)
            report(f"images are read by {checked.images.processor}: {tokens} tokens for {sizes} pixels")
        report(f"{checked.architecture} with {checked.parameters:,} parameters is whole")
    return ImportResult(
        source=source.address,
        architecture=checked.architecture,
        parameters=checked.parameters,
        context_length=checked.context_length,
        system_prompt=checked.system_prompt,
        original_context_length=original,
        left_out=left_out,
        images=checked.images,
    )


def _copy(source: Source, folder: Path) -> tuple[str, ...]:
    """Copy the files that make up the checkpoint; returns what was left out."""
    chosen = select_files(source.path, list(source.left_out))
    names = sorted(path.relative_to(source.path).as_posix() for path in source.path.rglob("*") if path.is_file())
    for name in chosen:
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(source.path / name, folder / name)
    return _summary([*source.left_out, *(name for name in names if name not in set(chosen))])


def _summary(names: list[str]) -> tuple[str, ...]:
    """Names with the files of a folder (.git, onnx, …) taken together."""
    return tuple(sorted({name if "/" not in name else name.split("/")[0] + "/" for name in names}))


def _raise_context(folder: Path, context_length: int, rope_theta: float | None) -> None:
    config = load_config(folder)
    text = config.get_text_config()
    check_raised_context(config.to_dict(), context_length, rope_theta)
    if context_length == context_of(config):
        return
    rope = getattr(text, "rope_parameters", None) or {}
    if rope_theta is not None and rope.get("rope_type") == "default":
        rope["rope_theta"] = rope_theta
    text.max_position_embeddings = context_length
    config.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    if path.is_file():
        # Otherwise the tokenizer would cut at, or warn of, the old length; so does vLLM.
        settings = json.loads(path.read_bytes())
        if (settings.get("model_max_length") or context_length) < context_length:
            settings["model_max_length"] = context_length
            write_text_atomically(path, json.dumps(settings, indent=2, ensure_ascii=False) + "\n")
