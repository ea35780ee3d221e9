"""Vanilla SFT: what rejection sampling retains, and what each phase trains on."""

from pathlib import Path
from typing import Any

import pytest

from steps.configs.phase import PhaseConfig
from steps.configs.sft import ExpansionConfig, SftConfig
from steps.problem import Example, Problem
from steps.sft import rejection_sample, vanilla_sft
from tests.steps.scripted import Answer, scripted_bench

PROBLEMS = [
    Problem(id=name, prompt=f"{name} = ?", answer="2", verifier="math", source="made up", licence="MIT")
    for name in ("one", "two")
]
ANSWERS = [
    Answer("First: \\boxed{2}"),
    Answer("First: \\boxed{2}"),
    Answer("Wrong: \\boxed{3}"),
    Answer("Cut off: \\boxed{2}", "length"),
    Answer("Second: \\boxed{2}"),
    Answer("Third: \\boxed{2}"),
]
EXPANSION = ExpansionConfig(problems=2, samples=6, keep=2, max_response_tokens=40)


def answers(prompt: str, turn: int) -> Answer:
    return ANSWERS[turn] if "one = ?" in prompt else Answer("No: \\boxed{5}")


def test_only_whole_right_and_different_answers_are_retained_up_to_the_number(base: Path) -> None:
    with scripted_bench(base, answers) as (bench, engine, _):
        retained = rejection_sample(bench, PROBLEMS, EXPANSION)
    assert [(example.problem_id, example.response) for example, _ in retained] == [
        ("one", "First: \\boxed{2}"),
        ("one", "Second: \\boxed{2}"),
    ]
    example, score = retained[0]
    assert (example.prompt, example.kind, example.licence) == ("one = ?", "reasoning", "MIT")
    assert example.source == "rejection sampling on made up"
    assert (score.value, score.reason) == (1.0, "right")
    assert len(engine.requests) == 12 and {request.max_tokens for request in engine.requests} == {40}


def phase(learning_rate: float, **changes: Any) -> PhaseConfig:
    settings = {"sequence_length": 64, "tokens_per_step": 4096, "warmup_share": 0.0} | changes
    return PhaseConfig(learning_rate=learning_rate, final_learning_rate=learning_rate / 10, **settings)


EXAMPLES = [Example(problem_id=str(i), prompt=f"prompt {i}", response=f"response {i}") for i in range(3)]


def test_the_second_phase_trains_on_the_examples_that_the_first_phases_model_adds(base: Path) -> None:
    config = SftConfig(phases=(phase(1e-3, epochs=2), phase(1e-4, sequence_length=128)), expansion=EXPANSION)
    logged: list[dict[str, Any]] = []
    with scripted_bench(base, answers, log=logged.append) as (bench, _, trainer):
        result = vanilla_sft(bench, EXAMPLES, PROBLEMS, config)
    assert (result.examples, result.sampled, len(result.expanded), len(result.scores)) == (3, 12, 2, 2)
    one, other, second = trainer.steps
    assert one == other and len(one) == 3 and all("response" in text for text in one)
    assert len(second) == 5 and set(one) < set(second)
    assert sum("one = ?" in text and "\\boxed{2}" in text for text in second) == 2
    # Adam starts again with the second phase, and so does the learning rate.
    assert trainer.resets == [2]
    assert trainer.rates == pytest.approx([1e-3, 1e-4, 1e-4])
    assert [next(iter(row)).partition("/")[0] for row in logged] == ["SFT phase 1", "SFT phase 1", "SFT phase 2"]


def test_without_expansion_the_second_phase_has_the_same_examples_and_samples_nothing(base: Path) -> None:
    config = SftConfig(phases=(phase(1e-3), phase(1e-4)), expansion=ExpansionConfig(problems=0))
    with scripted_bench(base, answers) as (bench, engine, trainer):
        result = vanilla_sft(bench, EXAMPLES, PROBLEMS, config)
    assert (result.sampled, result.expanded, engine.requests) == (0, [], [])
    assert trainer.steps[0] == trainer.steps[1]


def test_a_prompt_to_expand_on_that_fills_the_context_is_named_before_anything_trains(base: Path) -> None:
    config = SftConfig(phases=(phase(1e-3), phase(1e-4)), expansion=EXPANSION)
    long = Problem(id="three", prompt="x" * 600, answer="2", verifier="math", source="made up")
    message = r"problem three of made up: .*context 512: raise engine\.context"
    with scripted_bench(base, answers) as (bench, _, trainer), pytest.raises(ValueError, match=message):
        vanilla_sft(bench, EXAMPLES, [long, PROBLEMS[0]], config)
    assert trainer.steps == []


def test_without_examples_only_what_the_imported_model_gets_right_is_trained_on(base: Path) -> None:
    config = SftConfig(phases=(phase(1e-3), phase(1e-4, sequence_length=128)), expansion=EXPANSION)
    with scripted_bench(base, answers) as (bench, _, trainer):
        result = vanilla_sft(bench, [], PROBLEMS, config)
        assert (result.examples, len(result.expanded)) == (0, 2)
        (step,) = trainer.steps
        assert len(step) == 2 and all("\\boxed{2}" in text for text in step)
        with pytest.raises(ValueError, match="none of 6 sampled answers is right: name a source of examples"):
            vanilla_sft(bench, [], PROBLEMS[1:], config)
        nothing = SftConfig(phases=config.phases, expansion=ExpansionConfig(problems=0))
        with pytest.raises(ValueError, match=r"data\.sources\.sft names no examples"):
            vanilla_sft(bench, [], PROBLEMS, nothing)
