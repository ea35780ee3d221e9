"""Whether the engine computes with an imported checkpoint what the trainer does.

RL trains on log-probabilities of both (§2.3.2). vLLM and transformers each have code of their own for an architecture,
which reads config.json by itself: where one of them leaves a key out (soft-capping, a kind of RoPE), nothing fails, and
the policy that samples is not the one that is trained.
"""

import tempfile
from pathlib import Path

from torch import Tensor

from infra.images import store_image
from infra.inference.requests import Completion, Request
from infra.vision.folders import ImageFolders
from infra.vision.processor import ImageReader
from steps.chat import Chat
from steps.checkpoint_forward import trainer_logprobs
from steps.checkpoint_images import SIDES, logprobs_with_images, picture
from steps.checkpoint_refused import CheckpointRefused
from steps.problem import Part, Problem
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
        differences += _differences(completion, logprobs[len(prompt) - 1 :])
    if bench.chat.reader is not None:
        differences += _with_an_image(bench, bench.chat.reader, folder, dtype)
    return sum(differences) / len(differences)


def _with_an_image(bench: SamplingBench, reader: ImageReader, folder: Path, dtype: str) -> list[float]:
    """The same of tokens that follow an image."""
    with tempfile.TemporaryDirectory() as scratch:
        address = store_image(picture(0, *SIDES[0]), Path(scratch))
        chat = Chat(bench.model, ImageFolders((Path(scratch),)))
        parts = (Part(type="image", image=address), Part(type="text", text=QUESTION))
        prompt = chat.read(Problem(id="a question", prompt=parts, answer="2", verifier="math"))
        assert prompt.unexpanded is not None
        images, more = chat.paths(prompt), len(prompt) - len(prompt.unexpanded)
        requests = [
            Request(prompt.unexpanded, TOKENS, seed, images=images, image_tokens=more) for seed in range(RESPONSES)
        ]
        completions = bench.generate(requests, "engine against trainer, with an image")
        read = [reader.read(image) for image in images]
        examples = [([*prompt.tokens, *completion.tokens], read) for completion in completions]
        logprobs = logprobs_with_images(folder, dtype, examples)
    return [
        difference
        for completion, one in zip(completions, logprobs, strict=True)
        for difference in _differences(completion, one[len(prompt) - 1 :])
    ]


def _differences(completion: Completion, logprobs: Tensor) -> list[float]:
    """Of each token of a completion, from log-probabilities [tokens, vocabulary]."""
    pairs = zip(completion.tokens, completion.logprobs, logprobs, strict=False)
    return [abs(float(row[token]) - logprob) for token, logprob, row in pairs]
