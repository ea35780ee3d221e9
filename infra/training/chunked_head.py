"""An output embedding that gives log-probabilities instead of logits, a few tokens at a time.

A row of 32,768 tokens has 5 billion logits in a vocabulary of 150,000: more than a GPU holds, several times over. Only
one number of each token's is used, and the backward pass can compute a chunk's logits again.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from infra.training.attention import lengths_of_whole_rows


class ChunkedHead(nn.Module):
    """In place of a model's output embedding, with the same weight under the same name, so that it stays tied, is
    sharded, and is saved as before.

    NOTE: the model then returns, where its logits are expected, log-probabilities [rows, length] of `targets` under
    `temperature`; both have to be set before each pass.
    """

    weight: nn.Parameter
    chunk: int
    left_out: Sequence[int]
    """Tokens that are never sampled: their probability is 0."""
    targets: Int[Tensor, "rows length"]
    """The token after each of the pass."""
    temperature: float

    def __init__(self, head: nn.Linear, chunk: int, left_out: Sequence[int] = ()) -> None:
        super().__init__()
        if head.bias is not None:
            raise ValueError("trainer.logit_chunk_tokens: the model's output embedding has a bias: set it to null")
        self.weight = head.weight
        self.chunk = chunk
        self.left_out = left_out
        self.targets = torch.zeros(1, 0, dtype=torch.long)
        self.temperature = 1.0

    def forward(self, hidden: Float[Tensor, "rows length hidden"]) -> Float[Tensor, "rows length"]:
        """From the last layer's output to log-probabilities in float32."""
        chunks = hidden.flatten(0, 1).split(self.chunk)
        targets = self.targets.flatten().split(self.chunk)
        parts = [
            checkpoint(self._logprobs, states, chunk, use_reentrant=False)
            for states, chunk in zip(chunks, targets, strict=True)
        ]
        return torch.cat(parts).view(self.targets.shape)

    def _logprobs(
        self, hidden: Float[Tensor, "tokens hidden"], targets: Int[Tensor, "tokens"]
    ) -> Float[Tensor, "tokens"]:
        logits = without(functional.linear(hidden, self.weight).float(), self.left_out)
        if self.temperature != 1.0:
            logits = logits / self.temperature
        return -functional.cross_entropy(logits, targets, reduction="none")


def without(logits: Float[Tensor, "..."], tokens: Sequence[int]) -> Float[Tensor, "..."]:
    """Logits [..., vocabulary] under which some tokens have the probability 0."""
    if not tokens:
        return logits
    return logits.index_fill(-1, torch.tensor(list(tokens), device=logits.device), -math.inf)


def with_chunked_head(model: Any, chunk: int, left_out: Sequence[int] = ()) -> ChunkedHead:
    """Put one into a Hugging Face model, and return it. Raises ValueError for a model that changes its logits after the
    head, by softcapping or a scale."""
    original = model.get_output_embeddings()
    if _changes_logits(model, original):
        raise ValueError(
            f"trainer.logit_chunk_tokens: {type(model).__name__} changes its logits after the head (softcapping or a "
            "scale in config.json), which chunks would leave out: set it to null"
        )
    head = ChunkedHead(original, chunk, left_out)
    model.set_output_embeddings(head)
    return head


@torch.no_grad()
def _changes_logits(model: Any, head: nn.Module) -> bool:
    """Whether the model returns something else than its head: architectures have many names for what they do there."""
    outputs: list[Tensor] = []
    # Copies: some models change logits in place.
    handle = head.register_forward_hook(lambda module, arguments, output: outputs.append(output.clone()))
    # Several tokens: the embedding of one can be 0, and so its logits.
    tokens = torch.arange(min(8, model.config.get_text_config().vocab_size), device=model.device)[None]
    logits = model(input_ids=tokens, example_lengths=lengths_of_whole_rows(tokens), use_cache=False).logits
    handle.remove()
    return len(outputs) != 1 or not torch.equal(outputs[0].to(logits.dtype), logits)
