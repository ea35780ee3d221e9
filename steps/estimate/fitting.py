"""Where trainer and engine are, what a GPU holds in each phase, and why a recipe cannot run on a machine."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from infra.cluster.placement import has_room, in_the_same_gpus, nodes_needed
from infra.estimate.devices import GIB, Device
from infra.estimate.memory import EngineMemory, TrainerMemory
from infra.estimate.shapes import ModelShape
from steps.estimate.figures import Figures
from steps.estimate.workload import Training
from steps.recipe import Recipe


@dataclass(frozen=True)
class Placement:
    """Which GPUs trainer and engine are on."""

    gpus: int
    nodes: int
    trainer: int
    """GPUs of the trainer: a rank each."""
    engines: int
    """GPUs of the engines."""
    trainer_nodes: int
    """Nodes that ranks are on: the first ones."""
    turns: bool
    """Whether they take turns in the same GPUs (handover.share_device)."""
    apart: bool
    """Whether each has GPUs of its own."""

    @property
    def described(self) -> str:
        """In words."""
        if self.turns:
            text = "trainer and engines take turns in the same GPUs"
        elif self.apart:
            text = f"{self.trainer} GPUs train, {self.engines} others generate"
        else:
            text = "trainer and engines are in the same memory at the same time"
        return f"{text}, {self.idle} do nothing" if self.idle else text

    @property
    def idle(self) -> int:
        """GPUs that nobody uses, and that are paid for."""
        return max(0, self.gpus - (self.trainer + self.engines if self.apart else max(self.trainer, self.engines)))


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
    """Who is where on `gpus` GPUs, or on as many as the recipe asks for: by infra/cluster/placement.py, as a
    deployment is."""
    ranks, engines = recipe.trainer.ranks, recipe.engine.workers * recipe.engine.tensor_parallel
    if device.is_cpu:
        return Placement(1, 1, ranks, engines, trainer_nodes=1, turns=False, apart=False)
    requested = gpus or _configured_gpus(recipe, device)
    nodes = math.ceil(requested / device.per_node)
    return Placement(
        requested,
        nodes,
        ranks,
        engines,
        trainer_nodes=math.ceil(ranks / device.per_node),
        turns=recipe.handover.share_device,
        apart=nodes > 1 and not in_the_same_gpus(recipe.engine, recipe.handover),
    )


def _configured_gpus(recipe: Recipe, device: Device) -> int:
    """GPUs that the recipe asks for: of one node those that are used, and otherwise whole nodes."""
    together = max(recipe.trainer.ranks, recipe.engine.workers * recipe.engine.tensor_parallel)
    if recipe.engine.tensor_parallel > device.per_node:
        return together  # which is refused
    nodes = nodes_needed(recipe.engine, recipe.trainer.ranks, recipe.handover, device.per_node)
    return together if nodes == 1 else nodes * device.per_node


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
            trainer.ranks > trainer.sequence_parallel and "a larger trainer.sequence_parallel",
            "shorter rows (sequence_length)",
        ],
        "trainer's logits": ["trainer.logit_chunk_tokens" if trainer.logit_chunk_tokens is None else ""],
        "engine's weights": ["a larger engine.tensor_parallel"],
        "engine's workspace": ["a smaller engine.max_batched_tokens"],
        "engine's KV cache": [
            "a smaller engine.gpu_memory_share" if recipe.engine.kv_cache_mb is None else "a smaller engine.kv_cache_mb"
        ],
    }
    return [way for way in ways.get(part, []) if isinstance(way, str) and way]


def problems(
    recipe: Recipe,
    shape: ModelShape,
    figures: Figures,
    placed: Placement,
    device: Device,
    held: Sequence[Phase],
    largest: Training,
    trainer: TrainerMemory,
    engine: EngineMemory,
) -> Iterator[str]:
    """Why the recipe cannot run on this machine: what is exceeded by how much, and the keys that would help."""
    if not device.is_cpu:
        yield from _without_gpus(recipe, placed, device)
    if uneven := recipe.trainer.uneven_heads(shape.heads, shape.kv_heads):
        yield uneven
    for phase in held:
        if phase.total > device.memory:
            yield _too_much(phase, device, largest, recipe)
    if engine.kv_cache <= 0:
        yield (
            f"the engine's share of a GPU, engine.gpu_memory_share {recipe.engine.gpu_memory_share} of "
            f"{_gib(device.memory)}, is taken up by its weights ({_gib(engine.weights)}) and workspace "
            f"({_gib(engine.workspace + engine.graphs)}), with nothing left for the KV cache: raise it or "
            "engine.tensor_parallel, or lower engine.max_batched_tokens"
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


def _without_gpus(recipe: Recipe, placed: Placement, device: Device) -> Iterator[str]:
    """Why ranks and engines find no GPUs. Nodes are whole, where there are several."""
    engine, each = recipe.engine, min(placed.gpus, device.per_node)
    if engine.tensor_parallel > device.per_node:
        yield (
            f"engine.tensor_parallel is {engine.tensor_parallel}, and an engine has to fit one node of "
            f"{device.per_node} GPUs: lower it"
        )
    elif not has_room(engine, placed.trainer, recipe.handover, placed.nodes, each):
        needed = _configured_gpus(recipe, device)
        yield (
            f"there are {placed.gpus} GPUs, and trainer.ranks {placed.trainer} and engine.workers {engine.workers} "
            f"with engine.tensor_parallel {engine.tensor_parallel} need {needed}: lower them, or give "
            f"--gpus {needed}"
        )
    elif placed.gpus % each:
        yield (
            f"--gpus is {placed.gpus}, and several nodes of {device.per_node} GPUs are whole ones: give "
            f"{placed.nodes * device.per_node}"
        )


def _too_much(phase: Phase, device: Device, largest: Training, recipe: Recipe) -> str:
    parts = sorted(phase.parts.items(), key=lambda part: -part[1])
    listed = ", ".join(f"{name} {_gib(size)}" for name, size in parts[:4])
    rows = recipe.trainer.micro_batch_tokens // largest.length
    large = [name for name, size in parts[:3] if size > 0.1 * phase.total]
    ways = list(dict.fromkeys(way for name in large for way in _help(name, recipe, rows)))
    where = f" (rows of {largest.key}, {largest.length:,} tokens)" if "training" in phase.name else ""
    return (
        f"{phase.name}{where} takes {_gib(phase.total)} of {_gib(device.memory)}: {listed}. What would help: "
        f"{', '.join([*ways, 'a larger GPU (--gpu)'])}"
    )


def _gib(size: float) -> str:
    return f"{size / GIB:,.1f} GiB"
