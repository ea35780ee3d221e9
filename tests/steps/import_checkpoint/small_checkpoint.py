"""Tiny real checkpoints, and ways to spoil them."""

import json
import pickle
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast
from transformers.modeling_utils import PreTrainedModel

from infra.store.sources import bring, resolve_source
from steps.checkpoint_files import belongs
from steps.configs.import_checkpoint import ImportConfig
from steps.import_checkpoint import ImportResult, import_checkpoint

CONTEXT = 64
SMALL: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT,
}
OTHER_FILES = {
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
}


def save_tokenizer(folder: Path, **options: Any) -> None:
    letters = "abcdefghijklmnopqrstuvwxyz0123456789 +=?"
    vocabulary = {token: number for number, token in enumerate(["<end>", "<user>", "<unknown>", *letters])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unknown>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    settings = {
        "eos_token": "<end>",
        "unk_token": "<unknown>",
        "additional_special_tokens": ["<user>"],
        "model_max_length": CONTEXT,
        "chat_template": "{% for message in messages %}<user>{{ message.content }}<end>{% endfor %}",
    }
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **(settings | options)).save_pretrained(folder)


def save_model(folder: Path, config: Any, **options: Any) -> PreTrainedModel:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(folder, **options)
    save_tokenizer(folder)
    return model


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def edit_weights(path: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


class Bomb:
    """Unpickling it creates the file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def only_a_pickle(base: Path) -> None:
    (base / "model.safetensors").unlink()
    (base / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb(base / "exploded")))


def import_at(config: ImportConfig, destination: Path, report: Callable[[str], None] = print) -> ImportResult:
    """Import what lies at the address that a configuration names."""
    with tempfile.TemporaryDirectory() as aside:
        cache = Path(aside) / "digests.json"
        source = resolve_source("folder", config.checkpoint, cache, config.revision, belongs)
        return import_checkpoint(bring(source, Path(aside) / "downloads"), config, destination, report)
