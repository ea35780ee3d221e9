"""How long passes take: training and prefill by their operations, decoding by what each step has to read as well."""

import math
from dataclasses import dataclass

from infra.configs import EngineConfig, TrainerConfig
from infra.estimate.devices import Device
from infra.estimate.memory import width
from infra.estimate.shapes import ModelShape

_HOST = 25e9
"""Bytes per second between a GPU and its host, each: PCIe 5 with half of it reached."""

_COPIES, _COPYING = 4, 5e9
"""Copies of the weights on their way to the engines, through shared memory, and bytes per second of each."""


def turn_seconds(shape: ModelShape, engine: EngineConfig, offloaded: float) -> float:
    """A hand-over to the engines and back: the weights' copies, and `offloaded` bytes of the trainer out and in."""
    return _COPIES * width(engine.dtype) * shape.parameters / _COPYING + 2 * offloaded / _HOST


@dataclass(frozen=True)
class TrainingTime:
    """Time of optimizer steps."""

    seconds: float
    busy: float
    """Share of the ranks' micro-batches that hold something: the rest fills up rounds."""


def training_time(
    shape: ModelShape,
    trainer: TrainerConfig,
    device: Device,
    steps: int,
    tokens: float,
    length: int,
    example: float,
    reference: bool = False,
    nodes: int = 1,
    image_tokens: float = 0.0,
    image: float = 0.0,
) -> TrainingTime:
    """Optimizer steps of `tokens` tokens each, in rows of `length` tokens that hold examples of `example` tokens; with
    `reference` one more forward pass. `image_tokens` of the tokens are images', of `image` tokens each.

    A backward pass costs two forward passes, and checkpointing repeats the forward pass. Ranks compute in rounds of one
    micro-batch each, or of one for those that share rows. Collectives are not overlapped: ZeRO 3 gathers weights twice
    and scatters gradients once in every round, ZeRO 2 reduces gradients in every round, and 0 and 1 once in a step,
    which takes twice their size. Over several nodes a collective is a ring through all ranks: as much as a GPU sends to
    the next one goes from each node to the next, through its network, and the slower of the two decides.
    """
    if steps == 0 or tokens == 0:
        return TrainingTime(0.0, 1.0)
    per_batch = max(1, trainer.micro_batch_tokens // length) * length
    batches = max(1, math.ceil(tokens / per_batch))
    shared, groups = trainer.sequence_parallel, trainer.ranks // trainer.sequence_parallel
    rounds = math.ceil(batches / groups)
    # A token attends to what stands before it in its example: half of that, on average.
    forward = tokens / batches / shared * shape.forward_flops(min(example, length, tokens) / 2)
    passes = (4 if trainer.gradient_checkpointing else 3) + (1 if reference else 0)
    compute = rounds * passes * forward
    if shape.vision is not None and image_tokens:
        # A frozen tower has no backward pass, and nothing to repeat for it.
        seen = passes if trainer.freeze != "vision" else 1 + reference
        compute += rounds * seen * image_tokens / batches * shape.vision.forward_flops(image)
    compute /= device.flops * device.compute_share
    size = width(trainer.dtype) * shape.parameters * (trainer.ranks - 1) / trainer.ranks
    moved = {0: 2 * size, 1: 2 * size, 2: rounds * size + size, 3: 3 * rounds * size}[trainer.zero_stage]
    # Ulysses: queries, keys and values go to the ranks that share the row, and come back as one output.
    exchanged = 2 * width(trainer.dtype) * shape.layers * (shape.query + shape.key_value)
    moved += rounds * passes * exchanged * (tokens / batches / shared) * (shared - 1) / shared
    slower = device.link if nodes == 1 else min(device.link, device.network)
    return TrainingTime(steps * (compute + moved / (slower * device.bandwidth_share)), batches / (rounds * groups))


@dataclass(frozen=True)
class DecodingTime:
    """Time of generating responses."""

    seconds: float
    prefill: float
    """Of the seconds, what the prompts took."""
    sequences: int
    """Most that an engine generates at once: its limit, the requests, or what the KV cache has room for."""
    occupancy: float
    """Mean share of those that are running."""


def decoding_time(
    shape: ModelShape,
    engine: EngineConfig,
    device: Device,
    capacity: int,
    requests: float,
    prefilled: float,
    context: float,
    mean: float,
    longest: float,
    image_tokens: float = 0.0,
    image: float = 0.0,
) -> DecodingTime:
    """Responses of `mean` tokens on average, the longest of `longest`, spread over the engine's workers.

    Args:
        capacity: tokens in one engine's KV cache.
        prefilled: tokens that have to be read before, in all; what shares a prefix counts once.
        context: tokens before a response, on average.
        image_tokens: of the tokens to be read those that the tower makes, in all; an image counts once.
        image: tokens of one image.

    With S sequences at once, R requests take R·mean/S + (longest − mean) steps: all of them at once as many as the
    longest is long. A step reads the weights once, and each sequence's KV cache; it multiplies, and the host has its
    part. The three are added up: they overlap only in part.
    """
    numbers, parallel, each = width(engine.dtype), engine.tensor_parallel, requests / engine.workers
    if each == 0 or mean == 0:
        return DecodingTime(0.0, 0.0, 0, 0.0)
    half = context + mean / 2
    room = max(1, int(capacity / (context + mean)))
    at_once = max(1, min(engine.max_sequences, math.ceil(each), room))
    steps = each * mean / at_once + max(0.0, longest - mean)
    flops = device.flops * device.compute_share * parallel
    read = device.bandwidth * device.bandwidth_share
    per_step = numbers * shape.parameters / parallel / read + device.step_seconds
    per_token = (
        shape.kv_bytes(numbers, parallel) * half / read + shape.forward_flops(half) / flops + device.sequence_seconds
    )
    prefill = prefilled / engine.workers * shape.forward_flops(context / 2) / flops
    if shape.vision is not None:
        prefill += image_tokens / engine.workers * shape.vision.forward_flops(image) / flops
    seconds = steps * per_step + each * mean * per_token + prefill
    return DecodingTime(seconds, prefill, at_once, each * mean / steps / at_once)
