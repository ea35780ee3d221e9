"""Settings of the command that makes test cases for problems that have none (§2.3.5): `longhaul test-cases`."""

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

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


class CaseGenerationConfig(BaseModel):
    """How test cases are made and which problems are kept."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cases: int = Field(50, ge=1, description="Inputs that a problem's generator is asked for.")
    submissions: int = Field(10, ge=1, description="Submissions that run on each; a problem with fewer drops out.")
    agreeing: int = Field(7, ge=1, description="Submissions that print the same where a case is valid.")
    valid: int = Field(40, ge=1, description="Valid cases that a problem needs.")
    passing: int = Field(9, ge=1, description="Submissions that have to pass all valid cases.")
    different_outputs: int = Field(2, ge=1, description="Different expected outputs that a problem's cases have.")
    seed: int = Field(0, ge=0, description="The seeds of all cases, and the choice of submissions, come from it.")
    cpu_seconds: int = Field(4, ge=1, description="CPU seconds of one run of a generator or a submission.")
    wall_seconds: float = Field(20.0, gt=0, description="Wall seconds of one run; they end what only waits.")
    memory_mb: int = Field(512, ge=16, description="MiB of one run.")
    input_bytes: int = Field(250_000, ge=1, description="Longest input: what a generator prints.")
    output_bytes: int = Field(250_000, ge=1, description="Longest output of a submission.")
    timeouts: int = Field(3, ge=1, description="Runs out of time after which a submission is not run any more.")

    @model_validator(mode="after")
    def _can_be_met(self) -> "CaseGenerationConfig":
        for key, most in (("agreeing", "submissions"), ("passing", "submissions"), ("valid", "cases")):
            if getattr(self, key) > getattr(self, most):
                raise ValueError(
                    f"{key} is {getattr(self, key)}, more than {most} ({getattr(self, most)}): no problem could be kept"
                )
        if 2 * self.agreeing <= self.submissions:
            raise ValueError(
                f"agreeing is {self.agreeing}, no more than half of submissions ({self.submissions}): two outputs "
                "could both be the expected one"
            )
        if self.different_outputs > self.valid:
            raise ValueError(
                f"different_outputs is {self.different_outputs}, more than valid ({self.valid}): a problem with that "
                "many valid cases could not have them"
            )
        return self

    @property
    def runs(self) -> int:
        """Of a problem that makes all its cases."""
        return self.cases * (1 + self.submissions)
