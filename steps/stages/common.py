"""What the stages' bodies share: their settings, reading and gating data, evaluating and storing a model."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from infra.stages.contract import StageContext, StageOutput
from steps.chat import Chat
from steps.evaluation import evaluate
from steps.gates import example_frame, held_out_parameters, pass_gate, problem_frame, problem_parameters
from steps.problem import Example, Problem, load_examples, load_problems
from steps.rewards.reward_model import RewardModel
from steps.rewards.scorer import Scorer
from steps.stages.settings import StageSettings
from steps.workbench import Workbench, open_workbench


def held_out(context: StageContext, settings: StageSettings[Any]) -> list[Problem]:
    """The test problems, past their gate."""
    data = context.inputs["data"]
    problems = load_problems(data / "test.jsonl")
    with problem_parameters(data) as parameters:
        pass_gate(context, settings.gates, "test problems", problem_frame(problems), parameters)
    return problems


def gated_problems(
    context: StageContext, settings: StageSettings[Any], path: Path, gate: str, test: Sequence[Problem]
) -> list[Problem]:
    """Problems that a stage trains on, past their gate: none may be a test problem."""
    problems = load_problems(path)
    gate_problems(context, settings, gate, problems, test)
    return problems


def gate_problems(
    context: StageContext,
    settings: StageSettings[Any],
    gate: str,
    problems: Sequence[Problem],
    test: Sequence[Problem],
    more: Mapping[str, Any] | None = None,
) -> None:
    """Pass problems through a gate; `more` are parameters that this gate's rules may name besides."""
    with problem_parameters(context.inputs["data"]) as parameters:
        parameters |= held_out_parameters(test) | dict(more or {})
        pass_gate(context, settings.gates, gate, problem_frame(problems), parameters)


def gated_examples(
    context: StageContext,
    settings: StageSettings[Any],
    path: Path,
    gate: str,
    test: Sequence[Problem],
    chat: Chat,
    max_tokens: int,
) -> list[Example]:
    """Supervised examples, past their gate: each fits `max_tokens`."""
    examples = load_examples(path)
    gate_examples(context, settings, gate, examples, test, chat, max_tokens)
    return examples


def gate_examples(
    context: StageContext,
    settings: StageSettings[Any],
    gate: str,
    examples: Sequence[Example],
    test: Sequence[Problem],
    chat: Chat,
    max_tokens: int,
) -> None:
    """Pass supervised examples through a gate."""
    parameters = held_out_parameters(test) | {"max_tokens": max_tokens}
    pass_gate(context, settings.gates, gate, example_frame(examples, chat), parameters)


@contextmanager
def workbench(
    context: StageContext,
    settings: StageSettings[Any],
    model: Path,
    reward_models: Callable[[], Mapping[str, RewardModel]] = dict,
) -> Iterator[Workbench]:
    """A bench around `model` whose metrics go to the stage's log; reward models are opened with its scorer."""
    with open_workbench(
        model,
        engine=settings.engine,
        trainer=settings.trainer,
        seed=context.seed,
        scorer=lambda: Scorer(models=reward_models()),
        log=context.log,
        handover=settings.handover,
    ) as bench:
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
    bench.resume_training()
    model = bench.trainer.save(context.folder / "model")
    return StageOutput(
        {"model": ("model", model), **(outputs or {})}, metrics, evaluation.model_dump(), evaluation.headline
    )
