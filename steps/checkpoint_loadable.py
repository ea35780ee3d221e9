"""Whether a folder can be opened as a model at all, before an engine or a server starts on it and fails in other words.

Far less than import checks (steps/checkpoint.py): no value of a tensor is read, and whatever vLLM can load passes, also
what cannot be trained.
"""

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open
from transformers import AutoConfig

from steps.chat import Chat
from steps.checkpoint_files import INDEX, TOKENIZERS
from steps.checkpoint_refused import CheckpointRefused, refusing


def check_loadable(folder: Path) -> None:
    """Raises CheckpointRefused naming the file that is missing or damaged, and the way out."""
    if not (folder / "config.json").is_file():
        raise CheckpointRefused(
            f"{folder}: config.json is missing: give the folder of a checkpoint in the Hugging Face format"
        )
    reason = "transformers cannot read it; use an architecture that it has"
    if b'"auto_map"' in (folder / "config.json").read_bytes():
        reason = (
            f"auto_map asks to run code that comes with the checkpoint, which is never done, and without it {reason}"
        )
    with refusing(f"{folder}: config.json", reason):
        AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    weights = {path.name for path in folder.glob("*.safetensors")}
    if (folder / INDEX).is_file():
        with refusing(f"{folder}: {INDEX}", "it is not an index of shards; download it again"):
            weights |= set(json.loads((folder / INDEX).read_bytes())["weight_map"].values())
    if not weights:
        raise CheckpointRefused(f"{folder}: there is no *.safetensors file: give a folder with weights in safetensors")
    for name in sorted(weights):
        if not (folder / name).is_file():
            raise CheckpointRefused(f"{folder}: {name} is missing, and {INDEX} lists it: download it again")
        try:
            with safe_open(folder / name, "pt"):
                pass
        except SafetensorError as error:
            raise CheckpointRefused(f"{folder}: {name} is truncated or damaged ({error}); download it again") from error
    # transformers makes up an empty tokenizer where there is none.
    if not any(all((folder / name).is_file() for name in names) for names in TOKENIZERS):
        raise CheckpointRefused(
            f"{folder}: tokenizer.json is missing, and so is every older form of it: take the tokenizer's files from "
            "the checkpoint that this one was made from"
        )
    with refusing(
        f"{folder}: tokenizer", "it cannot be loaded, or has no chat template; take its files from a whole one"
    ):
        Chat(folder)
