"""Generators of inputs, written by the model (§2.3.5): a program for each problem that makes its cases with CYaRon.

The interface, which a generator written by hand keeps too: the program reads one line from standard input, the case's
number (from 1) and a seed; it seeds `random`, from which CYaRon draws; it prints one input and nothing else. The same
line gives the same input. CYaRon's `IO` writes files by default; `IO(sys.stdout, disable_output=True)` does not.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, field_validator

from steps.rewards.case_problems import CaseProblem, needs_special_judge
from steps.rewards.score import python_program

if TYPE_CHECKING:  # it imports engine and trainer
    from steps.workbench import Workbench

STATEMENT, CASES = "{statement}", "{cases}"

PROMPT = """\
Write a Python program that makes test inputs for the programming problem below. It uses the package CYaRon.

How it is run: once for each of {cases} cases. It reads one line from standard input with two integers, the case's \
number (1 to {cases}) and a seed. It calls random.seed with that seed first, then prints one input of the problem to \
standard output, in the problem's exact format, and nothing else. The same line must always give the same input.

What the cases should be: the first few are the smallest inputs and the special ones (n = 1, all equal, ties, the \
limits of the values); later ones are random and grow with the number, up to what prints in a second. They all \
differ, and all keep the problem's constraints.

CYaRon in short, from `from cyaron import Graph, Edge, String, Vector, Polygon`:
- Graph.tree(n), Graph.chain(n), Graph.flower(n), Graph.binary_tree(n): a tree of n vertices from 1;
  Graph.graph(n, m, self_loop=False, repeated_edges=False), Graph.connected(n, m), Graph.DAG(n, m): m edges;
  weight_limit=(1, 100) draws weights; print(graph) gives lines "u v w", \
print(graph.to_str(output=Edge.unweighted_edge)) lines "u v", and shuffle=True renumbers the vertices.
- Vector.random_unique_vector(n, [(1, 100)]) and Vector.random_repeatable_vector(n, [(1, 100), (1, 9)]): n lists, with \
a number from each range.
- String.random(n, charset="abc"), String.random((1, 20)), String.random_sentence(n).
- Do not use cyaron.IO, which writes files: print.

An example, for "n, then n integers from 1 to 1000":
```python
import random
from cyaron import Vector

case, seed = map(int, input().split())
random.seed(seed)
n = case if case <= 3 else random.randint(1, 20 * case)
high = 1 if case == 3 else 1000
print(n)
print(*(row[0] for row in Vector.random_repeatable_vector(n, [(1, high)])))
```

The problem:

{statement}

Answer with the whole program in one ```python block.
"""


class GeneratorConfig(BaseModel):
    """How the model is asked for generators."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompt: str = Field(PROMPT, description="What it is asked; {statement} and {cases} are filled in.")
    max_response_tokens: int = Field(4096, ge=1, description="Longest response.")
    temperature: float = Field(0.6, ge=0, description="Sampling temperature.")

    @field_validator("prompt")
    @classmethod
    def _asks_about_the_problem(cls, prompt: str) -> str:
        if STATEMENT not in prompt:
            raise ValueError(f"prompt has no {STATEMENT}: the model would not see the problem")
        return prompt


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
    prompts: dict[str, list[int]] = {}
    room = max(0, bench.context - config.max_response_tokens)
    for problem in problems:
        if problem.generator is None and needs_special_judge(problem) is None:
            tokens = bench.chat.prompt(generator_prompt(problem.prompt, cases, config.prompt))
            if len(tokens) > room:
                missing[problem.id] = f"the prompt has {len(tokens)} tokens, and the model has room for {room}"
            else:
                prompts[problem.id] = tokens
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
