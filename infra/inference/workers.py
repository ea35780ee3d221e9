"""Several rollout workers (§2.6.1): Ray actors, each around the engine that otherwise runs in the stage's own process.

Work is handed out as it is done: a worker gets the next requests, in their order, when some of its own have ended, so
that short responses do not wait for a long one. Invariant: a request is at one worker at a time. What a worker returned
before it died counts, and what it had not returned goes to others, with the same seeds.

One machine uses a Ray of its own that ends with this process; RAY_ADDRESS names a cluster.
"""

import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from infra.cluster.group import current_group
from infra.configs import EngineConfig, Transport
from infra.environment import shared_engine_environment
from infra.inference.engine import Engine, check_room
from infra.inference.requests import Completion, Request
from infra.progress.tasks import say

_PATIENCE = 0.05
"""Seconds for which a worker gathers completions before it returns them: a call costs one or two milliseconds."""

_TURN = 0.5
"""Seconds after which a worker returns in any case, to take what has become free elsewhere, or to be stopped."""


class RolloutWorkersDied(RuntimeError):
    """Rollout workers died again and again."""


def join_ray(workers: int) -> bool:
    """Join the cluster at RAY_ADDRESS, or start a Ray of our own; whether this call did so."""
    import ray

    if ray.is_initialized():
        return False
    address = os.environ.get("RAY_ADDRESS")
    # A Ray of our own has room for the workers, however few cores there are.
    own: dict[str, Any] = {} if address else {"num_cpus": workers, "include_dashboard": False}
    ray.init(address=address or "local", log_to_driver=False, logging_level=logging.ERROR, **own)
    return True


class _Worker:
    """The actor: an engine, and what has to be called in its process."""

    def __init__(self, model: str, config: EngineConfig) -> None:
        self.engine = Engine(Path(model), config)

    def end_tokens(self) -> frozenset[int]:
        return self.engine.end_tokens

    def advance(self, requests: list[tuple[int, Request]]) -> list[Completion]:
        """Take requests, and generate until something has ended or the turn is over. Returns what has ended."""
        for index, request in requests:
            self.engine.add(index, request)
        done: list[Completion] = []
        until = time.monotonic() + _TURN
        while self.engine.running and time.monotonic() < until:
            if (ended := self.engine.step()) and not done:
                until = min(until, time.monotonic() + _PATIENCE)
            done += ended
        return done

    def abort(self) -> None:
        self.engine.abort()

    def update_weights(self, weights: np.ndarray, version: int) -> None:
        from safetensors.torch import load

        self.engine.update_weights(load(weights.tobytes()).items(), version)

    def release(self) -> None:
        self.engine.release()

    def wake(self, part: Literal["weights", "kv_cache"]) -> None:
        self.engine.wake(part)


@dataclass(eq=False)
class _Member:
    """A worker as this process sees it."""

    actor: Any
    in_progress: dict[int, Request] = field(default_factory=dict)
    """What it got and has not returned."""


