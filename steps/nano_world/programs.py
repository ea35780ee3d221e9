"""Programs from examples: write a Python program that reads x and prints f(x), judged by running it on other inputs."""

from dataclasses import dataclass
from random import Random

from steps.nano_world.congruence import LARGEST
from steps.nano_world.task import LICENCE, SOURCE, Task, thought
from steps.problem import Problem

INPUTS = range(1, 13)
"""Inputs of examples and of hidden tests."""


@dataclass(frozen=True)
class Rule:
    """f(x) = a·x + b, or x² + b where a is 0."""

    a: int
    b: int

    @property
    def slope(self) -> str:
        """The part that depends on x, as Python."""
        return f"{self.a} * x" if self.a else "x * x"

    @property
    def expression(self) -> str:
        """The rule as a Python expression in x."""
        if self.b == 0:
            return self.slope
        return f"{self.slope} {'+' if self.b > 0 else '-'} {abs(self.b)}"

    def without_offset(self, x: int) -> int:
        """f(x) - b."""
        return self.a * x if self.a else x * x

    def __call__(self, x: int) -> int:
        """f(x)."""
        return self.without_offset(x) + self.b


def source(rule: Rule) -> str:
    """The program as a fenced block."""
    return f"```python\nx = int(input())\nprint({rule.expression})\n```"


def make_program(rng: Random, difficulty: int) -> Task:
    """A program whose rule is found after about 2 · difficulty hypotheses."""
    while True:
        place = rng.randint(2 * difficulty - 1, 2 * difficulty)
        rule = Rule(place if place < 10 else 0, rng.randint(-9, 20))
        displayed = rng.sample(INPUTS, 3)
        if all(0 <= rule(x) <= LARGEST for x in INPUTS):
            break
    hidden = [x for x in INPUTS if x not in displayed]
    examples = ", ".join(f"f({x}) = {rule(x)}" for x in displayed)
    prompt = f"Write a Python program that reads an integer x and prints f(x). Examples: {examples}."
    problem = Problem(
        id=f"program-{difficulty}-{rng.getrandbits(48):012x}",
        prompt=prompt,
        verifier="code",
        tests=tuple((f"{x}\n", f"{rule(x)}\n") for x in [displayed[0], *rng.sample(hidden, 3)]),
        domain="programs",
        discipline="program synthesis",
        difficulty=difficulty,
        source=SOURCE,
        licence=LICENCE,
    )
    answer = source(rule)
    short = f"f(x) = {rule.expression}\n{answer}"

    def long(rng: Random) -> str:
        order = [Rule(a, 0) for a in range(1, 10)] + [Rule(0, 0)]
        if rng.random() < 0.15:
            order = order[::-1]
        lines = ["Plan: guess the slope, compare the rest."] if rng.random() < 0.5 else []
        for guess in order:
            line = f"Try {guess.slope}:"
            rests = []
            for x in displayed:
                base = guess.without_offset(x)
                rest = rule(x) - base
                rests.append(rest)
                line += f" {rule(x)} - {base} = {rest},"
                if rest != rests[0]:
                    line += " no."
                    break
            else:
                line += " yes."
            lines.append(line)
            if line.endswith("yes."):
                break
        if rng.random() < 0.4:
            lines += [f"Check: f({x}) = {rule.without_offset(x)} + {rule.b} = {rule(x)}, yes." for x in displayed[:2]]
        return thought(lines, answer)

    return Task(problem, short, long)
