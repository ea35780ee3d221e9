"""Generators of inputs, written by the model (§2.3.5): a program for each problem that makes its cases with CYaRon.

The interface, which a generator written by hand keeps too: the program reads one line from standard input, the case's
number (from 1) and a seed; it seeds `random`, from which CYaRon draws; it prints one input and nothing else. The same
line gives the same input. CYaRon's `IO` writes files by default; `IO(sys.stdout, disable_output=True)` does not.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from steps.configs.case_generation import CASES, PROMPT, STATEMENT, GeneratorConfig
from steps.rewards.case_problems import CaseProblem, needs_special_judge
from steps.rewards.score import python_program
from steps.token_prompt import TokenPrompt

if TYPE_CHECKING:  # it imports engine and trainer
    from steps.workbench import Workbench


@dataclass(frozen=True)
class WrittenGenerators:
    """Problems with the generators that the model wrote for them, and why the others have none."""

    problems: list[CaseProblem]
    missing: dict[str, str]
    """Why a problem still has no generator, by its id."""


def generator_prompt(statement: str, cases: int, prompt: str = PROMPT) -> str:
    """What the model is asked for a problem."""
    # The statement last: it may hold braces of its own.
    return prompt.replace(CASES, str(cases)).replace(STATEMENT, statement.strip())


def write_generators(
    bench: "Workbench", problems: Sequence[CaseProblem], cases: int, config: GeneratorConfig
) -> WrittenGenerators:
    """Ask the model in the bench's engine, once for each problem that has no generator and needs no special judge."""
    missing: dict[str, str] = {}
    prompts: dict[str, TokenPrompt] = {}
    room = max(0, bench.context - config.max_response_tokens)
    for problem in problems:
        if problem.generator is None and needs_special_judge(problem) is None:
            prompt = bench.chat.read(generator_prompt(problem.prompt, cases, config.prompt))
            if len(prompt) > room:
                missing[problem.id] = f"the prompt has {len(prompt)} tokens, and the model has room for {room}"
            else:
                prompts[problem.id] = prompt
    written: dict[str, str] = {}
    if not prompts:
        return WrittenGenerators(list(problems), missing)
    answers = bench.sample(list(prompts.values()), 1, config.max_response_tokens, config.temperature, name="generators")
    for problem_id, (completion,) in zip(prompts, answers, strict=True):
        program = python_program(bench.chat.text(completion.tokens))
        if program is None:
            missing[problem_id] = "the model wrote no program"
        else:
            written[problem_id] = program
    return WrittenGenerators(
        [p.model_copy(update={"generator": written[p.id]}) if p.id in written else p for p in problems], missing
    )
