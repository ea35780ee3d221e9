"""Long problems: facts spread over a long text, a value followed through assignments, a search that has to be long.

A problem has the chosen length in tokens, counted by the nano base's tokenizer. Names stand for numbers.
Between the lines that matter stand equations, and facts that no question asks for:

- `facts`: the values of one to four names are stated somewhere; the question adds and subtracts them.
- `assignments`: a name's value is that of a second name plus or minus a number, in a chain of many; the question is
  the last.
- `steps`: a chain of operations as arithmetic has it, of any number of steps, behind the equations.
- `long search`: numbers with names in order; the question is the first of them that leaves a remainder. The path tests
  one after the other, so it is as long as the place of the answer.

How long a path is follows from the problem, and the longest allowed path limits the problem.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from steps.nano_world.arithmetic import LARGEST, make_chain, random_operation
from steps.nano_world.task import LICENCE, SOURCE, Task, boxed, thought
from steps.problem import Problem

if TYPE_CHECKING:
    from steps.configs.data import LongConfig

LETTERS = "abcdefghijklmnopqrstuvwyzABCDEFGHIJKLMNOPQRSTUVWYZ"
"""Names; x is an unknown elsewhere in the nano world."""

NUMBERS = range(10, 200)
"""Behind a letter, names in order; also the largest numbers: each is a token of its own."""

ORDERED = [f"{letter}{number}" for letter in LETTERS for number in NUMBERS]
"""Names of numbers in a list."""

ASSIGNMENT_TOKENS, TRY_TOKENS, STEP_TOKENS = 16, 10, 16
"""Most tokens that a path takes for an assignment, read and computed, for a number tested, and for a step, checked."""


@cache
def _tokenizer() -> Callable[[str], int]:
    # Tokenizing without transformers: the stage `data` needs nothing else of it.
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(Path(__file__).parent / "checkpoint" / "tokenizer.json"))
    return cache(lambda line: len(tokenizer.encode(line, add_special_tokens=False)))


def count_tokens(text: str) -> int:
    """Tokens of a text by the nano base's tokenizer, in which no token reaches from one line into the next."""
    count = _tokenizer()
    return sum(count(line) for line in text.splitlines(keepends=True))


def filler(rng: Random) -> str:
    """An equation that no question asks for."""
    value = rng.randint(0, LARGEST)
    operation = random_operation(rng, value)
    return f"{value} {operation.symbol} {operation.operand} = {operation.apply(value)}\n"


def spread_out(rng: Random, lines: Sequence[str], question: str, length: int) -> str:
    """`lines` in their order, equations between them, and the question: at most `length` tokens, and hardly fewer."""
    room = length - sum(count_tokens(line) for line in lines) - count_tokens(question)
    fillers: list[str] = []
    while room > 0:
        fillers.append(filler(rng))
        room -= count_tokens(fillers[-1])
    if fillers and room < 0:
        fillers.pop()
    places = sorted(rng.randint(0, len(fillers)) for _ in lines)
    parts: list[str] = []
    at = 0
    for place, line in zip(places, lines, strict=True):
        parts += [*fillers[at:place], line]
        at = place
    return "".join([*parts, *fillers[at:]]) + question


def _problem(rng: Random, kind: str, prompt: str, answer: int, difficulty: int) -> Problem:
    return Problem(
        id=f"{kind.replace(' ', '-')}-{rng.getrandbits(48):012x}",
        prompt=prompt,
        answer=str(answer),
        verifier="math",
        domain=kind,
        discipline="long context",
        difficulty=difficulty,
        source=SOURCE,
        licence=LICENCE,
    )


