"""A Qwen2 of a few thousand weights, and a DeepSpeed trainer around it."""

from pathlib import Path

import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from infra.configs import TrainerConfig
from infra.training.trainer import Trainer

VOCABULARY = 64


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        tie_word_embeddings=True,
        initializer_range=0.2,  # far from uniform, so that a leak between examples would show
    )
    folder = tmp_path_factory.mktemp("tiny")
    Qwen2ForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture
def tiny_model(tiny_folder: Path) -> Qwen2ForCausalLM:
    return Qwen2ForCausalLM.from_pretrained(tiny_folder, attn_implementation="sdpa", dtype=torch.float32)


@pytest.fixture(scope="session")
def _session_trainer(tiny_folder: Path) -> Trainer:
    return Trainer(tiny_folder, TrainerConfig(micro_batch_tokens=64), seed=0)


@pytest.fixture
def tiny_trainer(_session_trainer: Trainer, tiny_folder: Path) -> Trainer:
    _session_trainer.load_weights(tiny_folder)
    return _session_trainer
