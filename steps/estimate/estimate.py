"""The estimate: stages' seconds, tokens and cost, the memory of a GPU in each phase, and what cannot fit."""

from dataclasses import asdict, dataclass
from typing import Any

from infra.estimate.devices import PRICES_AS_OF, Device, device
from infra.estimate.memory import EngineMemory, TrainerMemory, engine_memory, trainer_memory, width
from infra.estimate.shapes import ModelShape, shape_of
from infra.estimate.speed import DecodingTime, decoding_time, training_time, turn_seconds
from steps.estimate.figures import KnownFigures, known_figures
from steps.estimate.fitting import Phase, Placement, phases, placement, problems
from steps.estimate.workload import StageWork, Training, Workload
from steps.recipe import Recipe


@dataclass(frozen=True)
class StageEstimate:
    """What a stage takes."""

    stage: str
    generated: float
    """Tokens."""
    trained: float
    """Tokens."""
    generating: float
    """Seconds."""
    training: float
    """Seconds."""
    turns: float
    """Seconds of hand-overs."""
    start: float
    """Seconds until it begins."""
    occupancy: float | None
    """Mean share of the engine's sequences that run while it generates; None where it does not."""
    ranks_busy: float | None
    """Share of the trainer ranks' micro-batches that hold something; None where nothing is trained."""

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.generating + self.training + self.turns + self.start


@dataclass(frozen=True)
class Estimate:
    """What a recipe would take on a machine."""

    recipe: str
    model: ModelShape
    device: Device
    placement: Placement
    price: float
    """US dollars an hour for each GPU."""
    figures: KnownFigures
    stages: tuple[StageEstimate, ...]
    largest: Training
    """The training whose micro-batches take most memory."""
    trainer: TrainerMemory
    """With those."""
    engine: EngineMemory
    at_once: int
    """Sequences of mean length in RL that an engine generates at once."""
    phases: tuple[Phase, ...]
    problems: tuple[str, ...]
    """Why it cannot run, each with the keys that would help."""
    retained: int
    """Iterations of RL that stay in the store to be forked from (`keep_every`)."""
    retained_size: float
    """Bytes of their weights; what is unfinished in the replay buffer comes on top."""

    @property
    def fits(self) -> bool:
        """Whether it can run."""
        return not self.problems

    @property
    def seconds(self) -> float:
        """Of all stages, one after another."""
        return sum(stage.seconds for stage in self.stages)

    @property
    def cost(self) -> float:
        """US dollars, for all GPUs from start to end."""
        return self.seconds / 3600 * self.placement.gpus * self.price

    def plain(self) -> dict[str, Any]:
        """As JSON. Sizes are in bytes."""
        return {
            "recipe": self.recipe,
            "parameters": self.model.parameters,
            "device": self.device.name,
            "gpus": self.placement.gpus,
            "nodes": self.placement.nodes,
            "price_per_gpu_hour": self.price,
            "prices_as_of": PRICES_AS_OF,
            "fits": self.fits,
            "problems": list(self.problems),
            "seconds": self.seconds,
            "hours": self.seconds / 3600,
            "cost": self.cost,
            "generated_tokens": sum(stage.generated for stage in self.stages),
            "trained_tokens": sum(stage.trained for stage in self.stages),
            "stages": [{**asdict(stage), "seconds": stage.seconds} for stage in self.stages],
            "placement": self.placement.described,
            "kept_iterations": {"number": self.retained, "bytes": self.retained_size},
            "memory": {
                "available": self.device.memory,
                "phases": {phase.name: phase.total for phase in self.phases},
                "trainer": {"largest_rows_of": self.largest.key, **asdict(self.trainer)},
                "engine": asdict(self.engine) | {"capacity_tokens": self.engine.capacity, "sequences": self.at_once},
            },
            "figures": {
                name: {"value": getattr(self.figures.values, name), "source": source}
                for name, source in self.figures.sources.items()
            },
        }