def make_facts(rng: Random, length: int, path: int) -> Task:
    """One to four facts among four times as many, spread over a text of `length` tokens."""
    count = rng.randint(1, min(4, length // 50))
    names = rng.sample(LETTERS, 5 * count)
    values = {name: rng.randint(0, 24 if count > 1 else LARGEST) for name in names}
    lines = [f"{name} = {values[name]}\n" for name in names]
    total = values[names[0]]
    sums: list[str] = []
    question = f"What is {names[0]}"
    for name in names[1:count]:
        sign = "-" if total >= values[name] and rng.random() < 0.5 else "+"
        result = total - values[name] if sign == "-" else total + values[name]
        sums.append(f"{total} {sign} {values[name]} = {result}")
        question += f" {sign} {name}"
        total = result
    order = rng.sample(lines, len(lines))
    problem = _problem(rng, "facts", spread_out(rng, order, question + "?", length), total, count)
    steps = [*(line.rstrip() for line in lines[:count]), *sums]
    answer = boxed(total)

    def long(rng: Random) -> str:
        plan = [f"Plan: {count} steps."] if rng.random() < 0.5 else []
        return thought([*plan, *steps], answer)

    return Task(problem, "".join(f"{step}\n" for step in steps) + answer, long)


def make_assignments(rng: Random, length: int, path: int) -> Task:
    """A chain of assignments among those of another one, as many as path and text have room for, or fewer."""
    most = max(2, min(path // ASSIGNMENT_TOKENS, length // (2 * 8) - 1, len(LETTERS) // 2))
    # Short chains are more frequent, so that the lengths of paths have a heavy tail.
    count = min(most, 1 + round(most ** rng.random()))
    names = rng.sample(LETTERS, 2 * count)
    (own, computed), (other, _) = _chain(rng, names[:count]), _chain(rng, names[count:])
    last = own[-1].split(" ")[0]
    lines = [line for _, line in sorted(_interleaved(rng, own, other))]
    value = int(computed[-1].split("= ")[-1])
    text = spread_out(rng, [f"{line}\n" for line in lines], f"What is {last}?", length)
    problem = _problem(rng, "assignments", text, value, min(5, 1 + count // 8))
    answer = boxed(value)

    def long(rng: Random) -> str:
        plan = [f"Plan: {count} steps."] if rng.random() < 0.5 else []
        again = ["Again, from the start.", *computed] if rng.random() < 0.05 else []
        return thought([*plan, *own[::-1], *computed[1:], *again], answer)

    return Task(problem, "".join(f"{line}\n" for line in [*own[::-1], *computed[1:]]) + answer, long)


def _chain(rng: Random, names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Assignments to these names, each from the one before it, and what they come to."""
    value = rng.randint(10, 60)
    own, computed = [f"{names[0]} = {value}"], [f"{names[0]} = {value}"]
    for before, name in pairwise(names):
        operand = rng.randint(2, 30)
        sign = "+" if value + operand <= LARGEST and (value < operand or rng.random() < 0.5) else "-"
        if sign == "-" and value < operand:
            operand = rng.randint(0, value)
        result = value + operand if sign == "+" else value - operand
        own.append(f"{name} = {before} {sign} {operand}")
        computed.append(f"{name} = {value} {sign} {operand} = {result}")
        value = result
    return own, computed


def _interleaved(rng: Random, first: Sequence[str], second: Sequence[str]) -> Iterator[tuple[float, str]]:
    """Both in their own order, each with a place among the others."""
    for lines in (first, second):
        yield from zip(sorted(rng.random() for _ in lines), lines, strict=True)


def make_steps(rng: Random, length: int, path: int) -> Task:
    """A chain of as many operations as path and text have room for, or fewer."""
    most = max(2, min(path // STEP_TOKENS, length // 3 - 6))
    count = min(most, 1 + round(most ** rng.random()))
    task = make_chain(rng, count)
    text = spread_out(rng, [], task.problem.text, length)
    problem = _problem(rng, "steps", text, int(task.problem.answer), min(5, 1 + count // 8))
    return Task(problem, task.short, task.long)


def make_long_search(rng: Random, length: int, path: int) -> Task:
    """Numbers with names in order, of which one has the remainder; where it stands is how long the path is."""
    most = max(2, min(path // TRY_TOKENS, length // 6 - 4, len(ORDERED)))
    tries = min(most, 1 + round(most ** rng.random()))
    modulus = rng.randint(3, 12)
    remainder = rng.randrange(modulus)
    listed = min(length // 6 - 4, tries + rng.randint(0, tries), len(ORDERED))
    start = rng.randint(0, len(ORDERED) - listed)
    every = ORDERED[start : start + listed]
    numbers = [_unlike(rng, modulus, remainder) for _ in range(tries - 1)]
    numbers.append(rng.randrange(remainder, NUMBERS.stop, modulus))
    numbers += [rng.randrange(NUMBERS.stop) for _ in range(listed - tries)]
    lines = [f"{name} = {number}\n" for name, number in zip(every, numbers, strict=True)]
    question = f"What is the first with x mod {modulus} = {remainder}?"
    problem = _problem(
        rng, "long search", spread_out(rng, lines, question, length), numbers[tries - 1], min(5, 1 + tries // 16)
    )
    answer = boxed(numbers[tries - 1])
    tested = [
        f"{name}: {number} mod {modulus} = {number % modulus}, {'yes' if place == tries - 1 else 'no'}."
        for place, (name, number) in enumerate(zip(every[:tries], numbers, strict=False))
    ]

    def long(rng: Random) -> str:
        return thought([f"Plan: test mod {modulus}.", *tested], answer)

    return Task(problem, f"{tested[-1]}\n{answer}", long)


def _unlike(rng: Random, modulus: int, remainder: int) -> int:
    while (number := rng.randrange(NUMBERS.stop)) % modulus == remainder:
        pass
    return number


MAKERS: dict[str, Callable[[Random, int, int], Task]] = {
    "facts": make_facts,
    "assignments": make_assignments,
    "steps": make_steps,
    "long search": make_long_search,
}


def long_tasks(rng: Random, config: "LongConfig", suitable: Callable[[Problem], bool]) -> Iterator[Task]:
    """Endless suitable tasks: kinds in turn, and lengths in turn for each kind."""
    while True:
        for length in config.lengths:
            for kind in config.kinds:
                while not suitable((task := MAKERS[kind](rng, length, config.path_tokens)).problem):
                    pass
                yield task
