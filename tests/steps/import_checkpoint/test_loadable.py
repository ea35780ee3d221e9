"""Folders that `longhaul sample` and `longhaul serve` refuse in one line before anything starts on them."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from steps.checkpoint_loadable import check_loadable
from steps.checkpoint_refused import CheckpointRefused
from tests.steps.import_checkpoint.small_checkpoint import edit

REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "no configuration": (lambda b: (b / "config.json").unlink(), r"config\.json is missing"),
    "cut off configuration": (lambda b: os.truncate(b / "config.json", 30), r"config\.json: transformers cannot read"),
    "unknown architecture": (
        lambda b: edit(b / "config.json", lambda c: c.update(model_type="nonsense")),
        r"config\.json: transformers cannot read",
    ),
    "code": (
        lambda b: edit(b / "config.json", lambda c: c.update(model_type="evil", auto_map={"AutoConfig": "m.C"})),
        r"config\.json: auto_map asks to run code .* never done",
    ),
    "no weights": (lambda b: (b / "model.safetensors").unlink(), r"no \*\.safetensors file"),
    "truncated": (lambda b: os.truncate(b / "model.safetensors", 20_000), r"model\.safetensors is truncated"),
    "no tokenizer": (lambda b: (b / "tokenizer.json").unlink(), r"tokenizer\.json is missing"),
    "broken tokenizer": (lambda b: (b / "tokenizer.json").write_text("{}"), "tokenizer: it cannot be loaded"),
    "no template": (lambda b: (b / "chat_template.jinja").unlink(), "no chat template"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_broken_folder_is_refused_in_one_line(base: Path, case: str) -> None:
    damage, message = REFUSED[case]
    damage(base)
    with pytest.raises(CheckpointRefused, match=message) as refused:
        check_loadable(base)
    assert str(base) in str(refused.value) and "\n" not in str(refused.value)


def test_a_missing_shard_is_named(sharded: Path) -> None:
    shard = sorted(sharded.glob("*.safetensors"))[1]
    shard.unlink()
    with pytest.raises(CheckpointRefused, match=f"{shard.name} is missing"):
        check_loadable(sharded)


def test_a_whole_folder_passes_and_so_does_one_that_cannot_be_trained(base: Path) -> None:
    check_loadable(base)
    quantised: dict[str, Any] = {"quant_method": "gptq", "bits": 4}
    edit(base / "config.json", lambda content: content.update(quantization_config=quantised))
    check_loadable(base)
