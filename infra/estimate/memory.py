"""Memory of one GPU: of a trainer rank, and of an engine. Parts are named, for a refusal to say what is too big."""

import math
from dataclasses import dataclass

from infra.configs import EngineConfig, TrainerConfig
from infra.estimate.devices import Device
from infra.estimate.shapes import ModelShape

_WIDTH = {"float32": 4, "bfloat16": 2}
"""Bytes of a number."""

_BUCKET, _LIVE = 500_000_000, 1_000_000_000
"""DeepSpeed's defaults: numbers in the buffer that gradients are reduced in, and most weights that ZeRO 3 keeps
gathered."""


def width(dtype: str) -> int:
    """Bytes of a number of this type."""
    return _WIDTH[dtype]


@dataclass(frozen=True)
class TrainerMemory:
    """What a trainer rank holds while it trains."""

    weights: float
    gradients: float
    optimizer: float
    """Adam's two averages and, beside weights that are shorter or sharded, the float32 weights and gradients."""
    buffers: float
    """What DeepSpeed gathers and reduces in."""
    activations: float
    logits: float
    tower: float = 0.0
    """What the vision tower keeps of a micro-batch's images."""

    @property
    def total(self) -> float:
        """All of it."""
        return sum(vars(self).values())

    @property
    def stays(self) -> float:
        """What is left on the GPU when the optimizer is offloaded (`Trainer.offload`): the weights."""
        return self.weights

    @property
    def offloaded(self) -> float:
        """What goes to the host during a rollout."""
        return self.weights + self.gradients + self.optimizer


def activation_bytes(shape: ModelShape, numbers: int) -> float:
    """Bytes that one layer keeps for the backward pass, per token of a packed row, with `numbers` bytes each.

    Two norms: the input in float32, and what comes of it before and after its weight. Attention: queries, keys, values,
    the output of each example and that of the row, and a float32 per head. The MLP: gate, its activation, the other
    half, their product. `tests/steps/estimate/test_estimate.py` counts them in a real layer.
    """
    norms = 2 * ((4 + 2 * numbers) * shape.hidden + 4)
    attention = numbers * (3 * shape.query + 2 * shape.key_value) + 4 * shape.heads
    return norms + attention + 4 * numbers * shape.intermediate


def trainer_memory(
    shape: ModelShape, trainer: TrainerConfig, rows: int, length: int, image_tokens: float = 0.0
) -> TrainerMemory:
    """What a rank holds with micro-batches of `rows` rows of `length` tokens, `image_tokens` of which are images'."""
    numbers, stage, ranks = width(trainer.dtype), trainer.zero_stage, trainer.ranks
    # Ranks that share rows have a part of the tokens each.
    count, trained, tokens = (
        shape.parameters,
        shape.trained(trainer.freeze),
        rows * math.ceil(length / trainer.sequence_parallel),
    )
    plain = stage == 0 and numbers == 4
    shared = trained / (ranks if stage >= 1 else 1)
    # Averages, float32 weights, and in bfloat16 also float32 gradients for the step.
    optimizer = shared * (8 if plain else 12 if numbers == 4 else 16)
    layer = activation_bytes(shape, numbers) * tokens
    saved = shape.layers * layer
    if trainer.gradient_checkpointing:
        # Each layer's input, and one layer at work: what it keeps, and the gradients of its widest part.
        at_work = layer + numbers * (shape.hidden + 2 * shape.intermediate) * tokens
        inputs = 0 if trainer.offload_activations else shape.layers * numbers * shape.hidden * tokens
        saved = inputs + at_work
    at_once = min(tokens, trainer.logit_chunk_tokens or tokens)
    return TrainerMemory(
        weights=numbers * count / (ranks if stage == 3 else 1),
        gradients=numbers * trained / (ranks if stage >= 2 else 1),
        optimizer=optimizer,
        buffers=numbers * _buffered(count, stage, ranks),
        activations=saved,
        # The forward pass holds logits, their float32 copy or log-softmax; the backward pass log-softmax and gradients.
        logits=12.0 * at_once * shape.vocabulary,
        tower=0.0
        if shape.vision is None
        else shape.vision.training_bytes(
            numbers, image_tokens, trainer.gradient_checkpointing, trainer.freeze != "vision"
        ),
    )


def _buffered(count: int, stage: int, ranks: int) -> float:
    """Numbers in DeepSpeed's buffers: with ZeRO one for gradients, of full size whatever the model's; and with ZeRO 3
    the weights that are gathered."""
    if stage == 0:
        return min(count, _BUCKET) if ranks > 1 else 0
    return _BUCKET + (min(count, _LIVE) if stage == 3 and ranks > 1 else 0)


@dataclass(frozen=True)
class EngineMemory:
    """What an engine holds on each of its GPUs while it generates."""

    weights: float
    workspace: float
    """Activations of the largest forward pass, the sampler's logits, and the features of images."""
    graphs: float
    """CUDA graphs."""
    kv_cache: float
    """What is left of the engine's share for the KV cache; less than nothing where nothing is."""
    per_token: float
    """Bytes of KV cache that a token takes."""

    @property
    def total(self) -> float:
        """All of it."""
        return self.weights + self.workspace + self.graphs + max(0.0, self.kv_cache)

    @property
    def capacity(self) -> int:
        """Tokens that the KV cache has room for."""
        return max(0, int(self.kv_cache / self.per_token))


def engine_memory(shape: ModelShape, engine: EngineConfig, device: Device) -> EngineMemory:
    """What an engine holds on this device."""
    numbers, parallel = width(engine.dtype), engine.tensor_parallel
    weights = numbers * shape.parameters / parallel
    batched = engine.batched_tokens()
    workspace = batched * numbers * (3 * shape.intermediate / parallel + 4 * shape.hidden)
    if (tower := shape.vision) is not None:
        # Images of as many tokens go through the tower in one pass, and their features are kept for the next ones.
        wide = batched * tower.patches * numbers * (3 * tower.intermediate / parallel + 4 * tower.hidden)
        workspace = max(workspace, wide) + batched * numbers * shape.hidden
    # Logits of each sequence in float32, their log-softmax, and one more copy while sampling.
    workspace += 12.0 * engine.max_sequences * shape.vocabulary
    graphs = 0.0 if device.is_cpu else 2.0**30
    if engine.kv_cache_mb is not None:
        cache = float(engine.kv_cache_mb * 2**20)
    else:
        cache = engine.gpu_memory_share * device.memory - weights - workspace - graphs
    return EngineMemory(weights, workspace, graphs, cache, shape.kv_bytes(numbers, parallel))