def estimate(
    recipe: Recipe,
    gpu: str = "h100",
    gpus: int | None = None,
    price: float | None = None,
    overrides: dict[str, float] | None = None,
) -> Estimate:
    """What the recipe would take on `gpus` of this kind, or on as many as it asks for. Nothing is run or downloaded.

    Args:
        gpu: a name of infra.estimate.devices.DEVICES.
        price: US dollars an hour for each; the table's if not given.
        overrides: figures to use in place of counted or assumed ones (steps.estimate.figures.Figures), by name.

    Raises ValueError for an unknown device or figure, ShapeUnknown for a model of unknown shape, MalformedRow for data
    that cannot be read. What cannot fit is not an error here; it is listed in `problems`.
    """
    on = device(gpu)
    shape = shape_of(recipe.import_checkpoint.checkpoint, recipe.import_checkpoint.revision)
    figures = known_figures(recipe, overrides or {}, shape.vision)
    work = Workload(recipe, figures.values).stages()
    placed = placement(recipe, on, gpus)
    engine = engine_memory(shape, recipe.engine, on)
    sized = [(training, _memory(recipe, shape, training)) for stage in work for training in stage.trainings]
    largest, trainer = max(sized, key=lambda one: one[1].total)
    steps = phases(placed, on, trainer, engine)
    image = figures.values.image_tokens
    stages = tuple(_stage(recipe, shape, on, engine, trainer, placed, one, image) for one in work)
    (rl,) = [one for one in work if one.stage == "rl"]
    retained = sum(len(each.retained_iterations) for each in (recipe.rl, recipe.long2short.rl))
    return Estimate(
        recipe=recipe.name,
        model=shape,
        device=on,
        placement=placed,
        price=on.price if price is None else price,
        figures=figures,
        stages=stages,
        largest=largest,
        trainer=trainer,
        engine=engine,
        at_once=_decoded(recipe, shape, on, engine, rl, image)[0].sequences,
        phases=steps,
        problems=tuple(problems(recipe, shape, figures.values, placed, on, steps, largest, trainer, engine)),
        retained=retained,
        retained_size=retained * shape.parameters * width(recipe.trainer.dtype),
    )


def _memory(recipe: Recipe, shape: ModelShape, training: Training) -> TrainerMemory:
    rows = max(2 if training.pair else 1, recipe.trainer.micro_batch_tokens // training.length)
    return trainer_memory(shape, recipe.trainer, rows, training.length, rows * training.length * training.images)


def _decoded(
    recipe: Recipe, shape: ModelShape, on: Device, engine: EngineMemory, work: StageWork, image: float
) -> list[DecodingTime]:
    return [
        decoding_time(
            shape,
            recipe.engine,
            on,
            engine.capacity,
            one.requests,
            one.prefilled,
            one.context,
            one.mean,
            one.longest,
            one.image_tokens,
            image,
        )
        for one in work.generations
    ]


def _stage(
    recipe: Recipe,
    shape: ModelShape,
    on: Device,
    engine: EngineMemory,
    trainer: TrainerMemory,
    placed: Placement,
    work: StageWork,
    image: float,
) -> StageEstimate:
    decoded = _decoded(recipe, shape, on, engine, work, image)
    seconds = [one.seconds * times.times for one, times in zip(decoded, work.generations, strict=True)]
    nodes = placed.trainer_nodes
    busy = [
        training_time(
            shape,
            recipe.trainer,
            on,
            one.steps,
            one.tokens,
            one.length,
            one.example,
            one.reference,
            nodes,
            one.tokens * one.images,
            image,
        )
        for one in work.trainings
    ]
    trained, generating = sum(one.seconds for one in busy), sum(seconds)
    turn = turn_seconds(shape, recipe.engine, trainer.offloaded if placed.turns else 0.0)
    return StageEstimate(
        stage=work.stage,
        generated=work.generated,
        trained=work.trained,
        generating=generating,
        training=trained,
        turns=work.turns * turn,
        start=on.start_seconds,
        occupancy=sum(o.occupancy * s for o, s in zip(decoded, seconds, strict=True)) / generating
        if generating
        else None,
        ranks_busy=sum(one.busy * one.seconds for one in busy) / trained if trained else None,
    )