class RolloutWorkers:
    """`config.workers` engines behind the methods of one. Raises RolloutWorkersDied if they do not stay alive."""

    def __init__(self, model: Path, config: EngineConfig) -> None:
        import ray

        self.config = config
        self._model = str(model.absolute())
        needed, there = config.workers * config.tensor_parallel, torch.cuda.device_count()
        if there < needed and torch.cuda.is_available() and "RAY_ADDRESS" not in os.environ:
            raise ValueError(
                f"engine.workers {config.workers} with engine.tensor_parallel {config.tensor_parallel} need {needed} "
                f"GPUs, and this machine has {there}: lower them, or name a Ray cluster in RAY_ADDRESS"
            )
        if (group := current_group()) is not None:
            # Workers are on all nodes, and read the model where it lies here.
            group.share(model)
        self._started_ray = join_ray(config.workers)
        self._weights: tuple[Any, int] | None = None
        """The newest ones, in Ray's object store, and their version."""
        self._replaced = 0
        """How many were replaced since the last completion."""
        self._members = [_Member(self._start()) for _ in range(config.workers)]
        try:
            self.end_tokens: frozenset[int] = ray.get([m.actor.end_tokens.remote() for m in self._members])[0]
        except BaseException:
            self.close()
            raise

    def _start(self) -> Any:
        import ray

        gpus = self.config.tensor_parallel if torch.cuda.is_available() else 0
        environment = shared_engine_environment(self.config.workers)
        actor = ray.remote(_Worker).options(num_cpus=1, num_gpus=gpus, runtime_env={"env_vars": environment})
        return actor.remote(self._model, self.config)

    def generate(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """Completions, each as soon as it is done, in no promised order.

        Raises ValueError for a request that leaves no room in the context. What runs is aborted if the caller stops.
        """
        import ray

        for index, request in enumerate(requests):
            check_room(index, request, self.config)
        if (group := current_group()) is not None:
            # Workers read images where they lie here.
            for folder in {image.parent for request in requests for image in request.images}:
                group.share(folder)
        waiting = deque(enumerate(requests))
        calls: dict[Any, _Member] = {}
        try:
            while waiting or any(member.in_progress for member in self._members):
                while not self._members:
                    self._replace()
                for member in self._members:
                    if member not in calls.values():
                        self._hand_out(member, waiting, calls)
                ready, _ = ray.wait(list(calls), num_returns=1)
                for call in ready:
                    member = calls.pop(call)
                    try:
                        done = ray.get(call)
                    except ray.exceptions.RayActorError:
                        waiting.extendleft(sorted(member.in_progress.items(), reverse=True))
                        self._discard(member)
                        continue
                    for completion in done:
                        del member.in_progress[completion.index]
                        self._replaced = 0
                    yield from done
        finally:
            self._abort(calls)

    def _hand_out(self, member: _Member, waiting: deque[tuple[int, Request]], calls: dict[Any, _Member]) -> None:
        """Fill a worker up to its share of all that is left, or to what it can generate at once."""
        left = len(waiting) + sum(len(other.in_progress) for other in self._members)
        share = min(self.config.max_sequences, -(-left // len(self._members)))
        batch = [waiting.popleft() for _ in range(min(len(waiting), max(0, share - len(member.in_progress))))]
        member.in_progress.update(batch)
        if member.in_progress:
            calls[member.actor.advance.remote(batch)] = member

    def _abort(self, calls: dict[Any, _Member]) -> None:
        for member in [member for member in self._members if member.in_progress]:
            member.in_progress.clear()
            self._on_each([member], lambda actor: actor.abort.remote())
        calls.clear()

    def generate_all(self, requests: Sequence[Request]) -> list[Completion]:
        """Completions in the order of the requests."""
        return sorted(self.generate(requests), key=lambda completion: completion.index)

    def update_weights(self, weights: Iterable[tuple[str, torch.Tensor]], version: int) -> None:
        """Replace all weights, by their Hugging Face names, and forget every cached prefix.

        They pass through Ray's shared memory once, in safetensors' format. Workers that died are replaced here.
        """
        import ray
        from safetensors.torch import save

        data = save({name: tensor.detach().cpu().contiguous() for name, tensor in weights})
        self._weights = ray.put(np.frombuffer(data, dtype=np.uint8)), version
        self._update(self._members)
        while len(self._members) < self.config.workers:
            self._replace()

    def _update(self, members: list[_Member]) -> None:
        if self._weights is not None:
            data, version = self._weights
            self._on_each(members, lambda actor: actor.update_weights.remote(data, version))

    def _on_each(self, members: list[_Member], call: Callable[[Any], Any]) -> None:
        """Call a method of each worker; those that have died are discarded."""
        import ray

        for member, called in [(member, call(member.actor)) for member in members]:
            try:
                ray.get(called)
            except ray.exceptions.RayActorError:
                self._discard(member)

    def _discard(self, member: _Member) -> None:
        import ray

        if member in self._members:
            self._members.remove(member)
            # Ray may only have lost sight of it; what it holds must not continue beside another's.
            ray.kill(member.actor)
            say(f"a rollout worker died; its {len(member.in_progress)} responses go to others")

    def _replace(self) -> None:
        """Start a worker in place of a dead one. It begins with the newest weights, never with the model's first ones.

        Raises RolloutWorkersDied once too many were replaced with nothing generated between.
        """
        self._replaced += 1
        if self._replaced > 3 * self.config.workers:
            raise RolloutWorkersDied(
                f"{self._replaced} rollout workers have died and nothing was generated: is there memory for "
                f"engine.workers {self.config.workers}?"
            )
        member = _Member(self._start())
        self._members.append(member)
        self._update([member])

    def release(self) -> None:
        """Drop weights and KV cache; described at `Engine.release`."""
        self._on_each(list(self._members), lambda actor: actor.release.remote())

    def wake(self, part: Literal["weights", "kv_cache"]) -> None:
        """Take back the memory of one part; described at `Engine.wake`."""
        self._on_each(list(self._members), lambda actor: actor.wake.remote(part))

    def receiving(self, version: int) -> AbstractContextManager[Callable[[dict[str, Any]], None]]:
        """Refused: the recipe's check of `handover.transport` does not let it come to this."""
        raise RuntimeError("checkpoint-engine sends weights to one engine; engine.workers must be 1")

    def close(self) -> None:
        """End the workers, and Ray if it was started here."""
        import ray

        for member in self._members:
            ray.kill(member.actor)
        self._members.clear()
        if self._started_ray:
            ray.shutdown()


AnyEngine = Engine | RolloutWorkers
"""A rollout engine, in this process or in several."""


def open_engine(model: Path, config: EngineConfig, transport: Transport = "memory") -> AnyEngine:
    """An engine with as many workers as the configuration says. `transport` is how weights reach a single one."""
    return RolloutWorkers(model, config) if config.workers > 1 else Engine(model, config, transport)
