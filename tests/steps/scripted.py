"""A bench whose engine answers by a script and whose trainer records its steps: what a stage computes from responses
can then be counted by hand. Scores are the real verifiers'.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, Literal

import torch

from infra.configs import EngineConfig, TrainerConfig
from infra.inference.requests import Completion, Request
from infra.training.interface import StepResult
from steps.chat import Chat
from steps.training_bench import TrainingBench
from steps.workbench import Workbench

CONTEXT = 512


@dataclass(frozen=True)
class Answer:
    """A prepared response."""

    text: str
    ended: Literal["stop", "length", "repetition"] = "stop"


class ScriptedEngine:
    """Gives prepared responses: `script` gets the prompt's text and how many responses to it were asked for before."""

    def __init__(self, chat: Chat, script: Callable[[str, int], Answer | str]) -> None:
        self.config = EngineConfig(context=CONTEXT)
        self.requests: list[Request] = []
        self.closed = False
        self._chat, self._script = chat, script

    def generate(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """The last request's completion first: no caller may count on the order."""
        turn: defaultdict[tuple[int, ...], int] = defaultdict(int)
        completions = []
        for index, request in enumerate(requests):
            prompt = tuple(request.tokens)
            answer = self._script(str(self._chat.tokenizer.decode([*prompt], skip_special_tokens=False)), turn[prompt])
            turn[prompt] += 1
            answer = Answer(answer) if isinstance(answer, str) else answer
            tokens = self._chat.encode(answer.text) + [self._chat.end_token] * (answer.ended == "stop")
            assert len(tokens) <= request.max_tokens, "the script answers with more tokens than the request allows"
            completions.append(Completion(index, tokens, [0.0] * len(tokens), answer.ended))
        self.requests += requests
        yield from reversed(completions)

    def update_weights(self, weights: Iterable[tuple[str, torch.Tensor]], version: int) -> None:
        """Nothing changes: the script answers whatever the weights."""

    def close(self) -> None:
        """Remember that it was closed."""
        self.closed = True


@dataclass
class RecordingTrainer:
    """Keeps the texts that each optimizer step trained on, and the order of steps and resets."""

    chat: Chat
    config: TrainerConfig = field(default_factory=TrainerConfig)
    steps: list[list[str]] = field(default_factory=list)
    """The examples of each optimizer step, prompt and response as text, sorted."""
    rates: list[float] = field(default_factory=list)
    resets: list[int] = field(default_factory=list)
    """After how many steps the optimizer was reset."""
    saved: list[Path] = field(default_factory=list)
    closed: bool = False

    def step(self, batches: Sequence[Any], loss: Any, learning_rate: float, temperature: float = 1.0) -> StepResult:
        """Record the examples; the loss is 1."""
        texts = []
        for rows in batches:
            planes = (rows.tokens.tolist(), rows.example_lengths, rows.owners.tolist())
            for tokens, lengths, owners in zip(*planes, strict=True):
                # Padding is counted as part of the last example, which ends with its last response token.
                used = max(place for place, owner in enumerate(owners) if owner >= 0) + 2
                for begin, end in pairwise([*accumulate(lengths[:-1], initial=0), used]):
                    texts.append(str(self.chat.tokenizer.decode(tokens[begin:end])))
        self.steps.append(sorted(texts))
        self.rates.append(learning_rate)
        return StepResult(1.0, 1.0, {})

    def reset_optimizer(self) -> None:
        """Record when."""
        self.resets.append(len(self.steps))

    def weights(self) -> Iterator[tuple[str, torch.Tensor]]:
        """None: the engine is a script."""
        return iter(())

    def close(self) -> None:
        """Remember that it was closed."""
        self.closed = True


@contextmanager
def scripted_bench(
    model: Path,
    script: Callable[[str, int], Answer | str],
    *,
    seed: int = 0,
    log: Callable[[dict[str, Any]], None] = lambda metrics: None,
) -> Iterator[tuple[Workbench, ScriptedEngine, RecordingTrainer]]:
    """The bench, its engine and its trainer."""
    chat = Chat(model)
    engine, trainer = ScriptedEngine(chat, script), RecordingTrainer(chat)
    parts: Any = {"engine": engine, "trainer": trainer}
    with Workbench(model, **parts, context=CONTEXT, seed=seed, log=log, chat=chat) as bench:
        yield bench, engine, trainer


@contextmanager
def recording_bench(model: Path) -> Iterator[tuple[TrainingBench, RecordingTrainer]]:
    """The bench of a stage that samples nothing, and its trainer."""
    chat = Chat(model)
    trainer = RecordingTrainer(chat)
    parts: Any = {"trainer": trainer}
    with TrainingBench(model, **parts, seed=0, chat=chat) as bench:
        yield bench, trainer
