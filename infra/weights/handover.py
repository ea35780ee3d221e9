"""Hand-over between trainer and rollout engine (§2.6.3): offload → update weights → rollout → release → onload.

The trainer makes room, the engine takes the new weights and rolls out; then the engine makes room and the trainer goes
on. Each phase is timed. Where both have memory of their own, as on a CPU, only the update does anything.

Invariant where they share a GPU: optimizer states, float32 weights and gradients leave the GPU before the engine's
weights come back; the trainer's weights leave once the engine has them, and before the KV cache comes back; the engine
is asleep before anything of the trainer returns. So the GPU holds at most two copies of the weights, and never the KV
cache beside the optimizer.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from torch import Tensor

from infra.configs import EngineConfig, HandoverConfig
from infra.weights.checkpoint_engine import Sockets


class TrainingSide(Protocol):
    """What a hand-over asks of a trainer; described at `infra.training.trainer.Trainer`."""

    def weights(self) -> Iterable[tuple[str, Tensor]]: ...

    def send_weights(self, dtype: str, receive: Callable[[Sockets], None]) -> None: ...

    def offload(self, part: Literal["optimizer", "weights"]) -> None: ...

    def onload(self) -> None: ...


class RolloutSide(Protocol):
    """What a hand-over asks of an engine; described at `infra.inference.engine.Engine`."""

    config: EngineConfig

    def update_weights(self, weights: Iterable[tuple[str, Tensor]], version: int) -> None: ...

    def receiving(self, version: int) -> AbstractContextManager[Callable[[dict[str, Any]], None]]: ...

    def wake(self, part: Literal["weights", "kv_cache"]) -> None: ...

    def release(self) -> None: ...


@dataclass
class HandOver:
    """One trainer and one engine that take turns."""

    trainer: TrainingSide
    engine: RolloutSide
    config: HandoverConfig = field(default_factory=HandoverConfig)
    version: int = 0
    """How often the engine got new weights."""
    seconds: dict[str, float] = field(default_factory=dict)
    """What the last turn's phases took, by phase."""

    def to_rollout(self) -> dict[str, float]:
        """Offload the trainer and give the engine its weights. Returns the seconds of both phases.

        After it the engine's log-probabilities equal those of an engine started fresh from the same weights.
        """
        self.seconds = {}
        with self._timed("offload"):
            if self.config.share_device:
                self.trainer.offload("optimizer")
        with self._timed("update"):
            if self.config.share_device:
                self.engine.wake("weights")
            self._update()
        with self._timed("offload"):
            if self.config.share_device:
                self.trainer.offload("weights")
        with self._timed("update"):
            if self.config.share_device:
                self.engine.wake("kv_cache")
        return self.seconds

    def to_training(self) -> dict[str, float]:
        """Release the engine's memory and onload the trainer. Returns the seconds of both phases.

        Changes nothing where it is the trainer's turn already.
        """
        self.seconds = {}
        with self._timed("release"):
            if self.config.share_device:
                self.engine.release()
        with self._timed("onload"):
            if self.config.share_device:
                self.trainer.onload()
        return self.seconds

    def _update(self) -> None:
        self.version += 1
        if self.config.transport == "memory":
            self.engine.update_weights(self.trainer.weights(), self.version)
        else:
            with self.engine.receiving(self.version) as receive:
                self.trainer.send_weights(self.engine.config.dtype, lambda sockets: receive({"sockets": sockets}))

    @contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[phase] = self.seconds.get(phase, 0.0) + time.perf_counter() - started
