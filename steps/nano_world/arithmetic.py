"""Arithmetic chains: start with a number, apply two to nine operations, give the result.

The author's long paths plan, evaluate a step by undoing it, and now and then slip, notice, and correct themselves.
"""

from dataclasses import dataclass
from random import Random

from steps.nano_world.task import LICENCE, SOURCE, Task, boxed, thought
from steps.problem import Problem

LARGEST = 99
"""No number in a chain is larger, so that a small model can know every fact that it needs."""

_PHRASES = {
    "+": "Add {}.",
    "-": "Subtract {}.",
    "*": "Multiply by {}.",
    "/": "Divide by {}.",
    "mod": "Take it modulo {}.",
}
_UNDO = {"+": "-", "-": "+", "*": "/", "/": "*"}


@dataclass(frozen=True)
class Operation:
    """One step of a chain."""

    symbol: str
    operand: int

    def apply(self, value: int) -> int:
        """The value after this step."""
        match self.symbol:
            case "+":
                return value + self.operand
            case "-":
                return value - self.operand
            case "*":
                return value * self.operand
            case "/":
                return value // self.operand
            case _:
                return value % self.operand


def random_operation(rng: Random, value: int) -> Operation:
    """An operation that keeps `value` a whole number from 0 to LARGEST."""
    while True:
        symbol = rng.choice(["+", "+", "-", "-", "*", "/", "mod"])
        if symbol in "+-":
            operand = rng.randint(2, 50)
        elif symbol == "mod":
            operand = rng.randint(3, 12)
        else:
            operand = rng.randint(2, 9)
        operation = Operation(symbol, operand)
        result = operation.apply(value)
        wasted = symbol == "mod" and value < operand
        if 0 <= result <= LARGEST and not wasted and (symbol != "/" or (value and value % operand == 0)):
            return operation


def make_chain(rng: Random, steps: int) -> Task:
    """A chain of `steps` operations; its difficulty is half the steps, at most 5."""
    value = start = rng.randint(2, 60)
    operations: list[Operation] = []
    equations: list[tuple[int, Operation, int]] = []
    for _ in range(steps):
        operation = random_operation(rng, value)
        result = operation.apply(value)
        operations.append(operation)
        equations.append((value, operation, result))
        value = result
    sentences = " ".join(_PHRASES[o.symbol].format(o.operand) for o in operations)
    prompt = f"Start with {start}. {sentences} What is the result?"
    problem = Problem(
        id=f"arithmetic-{steps}-{rng.getrandbits(48):012x}",
        prompt=prompt,
        answer=str(value),
        verifier="math",
        domain="arithmetic",
        discipline="number theory" if any(o.symbol == "mod" for o in operations) else "elementary arithmetic",
        difficulty=min(5, (steps + 1) // 2),
        source=SOURCE,
        licence=LICENCE,
    )
    answer = boxed(value)
    short = "".join(f"{_equation(*equation)}\n" for equation in equations) + answer

    def long(rng: Random) -> str:
        lines = [f"Plan: {steps} steps."] if rng.random() < 0.5 else []
        careful = rng.random() < 0.25
        lines += [_written_out(rng, *equation, careful=careful) for equation in equations]
        if rng.random() < 0.15:
            lines += ["Again, from the start."] + [_equation(*equation) for equation in equations]
        return thought(lines, answer)

    return Task(problem, short, long)


def _equation(value: int, operation: Operation, result: int) -> str:
    return f"{value} {operation.symbol} {operation.operand} = {result}"


def _written_out(rng: Random, value: int, operation: Operation, result: int, *, careful: bool) -> str:
    line = _equation(value, operation, result)
    undo = _UNDO.get(operation.symbol)
    if undo is None:
        return line
    if rng.random() < 0.04:
        slip = max(0, result + rng.choice([-10, -1, 1, 10]))
        back = Operation(undo, operation.operand)
        if undo != "/" and 0 <= back.apply(slip) <= LARGEST and slip != result:
            wrong = _equation(value, operation, slip)
            return f"{wrong}, back {_equation(slip, back, back.apply(slip))}, no. Wait: {line}"
    if careful:
        back = Operation(undo, operation.operand)
        return f"{line}, back {_equation(result, back, value)}, yes."
    return line
