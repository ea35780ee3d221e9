"""What the stages' bodies share: their settings, reading and gating data, evaluating and storing a model."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from infra.gates import examples_gate, problems_gate
from infra.stages import StageContext, StageOutput
from steps.chat import Chat
from steps.evaluation import evaluate
from steps.problem import Example, Problem, load_examples, load_problems
from steps.rewards.reward_model import RewardModel
from steps.stages.settings import StageSettings
from steps.workbench import Workbench


def held_out(context: StageContext) -> list[Problem]:
    """The test problems, past their gate."""
    problems = load_problems(context.inputs["data"] / "test.jsonl")
    context.gates.append(problems_gate("test problems", problem_frame(problems)))
    return problems


def gated_problems(context: StageContext, path: Path, name: str, test: Sequence[Problem]) -> list[Problem]:
    """Problems that a stage trains on, past their gate: none may be a test problem."""
    problems = load_problems(path)
    digests = frozenset(problem.digest for problem in test)
    context.gates.append(problems_gate(name, problem_frame(problems), digests))
    return problems


def gated_examples(context: StageContext, path: Path, name: str, chat: Chat, max_tokens: int) -> list[Example]:
    """Supervised examples, past their gate: each fits `max_tokens`."""
    examples = load_examples(path)
    frame = pd.DataFrame(
        {
            "id": [f"{index}:{example.problem_id}" for index, example in enumerate(examples, 1)],
            "prompt": [example.prompt for example in examples],
            "response": [example.response for example in examples],
            "tokens": [len(chat.example(example.prompt, example.response).tokens) for example in examples],
        }
    )
    context.gates.append(examples_gate(name, frame, max_tokens))
    return examples


def problem_frame(problems: Sequence[Problem]) -> pd.DataFrame:
    """Problems as the data gates read them."""
    return pd.DataFrame(
        {
            "id": [problem.id for problem in problems],
            "text": [problem.text for problem in problems],
            "verifier": [problem.verifier for problem in problems],
            "difficulty": [problem.difficulty for problem in problems],
            "digest": [problem.digest for problem in problems],
        }
    )


@contextmanager
def workbench(
    context: StageContext,
    settings: StageSettings[Any],
    model: Path,
    reward_models: Callable[[], Mapping[str, RewardModel]] = dict,
) -> Iterator[Workbench]:
    """A bench around `model` whose metrics go to the stage's log."""
    shared = (settings.engine, settings.trainer, context.seed, context.log, settings.handover, reward_models)
    with Workbench(model, *shared) as bench:
        yield bench


def finished(
    context: StageContext,
    bench: Workbench,
    settings: StageSettings[Any],
    test: Sequence[Problem],
    metrics: dict[str, Any],
    outputs: dict[str, tuple[str, Path]] | None = None,
) -> StageOutput:
    """Evaluate what is in the engine, save what is in the trainer, and return both as the stage's output."""
    evaluation = evaluate(bench, test, settings.evaluation)
    bench.take_back()
    model = bench.trainer.save(context.folder / "model")
    return StageOutput(
        {"model": ("model", model), **(outputs or {})}, metrics, evaluation.model_dump(), evaluation.headline
    )
