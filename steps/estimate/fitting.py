"""Where trainer and engine are, what a GPU holds in each phase, and why a recipe cannot run on a machine."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from infra.estimate.devices import GIB, Device
from infra.estimate.memory import EngineMemory, TrainerMemory
from steps.estimate.figures import Figures
from steps.estimate.workload import Training
from steps.recipe import Recipe


@dataclass(frozen=True)
class Placement:
    """Which GPUs trainer and engine are on."""

    gpus: int
    trainer: int
    """GPUs of the trainer: a rank each."""
    engines: int
    """GPUs of the engines."""
    turns: bool
    """Whether they take turns in the same GPUs (handover.share_device)."""
    apart: bool
    """Whether each has GPUs of its own."""

    @property
    def told(self) -> str:
        """In words."""
        if self.turns:
            return "trainer and engines take turns in the same GPUs"
        if self.apart:
            return f"{self.trainer} GPUs train, {self.engines} others generate"
        return "trainer and engines are in the same memory at the same time"


@dataclass(frozen=True)
class Phase:
    """What one GPU holds at a time."""

    name: str
    parts: dict[str, float]

    @property
    def total(self) -> float:
        """Bytes."""
        return sum(self.parts.values())


def placement(recipe: Recipe, device: Device, gpus: int | None) -> Placement:
    """Who is where on `gpus` GPUs, or on as many as the recipe asks for.

    Apart are those of which each has nodes of its own: Ray knows nothing of the trainer's ranks, and starts its workers
    on the first GPUs of the nodes that it may use.
    """
    ranks, engines = recipe.trainer.ranks, recipe.engine.workers * recipe.engine.tensor_parallel
    if device.is_cpu:
        return Placement(1, ranks, engines, turns=False, apart=False)
    together = max(ranks, engines)
    nodes = math.ceil(ranks / device.per_node) * device.per_node
    if recipe.handover.share_device:
        return Placement(gpus or together, ranks, engines, turns=True, apart=False)
    if ranks == 1 and recipe.engine.workers == 1:
        # Both are in the stage's own process, which uses the first GPUs.
        return Placement(gpus or together, ranks, engines, turns=False, apart=False)
    wanted = gpus or nodes + engines
    return Placement(wanted, ranks, engines, turns=False, apart=wanted >= nodes + engines)


def phases(placed: Placement, device: Device, trainer: TrainerMemory, engine: EngineMemory) -> tuple[Phase, ...]:
    """What a GPU holds in each phase; on a CPU, what the machine does."""
    training, rollout = _training(trainer), _generating(engine)
    reserve = {"reserve": float(device.reserve)}
    if device.is_cpu:
        training = {name: placed.trainer * size for name, size in training.items()}
        rollout = {name: placed.engines * size for name, size in rollout.items()}
        processes = (placed.trainer if placed.trainer > 1 else 0) + (placed.engines if placed.engines > 1 else 0)
        reserve = {"reserve": float(device.reserve * (1 + processes))}
    if placed.turns:
        return (
            Phase("training", training | reserve),
            # vLLM takes its share while the trainer's weights are still there.
            Phase("hand-over", {"trainer's weights": trainer.stays} | rollout | reserve),
            Phase("rollout", rollout | reserve),
        )
    if placed.apart:
        return Phase("training", training | reserve), Phase("rollout", rollout | reserve)
    return (Phase("training beside the engine", training | rollout | reserve),)


def _training(trainer: TrainerMemory) -> dict[str, float]:
    return {f"trainer's {name}": size for name, size in vars(trainer).items()}


def _generating(engine: EngineMemory) -> dict[str, float]:
    parts = {
        "weights": engine.weights,
        "workspace": engine.workspace,
        "CUDA graphs": engine.graphs,
        "KV cache": max(0.0, engine.kv_cache),
    }
    return {f"engine's {name}": size for name, size in parts.items()}


def _help(part: str, recipe: Recipe, rows: int) -> list[str]:
    """The keys that make a part smaller, of those that do not do so already."""
    trainer, more = recipe.trainer, "more trainer.ranks" if recipe.trainer.zero_stage else ""
    ways: dict[str, list[str | bool]] = {
        "trainer's weights": [trainer.zero_stage < 3 and "trainer.zero_stage 3", more],
        "trainer's gradients": [trainer.zero_stage < 2 and "trainer.zero_stage 2 or 3", more],
        "trainer's optimizer": [trainer.zero_stage < 1 and "trainer.zero_stage 1 or more", more],
        "trainer's activations": [
            not trainer.gradient_checkpointing and "trainer.gradient_checkpointing",
            trainer.gradient_checkpointing and not trainer.offload_activations and "trainer.offload_activations",
            rows > 1 and "a smaller trainer.micro_batch_tokens",
            "shorter rows (sequence_length)",
        ],
        "trainer's mask": ["shorter rows (sequence_length)"],
        "trainer's logits": ["trainer.logit_chunk_tokens" if trainer.logit_chunk_tokens is None else ""],
        "engine's weights": ["a larger engine.tensor_parallel"],
        "engine's workspace": ["a shorter engine.context"],
        "engine's KV cache": [
            "a smaller engine.gpu_memory_share" if recipe.engine.kv_cache_mb is None else "a smaller engine.kv_cache_mb"
        ],
    }
    return [way for way in ways.get(part, []) if isinstance(way, str) and way]


def problems(
    recipe: Recipe,
    figures: Figures,
    placed: Placement,
    device: Device,
    held: Sequence[Phase],
    largest: Training,
    trainer: TrainerMemory,
    engine: EngineMemory,
) -> Iterator[str]:
    """Why the recipe cannot run on this machine: what is exceeded by how much, and the keys that would help."""
    needed = placed.trainer + placed.engines if placed.apart else max(placed.trainer, placed.engines)
    if not device.is_cpu and placed.gpus < needed:
        yield (
            f"there are {placed.gpus} GPUs, and trainer.ranks {recipe.trainer.ranks} and engine.workers "
            f"{recipe.engine.workers} with engine.tensor_parallel {recipe.engine.tensor_parallel} need {needed}: lower "
            "them, or give --gpus more"
        )
    for key, size in (("trainer.ranks", recipe.trainer.ranks), ("engine.tensor_parallel", placed.engines)):
        size = recipe.engine.tensor_parallel if key == "engine.tensor_parallel" else size
        if not device.is_cpu and size > device.per_node:
            yield f"{key} is {size}, and has to fit one node of {device.per_node} GPUs: lower it"
    for phase in held:
        if phase.total > device.memory:
            yield _too_much(phase, device, largest, recipe)
    if engine.kv_cache <= 0:
        yield (
            f"the engine's share of a GPU, engine.gpu_memory_share {recipe.engine.gpu_memory_share} of "
            f"{_gib(device.memory)}, is taken up by its weights ({_gib(engine.weights)}) and workspace "
            f"({_gib(engine.workspace + engine.graphs)}), with nothing left for the KV cache: raise it or "
            "engine.tensor_parallel, or lower engine.context"
        )
    elif engine.capacity < recipe.engine.context:
        key = "engine.kv_cache_mb (null on GPUs)" if recipe.engine.kv_cache_mb else "engine.gpu_memory_share"
        yield (
            f"the engine's KV cache of {_gib(engine.kv_cache)} has room for {engine.capacity:,} tokens, less than one "
            f"response of engine.context {recipe.engine.context:,}: raise {key} or engine.tensor_parallel, or lower "
            "engine.context"
        )
    for name, config in (("rl", recipe.rl), ("long2short.rl", recipe.long2short.rl)):
        if config.in_flight > figures.train_problems:
            yield (
                f"{name}.groups times {name}.oversampling is {config.in_flight}, and there are "
                f"{figures.train_problems:,.0f} problems: lower them"
            )


def _too_much(phase: Phase, device: Device, largest: Training, recipe: Recipe) -> str:
    parts = sorted(phase.parts.items(), key=lambda part: -part[1])
    told = ", ".join(f"{name} {_gib(size)}" for name, size in parts[:4])
    rows = recipe.trainer.micro_batch_tokens // largest.length
    ways = list(dict.fromkeys(way for name, _ in parts[:3] for way in _help(name, recipe, rows)))
    where = f" (rows of {largest.key}, {largest.length:,} tokens)" if "training" in phase.name else ""
    return (
        f"{phase.name}{where} takes {_gib(phase.total)} of {_gib(device.memory)}: {told}. What would help: "
        f"{', '.join([*ways, 'a larger GPU (--gpu)'])}"
    )


def _gib(size: float) -> str:
    return f"{size / GIB:,.1f} GiB"
