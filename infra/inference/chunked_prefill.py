"""Long prompts in chunks beside seeded requests, on a CPU.

vLLM samples a token after each chunk of a prompt, throws away all but the last, and sets the seeded request's generator
back by an offset. A generator on a CPU has none, and raises. Here the generators of requests whose token is thrown away
are out of the batch while vLLM samples: they stay where they were, and a response has the tokens that it would have had
if its prompt had been computed at once.
"""

from typing import Any


def spare_generators(worker: Any) -> None:
    """Change a vLLM worker of this process, so that tokens which are thrown away use no seeded generator."""
    runner = worker.model_runner
    sample_tokens = runner.sample_tokens

    def sample(*arguments: Any, **named: Any) -> Any:
        generators = runner.input_batch.generators
        thrown_away = runner.discard_request_mask.np[: runner.input_batch.num_reqs].nonzero()[0].tolist()
        spared = {place: generators.pop(place) for place in thrown_away if place in generators}
        try:
            return sample_tokens(*arguments, **named)
        finally:
            generators.update(spared)

    runner.sample_tokens = sample
