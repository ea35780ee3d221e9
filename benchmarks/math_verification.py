"""How many mathematical answers the scorer that RL uses verifies per second.

    python -m benchmarks.math_verification [--gsm8k test.jsonl]

All answers are new, with eight for each reference, as in a group of responses: `formulas` need the processes unless
rough values already differ; `plain` are numbers, which need none; `mixed` is half of each; `nano_world` are answers as
RL gets them in the nano recipe. With `--gsm8k` the gold answers of GSM8K are verified too, each against itself. The
last line is JSON; goal: at least 300 per second of `mixed` on two cores (`per_second`).
"""

import argparse
import itertools
import json
import random
import time
from pathlib import Path

from benchmarks.nano_start import machine
from steps.nano_world.world import DOMAINS, make_task
from steps.problem import Problem
from steps.rewards.scorer import Scorer
from steps.source_rows import problems_of

FORMULAS = (
    ("2x+1", "1+2x", "2(x+1)-1", "2x-1", "x+1", r"\frac{4x+2}{2}", "2x", "1-2x", "2x+1.0"),
    ("(x+1)^2", "x^2+2x+1", "x^2+1", "(1+x)(x+1)", "(x-1)^2", "x(x+2)+1", "x^2+2x", "2x+1", "(x+1)^3"),
    (r"2\sqrt{x}", r"\sqrt{4x}", r"\sqrt{2x}", r"4\sqrt{x}", r"\sqrt{x}+\sqrt{x}", "2x", "2x^{1/2}", "x", r"\sqrt{x}"),
    (
        r"\frac{x\pi}{2}",
        r"0.5x\pi",
        r"x\pi",
        r"\frac{\pi x}{2}",
        r"\frac{\pi}{2}",
        r"2x\pi",
        "x",
        r"\pi/2 x",
        r"\pi^2x",
    ),
    (r"\{x, 2\}", r"\{2, x\}", r"\{x, 3\}", r"\{2\}", "2, x", r"\{x\}", "(x, 2)", r"\{x, 2.0\}", r"\{-x, 2\}"),
    ("(x, 2)", "(x,2)", "(2, x)", r"\left(x, 2\right)", "[x, 2]", "(x, 2, 0)", "(x, -2)", "(x, 2.0)", "x"),
    ("2+xi", "xi+2", "2-xi", "x+2i", "xi", "2", "-2+xi", "2+2xi", "2.0+xi"),
)
"""A reference, and eight answers to it as a group's responses give them, in each row."""


def math(reference: str, answer: str, number: int) -> tuple[Problem, str]:
    """A problem and a response to it."""
    problem = Problem(id=str(number), prompt="?", answer=reference, verifier="math")
    return problem, f"<think>...</think> The answer is \\boxed{{{answer}}}."


def formulas(count: int, first: int = 1) -> list[tuple[Problem, str]]:
    """Pairs that need an algebra system, with increasing multiples of x, so that no two are the same."""
    pairs = []
    for number in range(first, first + count // 8):
        reference, *answers = (text.replace("x", f"{{{number}x}}") for text in FORMULAS[number % len(FORMULAS)])
        pairs += [math(reference, answer, number) for answer in answers]
    return pairs


def plain(count: int) -> list[tuple[Problem, str]]:
    """Pairs of plain numbers in several forms."""
    forms = ("{}", "{}.0", r"\frac{{{}}}{{1}}", r"{} \text{{ eggs}}", "x = {}")
    return [math(str(n), forms[n % len(forms)].format(n + (n % 7 == 0)), n) for n in range(count)]


def mixed(count: int) -> list[tuple[Problem, str]]:
    """Half formulas, half plain numbers, in turn."""
    pairs = zip(formulas(count // 2, 1_000), plain(count // 2), strict=True)
    return [pair for both in pairs for pair in both]


def nano_world(count: int) -> list[tuple[Problem, str]]:
    """Mathematical problems of the nano world with their own short answers."""
    rng = random.Random(0)
    results = (make_task(rng, domain) for domain in itertools.cycle(d for d in DOMAINS if d != "programs"))
    return [(task.problem, task.short) for task in itertools.islice(results, count)]


def gsm8k(file: Path) -> list[tuple[Problem, str]]:
    """GSM8K's problems with their gold answers."""
    return [(problem, f"\\boxed{{{problem.answer}}}") for problem in problems_of(file, "gsm8k")]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=3200, help="Responses of each mix.")
    parser.add_argument("--gsm8k", type=Path, help="GSM8K's test.jsonl.")
    arguments = parser.parse_args()
    mixes = {"formulas": formulas, "plain": plain, "mixed": mixed, "nano_world": nano_world}
    pairs = {name: make(arguments.count) for name, make in mixes.items()}
    if arguments.gsm8k:
        pairs["gsm8k"] = gsm8k(arguments.gsm8k)
    speed, right, timed_out = {}, {}, 0
    with Scorer() as scorer:
        scorer.score_many(formulas(16, 2_000))  # starts the processes
        for name, some in pairs.items():
            began = time.perf_counter()
            scores = scorer.score_many(some)
            speed[name] = len(some) / (time.perf_counter() - began)
            right[name] = sum(score.value for score in scores) / len(scores)
            timed_out += sum(score.reason == "timed out" for score in scores)
            print(f"{name}: {speed[name]:.0f} per second, {right[name]:.1%} right")
    print(json.dumps({"per_second": speed, "right": right, "timed_out": timed_out, "machine": machine()}))


if __name__ == "__main__":
    main()
