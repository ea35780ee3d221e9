"""What a stage samples with: a bench (steps/bench.py) with an engine of its model.

The engine is handed in, ready or as a function that opens one: the bench does not know vLLM.
"""

from collections.abc import Callable, Sequence
from itertools import repeat
from pathlib import Path
from typing import Any

from infra.configs import EngineConfig, HandoverConfig
from infra.errors import LonghaulError
from infra.inference.repetition import Repetition
from infra.inference.requests import Completion, Request
from infra.inference.workers import AnyEngine, open_engine
from infra.progress.tasks import task
from infra.vision.folders import ImageFolders
from steps.bench import Bench, Part
from steps.chat import Chat
from steps.problem import Problem
from steps.rewards.scorer import Scorer
from steps.token_prompt import TokenPrompt


class PromptTooLong(LonghaulError, ValueError):
    """A problem's prompt fills the engine's context."""


class SamplingBench(Bench):
    """A bench of a stage that samples."""

    def __init__(
        self,
        model: Path,
        *,
        engine: AnyEngine | Callable[[], AnyEngine],
        context: int,
        seed: int,
        scorer: Scorer | Callable[[], Scorer] = Scorer,
        log: Callable[[dict[str, Any]], None] = lambda metrics: None,
        chat: Chat | None = None,
        images: ImageFolders | None = None,
    ) -> None:
        """`context` is the longest prompt plus response of the engine, in tokens."""
        super().__init__(model, seed=seed, scorer=scorer, log=log, chat=chat, images=images)
        self.context = context
        self._engine: Part[AnyEngine] = Part(engine)

    def close(self) -> None:
        """End what was opened."""
        super().close()
        self._engine.close()

    @property
    def engine(self) -> AnyEngine:
        """Generates with the model's weights, or with those that were handed over last."""
        return self._engine.get()

    def prompts(self, problems: Sequence[Problem]) -> list[TokenPrompt]:
        """The problems' prompts. Raises PromptTooLong naming a problem that leaves no room for a response,
        and what the scorer raises where it cannot judge a problem, so that nothing is sampled in vain."""
        self.scorer.check(problems)
        prompts = [self.chat.read(problem) for problem in problems]
        for problem, prompt in zip(problems, prompts, strict=True):
            if len(prompt) >= self.context:
                raise PromptTooLong(
                    f"problem {problem.id} of {problem.source}: its prompt has {len(prompt)} tokens, and the engine's "
                    f"context {self.context}{self._large_image(prompt)}: raise engine.context, or take the problem out "
                    "of the data"
                )
        return prompts

    def _large_image(self, prompt: TokenPrompt) -> str:
        """Names an image that exceeds the context alone."""
        reader = self.chat.reader
        for digest in prompt.images if reader else ():
            assert reader
            if (tokens := len(reader.tokens(self.chat.images.path(digest)))) >= self.context:
                return f" (its image {digest} has {tokens} alone, which the processor's settings decide)"
        return ""

    def request(
        self,
        prompt: TokenPrompt,
        max_tokens: int,
        seed: int,
        temperature: float,
        *,
        response: Sequence[int] = (),
        repetition: Repetition | None = None,
    ) -> Request:
        """What the engine is asked for: to continue a prompt, and the response so far."""
        start = prompt.tokens if prompt.unexpanded is None else prompt.unexpanded
        return Request(
            [*start, *response],
            max_tokens,
            seed,
            temperature,
            response=len(response),
            repetition=repetition,
            images=self.image_paths(prompt),
            image_tokens=len(prompt) - len(start),
        )

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
        prompts: Sequence[TokenPrompt],
        samples: int,
        max_tokens: int,
        temperature: float,
        name: str,
        repetition: Repetition | None = None,
        begun: Sequence[Sequence[int]] | None = None,
    ) -> list[list[Completion]]:
        """`samples` completions of each prompt, with seeds of this stage's own.

        Args:
            begun: for each prompt, tokens that every response to it begins with.
        """
        rng = self.random(name)
        requests = [
            self.request(prompt, max_tokens, rng.getrandbits(31), temperature, response=begin, repetition=repetition)
            for prompt, begin in zip(prompts, begun or repeat((), len(prompts)), strict=True)
            for _ in range(samples)
        ]
        done = self.generate(requests, name)
        return [done[i : i + samples] for i in range(0, len(done), samples)]


def open_sampling_bench(
    model: Path,
    *,
    engine: EngineConfig,
    seed: int,
    scorer: Scorer | Callable[[], Scorer] = Scorer,
    log: Callable[[dict[str, Any]], None] = lambda metrics: None,
    images: ImageFolders | None = None,
) -> SamplingBench:
    """A bench whose engine is started by its section of the recipe.

    Raises HandoverRefused for an engine that this machine cannot hold.
    """
    HandoverConfig().check_machine(engine)
    return SamplingBench(
        model,
        engine=lambda: open_engine(model, engine),
        context=engine.context,
        seed=seed,
        scorer=scorer,
        log=log,
        images=images,
    )
