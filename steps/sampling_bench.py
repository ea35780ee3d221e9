"""What a stage samples with: one model's tokenizer and engine, a scorer, seeds, and where its metrics go.

Stages that train besides have a `steps.workbench.Workbench`; those that do not must not have the trainer's code in
their keys. Engine and scorer are handed in, ready or as a function that opens one.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

from infra.configs import EngineConfig, HandoverConfig
from infra.inference.engine import Completion, Repetition, Request
from infra.inference.workers import AnyEngine, open_engine
from infra.progress.tasks import task
from steps.chat import Chat
from steps.rewards.scorer import Scorer


class _Closes(Protocol):
    def close(self) -> None: ...


PartT = TypeVar("PartT", bound=_Closes)


class Part(Generic[PartT]):
    """A part of the bench: handed in ready, or opened when it is first used and then the bench's to close."""

    def __init__(self, part: PartT | Callable[[], PartT]) -> None:
        self._open: Callable[[], PartT] | None = part if callable(part) else None
        self._part: PartT | None = None if callable(part) else part

    @property
    def started(self) -> bool:
        """Whether it is there already."""
        return self._part is not None

    def get(self) -> PartT:
        """The part, opened now if it was not."""
        if self._part is None:
            assert self._open is not None
            self._part = self._open()
        return self._part

    def close(self) -> None:
        """Close it, if it was opened here."""
        if self._open is not None and self._part is not None:
            self._part.close()


class SamplingBench:
    """Built around one model folder.

    A part that is handed in ready stays its owner's to close. A part that a function opens starts when it is first
    used, and ends with the `with` block.
    """

    def __init__(
        self,
        model: Path,
        *,
        engine: AnyEngine | Callable[[], AnyEngine],
        scorer: Scorer | Callable[[], Scorer] = Scorer,
        context: int,
        seed: int,
        log: Callable[[dict[str, Any]], None] = lambda metrics: None,
        chat: Chat | None = None,
    ) -> None:
        """`context` is the longest prompt plus response of the engine, in tokens; `chat` is read from the model's
        folder by default."""
        self.model = model
        self.context = context
        self.seed = seed
        self.log = log
        self._engine: Part[AnyEngine] = Part(engine)
        self._scorer: Part[Scorer] = Part(scorer)
        self._chat = chat

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End what was opened."""
        self._scorer.close()
        self._engine.close()

    @cached_property
    def chat(self) -> Chat:
        """Tokenizer and chat format."""
        return self._chat or Chat(self.model)

    @property
    def engine(self) -> AnyEngine:
        """Generates with the model's weights, or with those that were handed over last."""
        return self._engine.get()

    @property
    def scorer(self) -> Scorer:
        """Judges responses."""
        return self._scorer.get()

    def random(self, purpose: str) -> Random:
        """A random generator of its own for each purpose, from the run's seed."""
        return Random(f"{self.seed} {purpose}")

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


def open_sampling_bench(
    model: Path,
    *,
    engine: EngineConfig,
    seed: int,
    log: Callable[[dict[str, Any]], None] = lambda metrics: None,
) -> SamplingBench:
    """A bench whose engine is started by its section of the recipe.

    Raises HandoverRefused for an engine that this machine cannot hold.
    """
    HandoverConfig().check_machine(engine)
    return SamplingBench(model, engine=lambda: open_engine(model, engine), context=engine.context, seed=seed, log=log)
