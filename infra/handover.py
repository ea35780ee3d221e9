"""Hand-over between trainer and rollout engine (§2.6.3): offload → update weights → rollout → release → onload.

The trainer makes room, the engine takes the new weights and rolls out; then the engine makes room and the trainer goes
on. Each phase is timed. Here both stay in memory, so that only the update does anything.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from infra.engine import Engine
from infra.trainer import Trainer


@dataclass
class HandOver:
    """One trainer and one engine that take turns."""

    trainer: Trainer
    engine: Engine
    version: int = 0
    """How often the engine was given new weights."""
    seconds: dict[str, float] = field(default_factory=dict)
    """What the last turn's phases took, by phase."""

    def to_rollout(self) -> dict[str, float]:
        """Offload the trainer and give the engine its weights. Returns the seconds of both phases.

        After it the engine's log-probabilities equal those of an engine started fresh from the same weights.
        """
        with self._timed("offload"):
            pass
        with self._timed("update"):
            self.version += 1
            self.engine.update_weights(self.trainer.weights(), self.version)
        return {name: self.seconds[name] for name in ("offload", "update")}

    def to_training(self) -> dict[str, float]:
        """Release the engine's memory and onload the trainer. Returns the seconds of both phases."""
        with self._timed("release"):
            pass
        with self._timed("onload"):
            pass
        return {name: self.seconds[name] for name in ("release", "onload")}

    @contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[phase] = time.perf_counter() - started
