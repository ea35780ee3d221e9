"""Whether a checkpoint's model can be trained as the trainer calls it: packed rows, and attention of our own.

The trainer packs several examples into a row, and attention by the examples' lengths (infra/training/attention.py) is
all that keeps one example from seeing another (§2.5.2). Models with recurrent or convolutional layers mix them, and
some compute attention by themselves: packed log-probabilities are then wrong by 0.01 to 6, and nothing else would say
so.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, PreTrainedConfig

from infra.training.attention import PACKED
from infra.training.chunked_head import without
from infra.vision.architectures import image_tokens
from infra.vision.models import attention, model_class
from steps.checkpoint_refused import CheckpointRefused, refusing

LEAK = {torch.float32: 1e-4, torch.float64: 1e-4}
"""Largest mean change of an example's log-probabilities by what else is in its row. Attention masks exactly, so that it
is 0 for most models; experts are computed in other groups of tokens, which rounds differently."""
ROUNDING = {torch.float32: 1e-3, torch.float64: 1e-3}
"""Largest mean difference between an example's log-probabilities packed and alone, with transformers' attention."""
CHUNKED_LAYERS = {"chunked_attention"}
"""Kinds of layers that only a mask would tell from full attention, and that a short prompt does not."""
LEAK_16_BIT, ROUNDING_16_BIT = 0.01, 0.1


def check_trainable(config: PreTrainedConfig) -> None:
    """Refuse what the trainer's attention leaves out, by the configuration alone."""
    cap = getattr(config.get_text_config(), "attn_logit_softcapping", None)
    if cap is not None:
        raise CheckpointRefused(
            f"config.json: attn_logit_softcapping is {cap}, which the trainer's attention (torch's) ignores, and the "
            "engine's does not; use a checkpoint without it, as Gemma 3 is"
        )
    kinds = set(getattr(config.get_text_config(), "layer_types", None) or ()) & CHUNKED_LAYERS
    if kinds:
        raise CheckpointRefused(
            f"config.json: layer_types has {', '.join(sorted(kinds))}, which the trainer's attention does not compute; "
            "use a checkpoint with layers of full or sliding-window attention (Qwen3, Llama 3, Mistral, Gemma 3, …)"
        )


def check_forward(folder: Path, prompt: Sequence[int]) -> None:
    """Run the model once on a prompt, and in packed rows. Raises CheckpointRefused where logits are not finite, or an
    example's depend on another one in its row.

    Args:
        prompt: at least one token.
    """
    tokens = list(prompt)
    # As long, and other tokens at every place where the prompt has more than one.
    others = tokens[::-1] if tokens != tokens[::-1] else [(token + 1) % max(2, max(tokens)) for token in tokens]
    with refusing("config.json", "the model does not run on a prompt"):
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        text = config.get_text_config()
        if getattr(text, "sliding_window", None):
            # So narrow that the prompt does not fit: a window that only a mask would know is then noticed.
            text.sliding_window = max(1, len(tokens) // 2)
        model = load_model(folder, config, dtype="auto")
        alone = _logprobs(model, [tokens], packed=False)
    name = type(model).__name__
    with refusing("config.json", f"{name} does not run with the trainer's attention"):
        model.set_attn_implementation(attention(config.to_dict(), PACKED))
        beside_itself = _logprobs(model, [tokens, tokens])
        beside_others = _logprobs(model, [others, tokens])
    if not alone.isfinite().all():
        raise CheckpointRefused(
            "config.json: the logits of a prompt are NaN or infinite; the weights overflow in this dtype, or belong to "
            "another configuration"
        )
    leak = _mean_difference(beside_itself, beside_others)
    difference = _mean_difference(alone, beside_itself)
    # Written so that NaN is refused.
    if not (leak <= LEAK.get(model.dtype, LEAK_16_BIT) and difference <= ROUNDING.get(model.dtype, ROUNDING_16_BIT)):
        raise CheckpointRefused(
            f"config.json: {name} does not keep examples apart that are packed into one row: a prompt's "
            f"log-probabilities change by {max(leak, difference):.2g} on average with what stands before it; "
            "use an architecture of plain attention (Qwen2, Qwen3, Llama, Mistral, Gemma 3, …)"
        )


def load_model(folder: Path, config: PreTrainedConfig, dtype: str, **options: Any) -> Any:
    """A checkpoint's model on the CPU, with transformers' own attention unless an option names another."""
    model: Any = model_class(config.to_dict()).from_pretrained(
        folder,
        config=config,
        dtype=dtype,
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
        **options,
    )
    return model.eval()


def trainer_logprobs(folder: Path, dtype: str, examples: Sequence[Sequence[int]]) -> list[Tensor]:
    """[length, vocabulary] of each example: log-probabilities of the next token, in float64, by the model as the
    trainer loads and calls it, on the CPU.

    Args:
        dtype: torch's name of one.
    """
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    model = load_model(folder, config, dtype, attn_implementation=attention(config.to_dict(), PACKED))
    never_sampled = image_tokens(folder)
    return [without(_logprobs(model, [example]), never_sampled).log_softmax(-1) for example in examples]


@torch.inference_mode()
def _logprobs(model: Any, examples: Sequence[Sequence[int]], packed: bool = True) -> Tensor:
    """[length, vocabulary] of the last example of a packed row, called as the trainer does; `packed` is whether by the
    trainer's attention."""
    tokens = torch.tensor([[token for example in examples for token in example]])
    positions = torch.cat([torch.arange(len(example)) for example in examples])[None]
    lengths = {"example_lengths": [[len(example) for example in examples]]} if packed else {}
    logits = model(input_ids=tokens, position_ids=positions, use_cache=False, **lengths).logits
    return logits[0, -len(examples[-1]) :].double().log_softmax(-1)


def _mean_difference(first: Tensor, second: Tensor) -> float:
    return (first - second).abs().mean().item()
