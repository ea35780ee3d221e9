"""What a stage works with: one model's tokenizer, engine and trainer, a scorer, seeds, and where its metrics go."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Any

from infra.configs import EngineConfig, HandoverConfig, TrainerConfig
from infra.inference.engine import Completion, Engine, Repetition, Request
from infra.inference.workers import RolloutWorkers
from infra.progress.tasks import task
from infra.training.ranks import AnyTrainer, open_trainer
from infra.weights.handover import HandOver
from steps.chat import Chat
from steps.rewards.reward_model import RewardModel
from steps.rewards.scorer import Scorer


class Workbench:
    """Built around one model folder; engine and trainer start when first used and end with the `with` block."""

    def __init__(
        self,
        model: Path,
        engine: EngineConfig,
        trainer: TrainerConfig,
        seed: int,
        log: Callable[[dict[str, Any]], None] = lambda metrics: None,
        handover: HandoverConfig | None = None,
        reward_models: Callable[[], Mapping[str, RewardModel]] = dict,
    ) -> None:
        self.model = model
        self.seed = seed
        self.log = log
        self.engine_config = engine
        self.trainer_config = trainer
        self._handover_config = handover or HandoverConfig()
        self._handover_config.check_machine(engine)
        self._open_reward_models = reward_models

    def __enter__(self) -> "Workbench":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in ("scorer", "engine", "trainer"):
            if name in self.__dict__:
                getattr(self, name).close()

    @cached_property
    def chat(self) -> Chat:
        """Tokenizer and chat format."""
        return Chat(self.model)

    @cached_property
    def trainer(self) -> AnyTrainer:
        """DeepSpeed around the model, in this process or in several ranks."""
        return open_trainer(self.model, self.trainer_config, self.seed)

    @cached_property
    def engine(self) -> Engine | RolloutWorkers:
        """vLLM around the model, in this process or in several workers."""
        if self.engine_config.workers > 1:
            return RolloutWorkers(self.model, self.engine_config)
        return Engine(self.model, self.engine_config, self._handover_config.transport)

    @cached_property
    def turns(self) -> HandOver:
        """Trainer and engine in turns. The trainer starts first: a process group has to be there before vLLM."""
        share = self._handover_config.share_device
        if share and "engine" in self.__dict__:
            self.engine.release()
        trainer = self.trainer
        if share and "engine" not in self.__dict__:
            # An engine takes its share of the memory that is free when it starts.
            trainer.offload("optimizer")
        return HandOver(trainer, self.engine, self._handover_config)

    @cached_property
    def scorer(self) -> Scorer:
        """Judges responses. Reward models are opened with it."""
        return Scorer(models=self._open_reward_models())

    def random(self, purpose: str) -> Random:
        """A random generator of its own for each purpose, from the run's seed."""
        return Random(f"{self.seed} {purpose}")

    def hand_over(self) -> dict[str, float]:
        """Give the engine the trainer's weights: from now on it may generate. Returns the seconds of each phase."""
        return self.turns.to_rollout()

    def take_back(self) -> dict[str, float]:
        """End the engine's turn: from now on the trainer may train. Returns the seconds of each phase."""
        return self.turns.to_training()

    def generate(self, requests: Sequence[Request], name: str) -> list[Completion]:
        """Completions in the order of the requests, with progress."""
        done: list[Completion] = []
        with task(name, total=len(requests), unit="responses") as progress:
            for completion in self.engine.generate(requests):
                done.append(completion)
                progress.advance(1)
        return sorted(done, key=lambda completion: completion.index)

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        samples: int,
        max_tokens: int,
        temperature: float,
        name: str,
        repetition: Repetition | None = None,
    ) -> list[list[Completion]]:
        """`samples` completions of each prompt, with seeds of this stage's own."""
        rng = self.random(name)
        requests = [
            Request(prompt, max_tokens, rng.getrandbits(31), temperature, repetition=repetition)
            for prompt in prompts
            for _ in range(samples)
        ]
        done = self.generate(requests, name)
        return [done[i : i + samples] for i in range(0, len(done), samples)]
