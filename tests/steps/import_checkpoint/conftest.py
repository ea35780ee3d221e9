"""Tiny checkpoints for each test to spoil."""

import shutil
from pathlib import Path

import pytest
from transformers import Qwen2Config

from tests.steps.import_checkpoint.small_checkpoint import SMALL, save_model


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints to copy: tied and untied embeddings, one file and several."""
    folder = tmp_path_factory.mktemp("made")
    save_model(folder / "tied", Qwen2Config(**SMALL, tie_word_embeddings=True))
    save_model(folder / "sharded", Qwen2Config(**SMALL, tie_word_embeddings=False), max_shard_size="20KB")
    return folder


@pytest.fixture
def base(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made / "tied", tmp_path / "base")


@pytest.fixture
def sharded(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made / "sharded", tmp_path / "sharded")
