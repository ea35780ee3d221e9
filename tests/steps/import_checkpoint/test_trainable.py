"""Which architectures are refused because the trainer would compute something else than the engine."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    BambaConfig,
    FalconConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GptOssConfig,
    Lfm2Config,
    LlamaConfig,
    MistralConfig,
    OPTConfig,
    Qwen2MoeConfig,
    Qwen3Config,
    Qwen3NextConfig,
)

from steps.checkpoint_forward import check_forward, check_trainable
from steps.checkpoint_refused import CheckpointRefused
from tests.steps.import_checkpoint.small_checkpoint import SMALL

PROMPT = [3, 9, 4, 30, 7, 7, 12, 50, 2, 8, 61]
EXPERTS: dict[str, Any] = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
BAMBA: dict[str, Any] = {"attn_layer_indices": [1], "mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 16}
REFUSED: dict[str, Any] = {
    "Falcon": FalconConfig(**SMALL),
    "Falcon with alibi": FalconConfig(**SMALL, alibi=True),
    "Qwen3-Next": Qwen3NextConfig(**SMALL, **EXPERTS, layer_types=["linear_attention", "full_attention"]),
    "Lfm2": Lfm2Config(**SMALL, layer_types=["conv", "full_attention"]),
    "Bamba": BambaConfig(**SMALL, **BAMBA),
    "GPT-OSS": GptOssConfig(**SMALL, num_local_experts=4, num_experts_per_tok=2, head_dim=8, pad_token_id=0),
}
ACCEPTED: dict[str, Any] = {
    "OPT": OPTConfig(**SMALL, ffn_dim=48, word_embed_proj_dim=32),
    "Qwen3": Qwen3Config(**SMALL),
    "Llama": LlamaConfig(**SMALL),
    "Mistral with a window": MistralConfig(**SMALL, sliding_window=4096),
    "Gemma 3": Gemma3TextConfig(**SMALL, head_dim=8, sliding_window=512),
    "Qwen2-MoE": Qwen2MoeConfig(**SMALL, **EXPERTS, shared_expert_intermediate_size=16),
}


def saved(folder: Path, config: Any, dtype: torch.dtype) -> Path:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            # Freshly initialised weights hardly mix tokens.
            torch.nn.init.normal_(parameter, std=0.2)
    model.to(dtype).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", REFUSED)
def test_a_model_that_mixes_packed_examples_is_refused_by_name(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    folder = saved(tmp_path, REFUSED[name], dtype)
    (architecture,) = AutoConfig.from_pretrained(folder).architectures
    with pytest.raises(CheckpointRefused, match=architecture):
        check_forward(folder, PROMPT)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ACCEPTED)
def test_a_model_that_keeps_packed_examples_apart_is_accepted(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    folder = saved(tmp_path, ACCEPTED[name], dtype)
    check_forward(folder, PROMPT)


def test_a_prompt_of_one_token_repeated_is_still_compared_with_another(tmp_path: Path) -> None:
    folder = saved(tmp_path, REFUSED["Lfm2"], torch.float32)
    with pytest.raises(CheckpointRefused, match="Lfm2ForCausalLM"):
        check_forward(folder, [7] * 5)


def test_soft_capped_attention_is_refused_since_torch_ignores_it() -> None:
    with pytest.raises(CheckpointRefused, match=r"attn_logit_softcapping is 50\.0"):
        check_trainable(Gemma2Config(**SMALL))
    check_trainable(Gemma2Config(**SMALL, attn_logit_softcapping=None))
