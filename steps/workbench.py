"""What a stage trains and samples with: a sampling bench (steps/sampling_bench.py) and a trainer of its model.

The trainer is handed in, ready or as a function that opens one: the bench knows neither vLLM nor DeepSpeed.
`open_workbench` hands in what the configuration's sections say.
"""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

from infra.configs import EngineConfig, HandoverConfig, TrainerConfig
from infra.inference.workers import AnyEngine, open_engine
from infra.training.ranks import AnyTrainer, open_trainer
from infra.vision.folders import ImageFolders
from infra.weights.handover import HandOver
from steps.bench import Part
from steps.chat import Chat
from steps.rewards.scorer import Scorer
from steps.sampling_bench import SamplingBench


class Workbench(SamplingBench):
    """Built around one model folder, whose weights the trainer trains and the engine is given."""

    def __init__(
        self,
        model: Path,
        *,
        engine: AnyEngine | Callable[[], AnyEngine],
        trainer: AnyTrainer | Callable[[], AnyTrainer],
        scorer: Scorer | Callable[[], Scorer] = Scorer,
        context: int,
        seed: int,
        log: Callable[[dict[str, Any]], None] = lambda metrics: None,
        handover: HandoverConfig | None = None,
        chat: Chat | None = None,
        images: ImageFolders | None = None,
    ) -> None:
        super().__init__(
            model, engine=engine, scorer=scorer, context=context, seed=seed, log=log, chat=chat, images=images
        )
        self._trainer: Part[AnyTrainer] = Part(trainer)
        self._handover = handover or HandoverConfig()

    def close(self) -> None:
        """End what was opened."""
        super().close()
        self._trainer.close()

    @property
    def trainer(self) -> AnyTrainer:
        """Trains the model's weights."""
        return self._trainer.get()

    @cached_property
    def turns(self) -> HandOver:
        """Trainer and engine in turns. The trainer starts first: a process group has to be there before vLLM."""
        share = self._handover.share_device
        if share and self._engine.started:
            self.engine.release()
        trainer = self.trainer
        if share and not self._engine.started:
            # An engine takes its share of the memory that is free when it starts.
            trainer.offload("optimizer")
        return HandOver(trainer, self.engine, self._handover)

    def hand_over(self) -> dict[str, float]:
        """Give the engine the trainer's weights: from now on it may generate. Returns the seconds of each phase."""
        return self.turns.to_rollout()

    def resume_training(self) -> dict[str, float]:
        """End the engine's turn: from now on the trainer may train. Returns the seconds of each phase."""
        return self.turns.to_training()


def open_workbench(
    model: Path,
    *,
    engine: EngineConfig,
    trainer: TrainerConfig,
    seed: int,
    scorer: Scorer | Callable[[], Scorer] = Scorer,
    log: Callable[[dict[str, Any]], None] = lambda metrics: None,
    handover: HandoverConfig | None = None,
    chat: Chat | None = None,
    images: ImageFolders | None = None,
) -> Workbench:
    """A bench whose engine and trainer are started by their sections of the recipe.

    Raises HandoverRefused for a hand-over that this machine cannot do.
    """
    handover = handover or HandoverConfig()
    handover.check_machine(engine)
    transport = handover.transport
    return Workbench(
        model,
        engine=lambda: open_engine(model, engine, transport),
        trainer=lambda: open_trainer(model, trainer, seed),
        scorer=scorer,
        context=engine.context,
        seed=seed,
        log=log,
        handover=handover,
        chat=chat,
        images=images,
    )
