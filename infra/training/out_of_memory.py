"""Memory that a forward or backward pass did not get, said with the rows that needed it and the keys that help."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from infra.configs import TrainerConfig
from infra.errors import LonghaulError
from infra.training.attention import Lengths


class OutOfMemory(LonghaulError, RuntimeError):
    """A micro-batch does not fit into memory; nothing was trained on it."""


@contextmanager
def named_when_out_of_memory(
    example_lengths: Lengths, config: TrainerConfig, number: int | None = None, of: int | None = None
) -> Iterator[None]:
    """Raises OutOfMemory in place of torch's error, for a pass over rows of these examples.

    Args:
        number: of the micro-batch, from 1 on, and `of` how many; none for a pass that is part of no step.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not _is_about_memory(error):
            raise
        place = f"micro-batch {number} of {of}, " if number else ""
        rows = f"{len(example_lengths)} rows" if len(example_lengths) > 1 else "one row"
        tokens, longest = sum(example_lengths[0]), max(max(row) for row in example_lengths)
        raise OutOfMemory(
            f"{place}{rows} of {tokens:,} tokens, does not fit into memory; its longest example has {longest:,}. What "
            f"helps: {', '.join(_ways(config, example_lengths))}"
        ) from error


def _is_about_memory(error: Exception) -> bool:
    text = str(error)
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or (
        "DefaultCPUAllocator" in text and ("allocate memory" in text or "not enough memory" in text)
    )


def _ways(config: TrainerConfig, example_lengths: Lengths) -> Sequence[str]:
    ways = [
        (len(example_lengths) > 1, "a smaller trainer.micro_batch_tokens"),
        (not config.gradient_checkpointing, "trainer.gradient_checkpointing"),
        (config.gradient_checkpointing and not config.offload_activations, "trainer.offload_activations (on GPUs)"),
        (config.logit_chunk_tokens is None, "trainer.logit_chunk_tokens"),
        (config.ranks > 1 and config.zero_stage < 3, "trainer.zero_stage 3"),
        (config.sequence_parallel == 1, "ranks that share rows (trainer.sequence_parallel)"),
        (True, "shorter rows (the section's sequence_length)"),
    ]
    return [way for helps, way in ways if helps]
