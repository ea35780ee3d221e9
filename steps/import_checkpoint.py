"""Import: the pretrained base that the recipe starts from (report §2.5.1 and appendix B).

The report pretrains its own vision-language base, cools it down, and activates long context from 4,096 over 32,768 to
131,072 tokens with a RoPE base of 1,000,000. This stage does none of that: it takes a base checkpoint in the Hugging
Face format from a folder, from S3 or from the hub, proves that it is whole (steps/checkpoint.py), and records where it
came from and the digest of every file. What remains of long-context activation is that the context length and the RoPE
base can be raised; the weights are not trained for it here, the long phase of SFT does that. Text models only so far.

    longhaul run --only import --config configs/nano.yaml
"""

import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from infra.files import folder_written_aside, write_text_atomically
from infra.store.hub import download_repository
from infra.store.manifest import FileEntry, Manifest
from infra.store.s3 import download_folder
from steps.checkpoint import CheckedCheckpoint, CheckpointRefused, belongs, check_checkpoint, load_config, select_files
from steps.configs.import_checkpoint import ImportConfig

__all__ = [
    "CheckedCheckpoint",
    "CheckpointRefused",
    "ImportConfig",
    "ImportResult",
    "check_checkpoint",
    "import_checkpoint",
]


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
    original_context_length: int
    """In tokens, as it came."""
    files: tuple[FileEntry, ...]
    """Path, bytes and SHA-256 of every file written."""
    left_out: tuple[str, ...]
    """Files at the source that are not part of the checkpoint, pickled weights among them; whole folders end in '/'."""


def import_checkpoint(
    config: ImportConfig, destination: Path, report: Callable[[str], None] = LOGGER.info
) -> ImportResult:
    """Bring a checkpoint to the folder `destination`, checked, whole or not at all.

    `report` gets lines about progress. Raises CheckpointRefused naming the file that is wrong and the way
    out, StoreError (infra.store.store) where the source cannot be had, FileExistsError where `destination`
    has files already.
    """
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise FileExistsError(f"{destination} exists already: import into a new or empty folder")
    with folder_written_aside(destination) as aside:
        source, left_out = _bring(config, aside, report)
        if left_out:
            report(f"left out of {source}: {', '.join(left_out)}")
        original = load_config(aside).get_text_config().max_position_embeddings
        if config.context_length is not None:
            _raise_context(aside, config.context_length, config.rope_theta)
            report(f"context raised from {original} to {config.context_length} tokens")
        checked = check_checkpoint(aside)
        report(f"{checked.architecture} with {checked.parameters:,} parameters is whole")
        files = Manifest.of(aside).files
    return ImportResult(
        source=source,
        architecture=checked.architecture,
        parameters=checked.parameters,
        context_length=checked.context_length,
        original_context_length=original,
        files=files,
        left_out=left_out,
    )


def _bring(config: ImportConfig, folder: Path, report: Callable[[str], None]) -> tuple[str, tuple[str, ...]]:
    """Put the checkpoint's files into the folder; returns where they came from and what was left out."""
    place = Path(config.checkpoint).expanduser()
    left_out: list[str] = []
    if config.checkpoint.startswith("s3://"):
        source = config.checkpoint
        report(f"downloading {source}")
        left_out = download_folder(source, folder, belongs)
        place = folder
    elif place.is_dir():
        if config.revision is not None:
            raise CheckpointRefused(
                f"revision {config.revision!r} is for a checkpoint on the hub, and {place} is a folder"
            )
        source = str(place.absolute())
    elif _may_be_on_the_hub(config.checkpoint):
        report(f"downloading {config.checkpoint} from the hub")
        snapshot = download_repository(config.checkpoint, config.revision, belongs)
        source = f"hf://{config.checkpoint}@{snapshot.commit}"
        place, left_out = snapshot.folder, snapshot.left_out
    else:
        raise CheckpointRefused(f"{place} is not a folder: give a folder, s3://bucket/prefix, or owner/name on the hub")
    chosen = select_files(place, left_out)
    names = sorted(path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file())
    unused = [name for name in names if name not in set(chosen)]
    for name in unused if place == folder else ():
        (folder / name).unlink()
    for name in chosen if place != folder else ():
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(place / name, folder / name)
    return source, _summary([*left_out, *unused])


def _may_be_on_the_hub(name: str) -> bool:
    parts = name.split("/")
    return len(parts) <= 2 and all(part and part[0] not in ".~" for part in parts)


def _summary(names: list[str]) -> tuple[str, ...]:
    """Names with the files of a folder (.git, onnx, …) taken together."""
    return tuple(sorted({name if "/" not in name else name.split("/")[0] + "/" for name in names}))


def _raise_context(folder: Path, context_length: int, rope_theta: float | None) -> None:
    config = load_config(folder)
    text = config.get_text_config()
    own = text.max_position_embeddings
    if context_length < own:
        raise CheckpointRefused(
            f"config.json: context_length {context_length} is below the checkpoint's {own}: leave it out, and limit "
            "the length of responses where they are sampled"
        )
    rope = getattr(text, "rope_parameters", None) or {}
    if rope.get("rope_type") != "default":
        raise CheckpointRefused(
            f"config.json: rope_parameters is {rope or 'missing'}, and the context of plain RoPE alone can be raised: "
            "edit the checkpoint's config.json, and leave context_length out"
        )
    if context_length == own:
        if rope_theta not in (None, rope["rope_theta"]):
            raise CheckpointRefused(
                f"config.json: rope_theta {rope_theta} would replace {rope['rope_theta']} without a longer context "
                f"than the checkpoint's {own}, which only damages the model: leave it out"
            )
        return
    text.max_position_embeddings = context_length
    if rope_theta is not None:
        rope["rope_theta"] = rope_theta
    config.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    if path.is_file():
        # Otherwise the tokenizer would cut at, or warn of, the old length; so does vLLM.
        settings = json.loads(path.read_bytes())
        if (settings.get("model_max_length") or context_length) < context_length:
            settings["model_max_length"] = context_length
            write_text_atomically(path, json.dumps(settings, indent=2, ensure_ascii=False) + "\n")
