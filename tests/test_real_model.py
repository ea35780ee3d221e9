"""SmolLM2-135M-Instruct: what works with the nano base works with a real model, its tokenizer and its chat template."""

import json
import subprocess
import sys
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from infra.store.source import Source
from steps.chat import Chat
from steps.configs.import_checkpoint import ImportConfig
from steps.import_checkpoint import import_checkpoint
from tests.processes import own_environment

ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.slow


def test_it_is_imported_whole_with_its_template_and_its_end_token(smollm2: Path, tmp_path: Path) -> None:
    reports: list[str] = []
    result = import_checkpoint(
        Source(smollm2, str(smollm2)), ImportConfig(checkpoint=str(smollm2)), tmp_path / "model", reports.append
    )
    assert (result.architecture, result.parameters, result.context_length) == ("LlamaForCausalLM", 134_515_008, 8192)
    assert any("the chat template begins each prompt with a text of its own" in line for line in reports)
    chat = Chat(tmp_path / "model")
    assert chat.tokenizer.convert_ids_to_tokens(chat.end_token) == "<|im_end|>"
    example = chat.example("2 + 2 = ?", "4")
    assert str(chat.tokenizer.decode([*example.tokens])).endswith("<|im_start|>assistant\n4<|im_end|>")


LARGEST = {"float32": 1e-3, "bfloat16": 0.5}
"""Of one token. Logits between 16 and 32 are a multiple of 1/8 in bfloat16."""
MEAN = {"float32": 1e-4, "bfloat16": 0.1}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_engine_and_trainer_agree_on_it_before_and_after_training(dtype: str, smollm2: Path) -> None:
    command = [sys.executable, "-m", "tests.real_model_process", str(smollm2), dtype]
    done = subprocess.run(command, cwd=ROOT, env=own_environment(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    for side in ("before", "after"):
        assert max(result[side]) < LARGEST[dtype], result
        assert fmean(result[side]) < MEAN[dtype], result
    assert result["losses"][-1] < 0.5 * result["losses"][0], result
    if dtype == "float32":  # three steps are enough: the model boxes what it never boxed before, and ends by itself
        assert "\\boxed{" in result["written"] and result["ended"] == "stop", result
