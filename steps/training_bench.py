"""What a stage trains with that samples nothing: a bench (steps/bench.py) with a trainer of its model.

The trainer is handed in, ready or as a function that opens one: the bench does not know DeepSpeed.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from infra.configs import TrainerConfig
from infra.training.ranks import AnyTrainer, open_trainer
from infra.vision.folders import ImageFolders
from steps.bench import Bench, Part
from steps.chat import Chat
from steps.rewards.scorer import Scorer


class TrainingBench(Bench):
    """A bench of a stage that trains, and does not sample."""

    def __init__(
        self,
        model: Path,
        *,
        trainer: AnyTrainer | Callable[[], AnyTrainer],
        seed: int,
        scorer: Scorer | Callable[[], Scorer] = Scorer,
        log: Callable[[dict[str, Any]], None] = lambda metrics: None,
        chat: Chat | None = None,
        images: ImageFolders | None = None,
    ) -> None:
        super().__init__(model, seed=seed, scorer=scorer, log=log, chat=chat, images=images)
        self._trainer: Part[AnyTrainer] = Part(trainer)

    def close(self) -> None:
        """End what was opened."""
        super().close()
        self._trainer.close()

    @property
    def trainer(self) -> AnyTrainer:
        """Trains the model's weights."""
        return self._trainer.get()


def open_training_bench(
    model: Path,
    *,
    trainer: TrainerConfig,
    seed: int,
    scorer: Scorer | Callable[[], Scorer] = Scorer,
    log: Callable[[dict[str, Any]], None] = lambda metrics: None,
    images: ImageFolders | None = None,
) -> TrainingBench:
    """A bench whose trainer is started by its section of the recipe."""
    return TrainingBench(
        model, trainer=lambda: open_trainer(model, trainer, seed), seed=seed, scorer=scorer, log=log, images=images
    )
