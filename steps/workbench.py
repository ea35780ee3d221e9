"""What a stage works with: one model's tokenizer, engine and trainer, a scorer, seeds, and where its metrics go.

Engine, trainer and scorer are handed in, ready or as a function that opens one: the bench knows neither vLLM nor
DeepSpeed. `open_workbench` hands in what the configuration's sections say.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Any, Generic, TypeVar

from infra.configs import EngineConfig, HandoverConfig, TrainerConfig
from infra.inference.engine import Completion, Repetition, Request
from infra.inference.workers import AnyEngine, open_engine
from infra.progress.tasks import task
from infra.training.ranks import AnyTrainer, open_trainer
from infra.weights.handover import HandOver
from steps.chat import Chat
from steps.rewards.scorer import Scorer

PartT = TypeVar("PartT", AnyEngine, AnyTrainer, Scorer)


class _Part(Generic[PartT]):
    """A part of the bench: handed in ready, or opened when it is first used and then the bench's to close."""

    def __init__(self, part: PartT | Callable[[], PartT]) -> None:
        self._open: Callable[[], PartT] | None = part if callable(part) else None
        self._part: PartT | None = None if callable(part) else part

    @property
    def started(self) -> bool:
        return self._part is not None

    def get(self) -> PartT:
        if self._part is None:
            assert self._open is not None
            self._part = self._open()
        return self._part

    def close(self) -> None:
        if self._open is not None and self._part is not None:
            self._part.close()


class Workbench:
    """Built around one model folder.

    A part that is handed in ready stays its owner's to close. A part that a function opens starts when it is first
    used, and ends with the `with` block.
    """

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
    ) -> None:
        """`context` is the longest prompt plus response of the engine, in tokens; `chat` is read from the model's
        folder by default."""
        self.model = model
        self.context = context
        self.seed = seed
        self.log = log
        self._engine: _Part[AnyEngine] = _Part(engine)
        self._trainer: _Part[AnyTrainer] = _Part(trainer)
        self._scorer: _Part[Scorer] = _Part(scorer)
        self._handover = handover or HandoverConfig()
        self._chat = chat

    def __enter__(self) -> "Workbench":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for part in (self._scorer, self._engine, self._trainer):
            part.close()

    @cached_property
    def chat(self) -> Chat:
        """Tokenizer and chat format."""
        return self._chat or Chat(self.model)

    @property
    def trainer(self) -> AnyTrainer:
        """Trains the model's weights."""
        return self._trainer.get()

    @property
    def engine(self) -> AnyEngine:
        """Generates with the model's weights, or with those that were handed over last."""
        return self._engine.get()

    @property
    def scorer(self) -> Scorer:
        """Judges responses."""
        return self._scorer.get()

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

    def random(self, purpose: str) -> Random:
        """A random generator of its own for each purpose, from the run's seed."""
        return Random(f"{self.seed} {purpose}")

    def hand_over(self) -> dict[str, float]:
        """Give the engine the trainer's weights: from now on it may generate. Returns the seconds of each phase."""
        return self.turns.to_rollout()

    def resume_training(self) -> dict[str, float]:
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
    )
