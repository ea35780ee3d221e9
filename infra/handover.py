"""Hand-over of weights from the trainer to the rollout engine in one process, each timed (§2.6.3)."""

import time

from infra.engine import Engine
from infra.trainer import Trainer


def hand_over(trainer: Trainer, engine: Engine, version: int) -> float:
    """Give the engine the trainer's weights, in memory and without restarting it. Returns the seconds it took.

    After it the engine's log-probabilities equal those of an engine started fresh from the same weights.
    """
    started = time.perf_counter()
    engine.update_weights(trainer.weights(), version)
    return time.perf_counter() - started
