"""Models whose log-probabilities a chunked head would get wrong."""

from typing import Any

import pytest
from transformers import AutoModelForCausalLM, CohereConfig, Gemma2Config, GraniteConfig, Qwen2Config

from infra.training.chunked_head import with_chunked_head

SMALL: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
}


@pytest.mark.parametrize(
    "config",
    [Gemma2Config(**SMALL), GraniteConfig(**SMALL, logits_scaling=8.0), CohereConfig(**SMALL)],
    ids=["softcapping", "divided", "multiplied"],
)
def test_a_model_that_changes_its_logits_after_the_head_is_refused(config: Any) -> None:
    with pytest.raises(ValueError, match=r"trainer\.logit_chunk_tokens: .*ForCausalLM changes its logits.*null"):
        with_chunked_head(AutoModelForCausalLM.from_config(config), 16)


def test_a_model_whose_head_gives_the_logits_is_accepted() -> None:
    with_chunked_head(AutoModelForCausalLM.from_config(Qwen2Config(**SMALL)), 16)
    with_chunked_head(AutoModelForCausalLM.from_config(GraniteConfig(**SMALL, logits_scaling=1.0)), 16)
