"""An engine in a process of its own: reward models score there while the policy's engine rolls out (§2.6.1).

Not in the same process: vLLM keeps a forward pass's state, and the memory that its sleep mode frees, in globals of the
process, and two engines would share them. The process is a Ray actor, on a GPU of its own where there is one.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from infra.configs import EngineConfig
from infra.environment import shared_engine_environment
from infra.inference.engine import Engine, ValueEngine
from infra.inference.requests import Completion, Request
from infra.inference.workers import join_ray
from infra.progress.tasks import say

_STARTS = 3
"""How often one call may start the process."""


class EngineDied(RuntimeError):
    """An engine's process died again and again."""


class _Actor:
    """The actor."""

    def __init__(self, kind: type[Engine] | type[ValueEngine], model: str, config: EngineConfig) -> None:
        self.engine = kind(Path(model), config)

    def call(self, method: str, arguments: Sequence[Any]) -> Any:
        return getattr(self.engine, method)(arguments)


class IsolatedEngine:
    """`Engine.generate_all` or `ValueEngine.values`, in another process, which starts in the background.

    One thread at a time may call. A process that dies is started again and gets the call again: results depend on the
    arguments alone. Raises EngineDied if it does not stay alive.
    """

    def __init__(self, kind: type[Engine] | type[ValueEngine], model: Path, config: EngineConfig) -> None:
        self.config = config
        self._kind = kind
        self._model = str(model.absolute())
        self._started_ray = join_ray(config.workers)
        self._actor = self._start()

    def _start(self) -> Any:
        import ray

        # A Ray of our own counts the rollout workers' cores; this process shares them.
        cores = 1 if "RAY_ADDRESS" in os.environ else 0
        gpus = self.config.tensor_parallel if torch.cuda.is_available() else 0
        environment = shared_engine_environment(2)
        actor = ray.remote(_Actor).options(num_cpus=cores, num_gpus=gpus, runtime_env={"env_vars": environment})
        return actor.remote(self._kind, self._model, self.config)

    def generate_all(self, requests: Sequence[Request]) -> list[Completion]:
        """See Engine."""
        return self._call("generate_all", requests)

    def values(self, sequences: Sequence[Sequence[int]]) -> list[float]:
        """See ValueEngine."""
        return self._call("values", sequences)

    def _call(self, method: str, arguments: Sequence[Any]) -> Any:
        import ray

        for left in reversed(range(_STARTS)):
            try:
                return ray.get(self._actor.call.remote(method, arguments))
            except ray.exceptions.RayActorError as error:
                if not left:
                    raise EngineDied(f"the engine of {self._model} does not stay alive: {error}") from error
                say("an engine's process died and is started again")
                self._actor = self._start()

    def close(self) -> None:
        """End the process, and Ray if it was started here."""
        import ray

        ray.kill(self._actor)
        if self._started_ray:
            ray.shutdown()
