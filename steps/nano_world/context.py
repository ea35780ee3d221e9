"""Tasks in long texts in the lines of the nano world: RULER's four kinds, as steps/context_tasks.py in English.

- `needles`: names with a number each stand among equations; the question adds or subtracts two to four of them.
- `tracing`: a name's value follows from a second name's, in a chain; the question is the last of them.
- `aggregation`: a list of names, of which one occurs most often by far. No data set of the nano world has this kind.
- `questions`: names with a number each, and equations where names run out (from 47,500 tokens); one is asked for.
"""

from random import Random

from steps.configs.evaluation import ContextKind
from steps.context_tasks import ContextTask
from steps.nano_world.arithmetic import LARGEST
from steps.nano_world.long import LETTERS, ORDERED, count_tokens, make_assignments, make_facts, spread_out

PATH = 256
"""Most tokens of a path through assignments."""


def make_nano_task(kind: ContextKind, rng: Random, room: int) -> ContextTask:
    """A task whose text has at most `room` tokens of the nano base's tokenizer, and hardly fewer."""
    if kind in ("needles", "tracing"):
        problem = (make_facts if kind == "needles" else make_assignments)(rng, room, PATH).problem
        return ContextTask(problem.text, (problem.answer,))
    if kind == "questions":
        names = rng.sample(ORDERED, min((room - 5) // 5, len(ORDERED)))
        values = [rng.randint(0, LARGEST) for _ in names]
        name, value = rng.choice(list(zip(names, values, strict=True)))
        facts = [f"{name} = {value}\n" for name, value in zip(names, values, strict=True)]
        question = f"What is {name}?"
        if len(names) < len(ORDERED):
            return ContextTask("".join(facts) + question, (str(value),))
        # More than there are names for: equations between them.
        return ContextTask(spread_out(rng, facts, question, room), (str(value),))
    frequent, *others = rng.sample(LETTERS, 20)
    question = "What is the first?"
    lines: list[str] = []
    left = room - count_tokens(question)
    while left > 0:
        # Once in three, and each of the others far less often.
        lines.append(f"{frequent if rng.random() < 1 / 3 else rng.choice(others)}\n")
        left -= count_tokens(lines[-1])
    return ContextTask("".join(lines[:-1]) + question, (frequent,))
