"""The text that the nano base was pretrained on: number facts, small programs, exercises, workings.

No document is in the chat format, checks or corrects itself, or says which of its numbers is the answer: those are what
the stages of the recipe teach. No document holds a problem that may be tested on (`steps.nano_world.world.held_out`).
"""

from collections.abc import Iterator
from random import Random

from steps.nano_world.arithmetic import LARGEST, random_operation
from steps.nano_world.congruence import LARGEST as LARGEST_CANDIDATE
from steps.nano_world.congruence import candidates
from steps.nano_world.programs import INPUTS, Rule
from steps.nano_world.unsuitable import make_unsuitable
from steps.nano_world.world import DOMAINS, make_task


def _equation(rng: Random) -> str:
    value = rng.randint(0, LARGEST)
    operation = random_operation(rng, value)
    return f"{value} {operation.symbol} {operation.operand} = {operation.apply(value)}"


def _equations(rng: Random) -> str:
    return "\n".join(_equation(rng) for _ in range(rng.randint(3, 8)))


def _remainders(rng: Random) -> str:
    modulus = rng.randint(3, 40)
    numbers = [rng.randint(0, LARGEST_CANDIDATE) for _ in range(rng.randint(3, 8))]
    return "\n".join(f"{x} mod {modulus} = {x % modulus}" for x in numbers)


def _walk(rng: Random) -> str:
    step = rng.randint(3, 40)
    numbers = candidates(step, rng.randrange(step), LARGEST_CANDIDATE)
    start = rng.randrange(max(1, len(numbers) - 4))
    return f"Counting by {step}: " + ", ".join(map(str, numbers[start : start + rng.randint(4, 12)])) + "."


def _comparison(rng: Random) -> str:
    lines = []
    remainder, modulus = rng.randint(0, 12), rng.randint(3, 40)
    for _ in range(rng.randint(3, 6)):
        x = rng.randint(1, LARGEST_CANDIDATE)
        if rng.random() < 0.4:
            x = min(LARGEST_CANDIDATE, x - x % modulus + remainder)
        lines.append(f"{x} mod {modulus} = {x % modulus}, {'yes' if x % modulus == remainder else 'no'}.")
    return f"Is it {remainder}?\n" + "\n".join(lines)


def _table(rng: Random) -> str:
    while True:
        rule = Rule(rng.randint(0, 9), rng.randint(-9, 20))
        if all(0 <= rule(x) <= LARGEST_CANDIDATE for x in INPUTS):
            break
    inputs = rng.sample(INPUTS, 4)
    if rng.random() < 0.5:
        return f"x = int(input())\nprint({rule.expression})\n" + "\n".join(f"{x} -> {rule(x)}" for x in inputs)
    return f"f(x) = {rule.expression}: " + ", ".join(f"f({x}) = {rule(x)}" for x in inputs) + "."


def _differences(rng: Random) -> str:
    lines = []
    for _ in range(rng.randint(3, 6)):
        a, b = rng.randint(0, LARGEST_CANDIDATE), rng.randint(0, 120)
        lines.append(f"{a} - {b} = {a - b}")
    return "\n".join(lines)


def _exercise(rng: Random) -> str:
    if rng.random() < 0.2:
        return make_unsuitable(rng).text
    return make_task(rng, rng.choice(DOMAINS)).problem.text


def _worked(rng: Random) -> str:
    """An exercise and its working, or as much of it as a dozen lines hold."""
    task = make_task(rng, rng.choice(DOMAINS))
    if rng.random() < 0.3:
        lines = task.short.splitlines()[:-1]
    else:
        lines = [line for line in task.long(rng).splitlines() if line.startswith(("Plan", "Try", *"0123456789"))]
    return "\n".join([task.problem.text, *lines[: rng.randint(2, 12)]])


_FACTS = [_equations, _equations, _remainders, _remainders, _walk, _comparison, _table, _differences, _exercise]
_COOLDOWN = [*_FACTS, *[_worked] * 18]


def documents(seed: int, cooldown: bool = False) -> Iterator[str]:
    """Endless documents; one seed, one sequence. In the cooldown two of three are workings."""
    rng = Random(f"nano corpus {seed}{' cooldown' if cooldown else ''}")
    while True:
        yield rng.choice(_COOLDOWN if cooldown else _FACTS)(rng)
