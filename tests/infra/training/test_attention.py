"""Attention by the lengths of packed examples, against transformers' own attention on each example alone."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

from infra.training.attention import PACKED, AttentionNotSupported, packed_attention

SMALL: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
}
KINDS = ["sliding_attention", "full_attention", "sliding_attention"]
CONFIGS: dict[str, PreTrainedConfig] = {
    "Qwen2": Qwen2Config(**SMALL),
    "Qwen2 with windows": Qwen2Config(**SMALL, use_sliding_window=True, sliding_window=5, layer_types=KINDS),
    "Qwen3": Qwen3Config(**SMALL),
    "Llama": LlamaConfig(**SMALL),
    "Gemma 3": Gemma3TextConfig(**SMALL, sliding_window=7, layer_types=KINDS, query_pre_attn_scalar=8),
    "Mistral": MistralConfig(**SMALL, sliding_window=6),
    "Mistral without a window": MistralConfig(**SMALL, sliding_window=None),
    "as many heads for keys": LlamaConfig(**SMALL | {"num_key_value_heads": 4}),
}
LENGTHS = [[9, 1, 23, 3], [30, 6], [36]]
"""Of rows of 36 tokens."""


def model_of(config: PreTrainedConfig) -> Any:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            # Freshly initialised weights hardly mix tokens.
            nn.init.normal_(parameter, std=0.2)
    return model


def logprobs(model: Any, tokens: Tensor, lengths: list[list[int]]) -> Tensor:
    positions = torch.stack([torch.cat([torch.arange(one) for one in row]) for row in lengths])
    model.set_attn_implementation(PACKED)
    logits = model(input_ids=tokens, position_ids=positions, example_lengths=lengths, use_cache=False).logits
    return logits.log_softmax(-1)


def alone(model: Any, tokens: Tensor, lengths: list[list[int]]) -> Tensor:
    model.set_attn_implementation("sdpa")
    rows = [
        torch.cat([model(input_ids=example[None]).logits[0].log_softmax(-1) for example in row.split(parts)])
        for row, parts in zip(tokens, lengths, strict=True)
    ]
    return torch.stack(rows)


@pytest.mark.parametrize("name", CONFIGS)
def test_packed_examples_have_the_log_probabilities_and_gradients_that_they_have_alone(name: str) -> None:
    model = model_of(CONFIGS[name])
    tokens = torch.randint(1, 64, (3, 36), generator=torch.Generator().manual_seed(1))
    weights = torch.randn(3, 36, 64, generator=torch.Generator().manual_seed(2)) / 64
    packed, single = logprobs(model, tokens, LENGTHS), alone(model, tokens, LENGTHS)
    torch.testing.assert_close(packed, single, atol=1e-5, rtol=0)
    own, other = (torch.autograd.grad((one * weights).sum(), list(model.parameters())) for one in (packed, single))
    for gradient, expected in zip(own, other, strict=True):
        torch.testing.assert_close(gradient, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["Qwen3", "Gemma 3"])
def test_layers_that_compute_again_in_the_backward_pass_are_given_the_lengths_again(name: str) -> None:
    model = model_of(CONFIGS[name]).train()
    tokens = torch.randint(1, 64, (3, 36), generator=torch.Generator().manual_seed(1))
    parameters = list(model.parameters())
    plain = torch.autograd.grad(logprobs(model, tokens, LENGTHS)[..., 0].sum(), parameters)
    model.gradient_checkpointing_enable({"use_reentrant": False})
    again = torch.autograd.grad(logprobs(model, tokens, LENGTHS)[..., 0].sum(), parameters)
    for gradient, expected in zip(again, plain, strict=True):
        torch.testing.assert_close(gradient, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("window", [1, 2, 5, 16, 17, 40])
def test_a_window_holds_a_token_and_those_before_it_however_long_the_example(window: int) -> None:
    generator = torch.Generator().manual_seed(window)
    query, key, value = (torch.randn(2, heads, 33, 8, generator=generator) for heads in (4, 2, 2))
    attended, _ = packed_attention(
        nn.Module(), query, key, value, None, sliding_window=window, example_lengths=[[33], [33]]
    )
    distance = torch.arange(33)[:, None] - torch.arange(33)
    scores = query @ key.repeat_interleave(2, 1).mT / 8**0.5
    probabilities = scores.masked_fill((distance < 0) | (distance >= window), -torch.inf).softmax(-1)
    expected = (probabilities @ value.repeat_interleave(2, 1)).transpose(1, 2)
    torch.testing.assert_close(attended, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("passed_on", "message"),
    [
        ({"softcap": 50.0}, "uses softcap"),
        ({"s_aux": torch.zeros(4)}, "uses s_aux"),
        ({"position_bias": torch.zeros(4, 3, 3)}, "uses position_bias"),
        ({"attention_mask": torch.ones(1, 1, 3, 3)}, "uses a mask"),
        ({"dropout": 0.1}, "uses dropout"),
        ({"is_causal": False}, "is not causal"),
        ({"example_lengths": None}, "is not given the lengths"),
    ],
    ids=lambda value: value if isinstance(value, str) else "-",
)
def test_what_it_does_not_compute_is_refused_rather_than_left_out(passed_on: dict[str, Any], message: str) -> None:
    query = key = value = torch.zeros(1, 4, 3, 8)
    arguments: dict[str, Any] = {"attention_mask": None, "example_lengths": [[3]], **passed_on}
    with pytest.raises(AttentionNotSupported, match=f"Module {message}"):
        packed_attention(nn.Module(), query, key, value, **arguments)
