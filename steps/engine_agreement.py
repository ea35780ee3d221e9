"""Whether the engine computes with an imported checkpoint what the trainer does.

RL trains on log-probabilities of both (§2.3.2). vLLM and transformers each have code of their own for an architecture,
which reads config.json by itself: where one of them leaves a key out (soft-capping, a kind of RoPE), nothing fails, and
the policy that samples is not the one that is trained.
"""

from pathlib import Path

from infra.inference.engine import Request
from steps.checkpoint_forward import trainer_logprobs
from steps.checkpoint_refused import CheckpointRefused
from steps.sampling_bench import SamplingBench

QUESTION = "1 + 1 = ?"
RESPONSES, TOKENS = 4, 32
"""What the engine samples: so many responses of so many tokens."""
LARGEST = {"float32": 1e-3, "bfloat16": 0.1}
"""By dtype, the largest mean difference between both sides' log-probabilities of the sampled tokens. The shipped base
has 2e-6 and 2e-2 at most for a single token."""


def check_agreement(bench: SamplingBench, dtype: str) -> float:
    """Compare the bench's engine, with the weights of the bench's folder, with transformers as the trainer calls it.

    The model is loaded a second time, on the CPU, until this returns.

    Args:
        dtype: the engine's.

    Returns:
        The mean difference of the log-probabilities of a few sampled tokens.

    Raises CheckpointRefused where it is above the bound.
    """
    difference = disagreement(bench, bench.model, dtype)
    # Written so that NaN is refused.
    if not difference <= LARGEST[dtype]:
        raise CheckpointRefused(
            f"config.json: the engine (vLLM) and the trainer (transformers) compute different models from it: "
            f"log-probabilities of sampled tokens differ by {difference:.2g} on average, expected at most "
            f"{LARGEST[dtype]} in {dtype}; use an architecture, and a kind of RoPE, that both read alike"
        )
    return difference


def disagreement(bench: SamplingBench, folder: Path, dtype: str) -> float:
    """The mean difference between the engine's log-probabilities of tokens that it samples, and those of the model in a
    folder."""
    prompt = bench.chat.prompt(QUESTION)
    requests = [Request(prompt, TOKENS, seed) for seed in range(RESPONSES)]
    completions = bench.generate(requests, "engine against trainer")
    examples = [[*prompt, *completion.tokens] for completion in completions]
    differences = []
    for completion, logprobs in zip(completions, trainer_logprobs(folder, dtype, examples), strict=True):
        for place, (token, logprob) in enumerate(zip(completion.tokens, completion.logprobs, strict=True)):
            differences.append(abs(float(logprobs[len(prompt) - 1 + place, token]) - logprob))
    return sum(differences) / len(differences)
