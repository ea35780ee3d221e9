"""The tables that the stages' data gates check, and what their rules may ask the run for.

Which columns and parameters there are is told in steps/configs/gates.py; what is made here is that and no more.
"""

import ast
import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from infra.gates.suites import Suite
from infra.progress.tasks import say
from infra.stages.contract import StageContext
from steps.chat import Chat
from steps.problem import Example, FunctionTests, Problem
from steps.rewards.labelled import Labelled
from steps.rewards.math.pool import MathPool
from steps.rewards.math.reference import reference_fault
from steps.rl.ledger import LedgerEntry

LONGEST_TEST_CODE = 1_000_000
"""Characters of a function's tests; Python's parser takes some hundred times as many bytes."""

Parser = Callable[[Any], str | None]
"""Says why a value cannot be read; None where it can."""


def pass_gate(
    context: StageContext, suite: Suite, gate: str, frame: pd.DataFrame, parameters: Mapping[str, Any]
) -> None:
    """Check a table by the suite's rules for it, and keep the result with the stage, whatever it is.

    A table without rules is not checked. Raises GateFailed where a rule of severity `stop` is broken.
    """
    if gate not in suite:
        return
    result = suite.run(gate, frame, parameters)
    context.gates.append(result)
    for complaint in result.broken("warn"):
        say(f"gate {gate!r} warns: {complaint}")
    result.raise_if_failed()


def problem_frame(problems: Sequence[Problem]) -> pd.DataFrame:
    """Problems; `answer` is there where the rules of mathematics judge by it, `tests` where programs are run."""
    return pd.DataFrame(
        {
            "id": [problem.id for problem in problems],
            "text": [problem.text for problem in problems],
            "verifier": [problem.verifier for problem in problems],
            "difficulty": [problem.difficulty for problem in problems],
            "domain": [problem.domain for problem in problems],
            "discipline": [problem.discipline for problem in problems],
            "source": [problem.source for problem in problems],
            "licence": [problem.licence for problem in problems],
            "digest": [problem.digest for problem in problems],
            "answer": _objects(problem.answer if problem.verifier == "math" else None for problem in problems),
            "tests": _objects((p.tests, p.function) if p.verifier == "code" else None for p in problems),
            "images": _objects(tuple(problem.images) or None for problem in problems),
        }
    )


def example_frame(examples: Sequence[Example], chat: Chat) -> pd.DataFrame:
    """Supervised examples, named by their place, from 1, and problem; `tokens` counts prompt and response together."""
    return pd.DataFrame(
        {
            "id": [f"{place}:{example.problem_id}" for place, example in enumerate(examples, 1)],
            "prompt": [example.prompt for example in examples],
            "response": [example.response for example in examples],
            "kind": [example.kind for example in examples],
            "source": [example.source for example in examples],
            "licence": [example.licence for example in examples],
            "digest": [_digest(example.prompt) for example in examples],
            "tokens": [len(chat.example(example.prompt, example.response).tokens) for example in examples],
        }
    )


def _digest(prompt: str) -> str:
    """The digest of a problem with this prompt."""
    return Problem.model_construct(id="", prompt=prompt, verifier="math").digest


def pair_frame(pairs: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """Preference pairs: the chosen response and the rejected one."""
    return pd.DataFrame(
        {
            "id": range(len(pairs)),
            "chosen": _objects(chosen for chosen, _ in pairs),
            "rejected": _objects(rejected for _, rejected in pairs),
        }
    )


def labelled_frame(answers: Sequence[Labelled]) -> pd.DataFrame:
    """Labelled answers, named by their place, from 1, and problem."""
    return pd.DataFrame(
        {
            "id": [f"{place}:{one.problem.id}" for place, one in enumerate(answers, 1)],
            "reference": [one.problem.answer for one in answers],
            "answer": [one.answer for one in answers],
            "form": [one.form for one in answers],
            "right": _objects(one.right for one in answers),
        }
    )


def ledger_frame(ledger: Sequence[LedgerEntry]) -> pd.DataFrame:
    """RL's ledger, its entries named by their place, from 1, and problem."""
    return pd.DataFrame(
        {
            "id": [f"{place}:{entry.problem_id}" for place, entry in enumerate(ledger, 1)],
            "problem_id": [entry.problem_id for entry in ledger],
            "started": [entry.started for entry in ledger],
            "ended": [entry.ended for entry in ledger],
            "outcome": [entry.outcome for entry in ledger],
        }
    )


def held_out_parameters(test: Sequence[Problem]) -> dict[str, Any]:
    """What no problem of `test` may be trained on by.

    A question about an image is another one with another image, so that its words alone tell of no near repetition.
    """
    return {
        "held_out_digests": frozenset(problem.digest for problem in test),
        "held_out_texts": [(problem.id, problem.text) for problem in test if not problem.images],
    }


@contextmanager
def problem_parameters(folder: Path) -> Iterator[dict[str, Any]]:
    """The verifiers' parsers, and the folder that images lie in."""
    pool = MathPool(workers=1)
    try:
        yield {
            "math_answers": lambda answer: reference_fault(answer, pool),
            "program_tests": lambda tests: tests_fault(*tests),
            "data_folder": os.fspath(folder),
        }
    finally:
        pool.close()


def domain_share_limit(problems: Sequence[Problem], max_share: float) -> float:
    """The largest share of a domain that curation leaves: n domains cannot each hold less than 1/n."""
    return max(max_share, 1 / max(1, len({problem.domain for problem in problems})))


def tests_fault(tests: Sequence[tuple[str, str]], function: FunctionTests | None) -> str | None:
    """Why a program cannot be judged by its tests; None where it can."""
    if not tests and function is None:
        return "no test"
    first: dict[str, tuple[int, str]] = {}
    for place, (given, expected) in enumerate(tests, 1):
        earlier, told = first.setdefault(given, (place, expected))
        if told.rstrip() != expected.rstrip():
            return f"tests {earlier} and {place} expect different outputs for the same input"
    if tests and not any(expected.strip() for _, expected in tests):
        return "no test expects an output: a program that does nothing would pass"
    return None if function is None else _function_fault(function)


def _function_fault(function: FunctionTests) -> str | None:
    setup, problem = _parsed(function.setup, "setup")
    if setup is None:
        return problem
    check, problem = _parsed(function.check, "check")
    if check is None:
        return problem
    defined = Counter(node.name for node in check.body if isinstance(node, ast.FunctionDef))
    return None if defined["check"] else "check: defines no function check(candidate)"


def _parsed(source: str, name: str) -> tuple[ast.Module | None, str | None]:
    """The syntax tree of test code, which is not run here, or what is wrong with it."""
    if len(source) > LONGEST_TEST_CODE:
        return None, f"{name}: {len(source):,} characters, at most {LONGEST_TEST_CODE:,} are read"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            return ast.parse(source), None
    except SyntaxError as error:
        return None, f"{name}: line {error.lineno}: {error.msg}"
    except (ValueError, RecursionError, MemoryError) as error:
        return None, f"{name}: not Python ({type(error).__name__})"


def _objects(values: Any) -> pd.Series:
    """A column that keeps values as they are: None does not become NaN, nor True a number."""
    return pd.Series(list(values), dtype=object)
