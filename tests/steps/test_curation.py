"""Curation: its rules one by one, and all of them on a model of prepared answers."""

from collections import Counter
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steps.configs.curation import CurationConfig
from steps.curation import balance, by_form, curate, guess
from steps.problem import Problem
from steps.rewards.score import boxed_answer
from tests.steps.scripted import scripted_bench


@pytest.mark.parametrize(
    ("continuation", "answer"),
    [("32}", "32"), (" 32 }\nbecause 29 + 3 = 32", "32"), ("29 + 3 = 32\n\\boxed{32}", None), ("32", None)],
)
def test_a_guess_is_what_stands_in_the_box_at_once(continuation: str, answer: str | None) -> None:
    problem = Problem(id="p", prompt="Start with 29. Add 3.", answer="32", verifier="math")
    read = boxed_answer(guess(problem, continuation))
    assert (read and read.strip()) == answer


def problems(counts: dict[str, int]) -> list[Problem]:
    return [
        Problem(id=f"{domain}{i}", prompt="?", answer="1", verifier="math", domain=domain)
        for domain, count in counts.items()
        for i in range(count)
    ]


def balanced(counts: dict[str, int], share: float) -> dict[str, int]:
    return dict(Counter(problem.domain for problem in balance(problems(counts), share, Random(0))))


COUNTS = st.dictionaries(st.sampled_from("abcde"), st.integers(1, 40), max_size=5)


@given(COUNTS, st.floats(0.01, 1), st.integers(0, 9))
def test_no_domain_holds_more_than_its_share_and_the_rarest_stays_whole(
    counts: dict[str, int], share: float, seed: int
) -> None:
    given_problems = problems(counts)
    retained = balance(given_problems, share, Random(seed))
    assert [p for p in given_problems if p in retained] == retained
    left = Counter(problem.domain for problem in retained)
    assert left.keys() == counts.keys()
    possible = max(share, 1 / max(1, len(counts)))
    assert all(count <= possible * len(retained) + 1e-6 for count in left.values())
    if counts:
        assert left[min(counts, key=counts.__getitem__)] == min(counts.values())


@given(COUNTS, st.floats(0.01, 1))
def test_a_balanced_set_loses_nothing(counts: dict[str, int], share: float) -> None:
    once = balance(problems(counts), share, Random(0))
    assert balance(once, share, Random(1)) == once


@pytest.mark.parametrize(
    ("counts", "share", "left"),
    [
        ({"a": 100, "b": 10, "c": 10}, 0.5, {"a": 20, "b": 10, "c": 10}),
        ({"a": 100, "b": 50, "c": 10}, 0.4, {"a": 20, "b": 20, "c": 10}),
        ({"a": 10, "b": 3}, 0.7, {"a": 7, "b": 3}),
        ({"a": 10, "b": 10, "c": 10}, 0.1, {"a": 10, "b": 10, "c": 10}),
        ({"a": 10}, 0.5, {"a": 10}),
        ({"a": 10, "b": 1}, 1.0, {"a": 10, "b": 1}),
        ({}, 0.5, {}),
    ],
)
def test_as_many_stay_as_the_share_allows(counts: dict[str, int], share: float, left: dict[str, int]) -> None:
    assert balanced(counts, share) == left


OFFERED = {
    "proof": "Prove that 1 + 1 = 2.",
    "sum-1": "1 + 1 = ?",
    "long": "1 + 1 = ? " + "Take your time. " * 60,
    "sum-easy": "Add 1 to 1.",
    "sum-guessed": "Guess 1 + 1.",
    "sum-2": "Take 1 twice.",
    "sum-3": "Count two apples.",
    "search-1": "Find x with x + 1 = 3.",
    "search-2": "Find x with 2 x = 4.",
}
RIGHT = {"sum-1": 0, "sum-easy": 4, "sum-guessed": 2, "sum-2": 1, "sum-3": 3, "search-1": 3, "search-2": 2}
"""How many of the four answers to a problem are right, for those that a model is asked about."""


def offered() -> list[Problem]:
    return [
        Problem(id=name, prompt=prompt, answer="2", verifier="math", domain=name.partition("-")[0])
        for name, prompt in OFFERED.items()
    ]


def answers(prompt: str, turn: int) -> str:
    name = next(name for name in RIGHT if OFFERED[name] in prompt)
    if prompt.endswith("\\boxed{"):
        return "2}" if name == "sum-guessed" and turn == 1 else "5}"
    return "\\boxed{2}" if turn < RIGHT[name] else "\\boxed{5}"


SMALL = CurationConfig(samples=4, guesses=2, max_prompt_tokens=100, max_pass_rate=0.75, max_domain_share=0.5)


def test_each_rule_removes_what_it_is_for_and_pass_rates_are_shares_of_right_answers(base: Path) -> None:
    with scripted_bench(base, answers) as (bench, engine, _):
        result = curate(bench, offered(), SMALL)
    assert result.removed == {
        "multiple choice": 0,
        "true or false": 0,
        "proof": 1,
        "too long": 1,
        "always solved": 1,
        "guessed": 1,
        "balance": 1,
    }
    rates = {"sum-1": 0.0, "sum-2": 0.25, "sum-3": 0.75, "search-1": 0.75, "search-2": 0.5}
    left = [problem.id for problem in result.problems]
    assert len(left) == 4 and {"search-1", "search-2"} <= set(left) <= set(rates)
    assert result.pass_rates == {name: rates[name] for name in left}
    assert result.domains == {"sum": 2, "search": 2}
    tenths = Counter({0.0: "0.0", 0.25: "0.2", 0.5: "0.5", 0.75: "0.7"}[rates[name]] for name in left)
    assert result.difficulty == dict(tenths)
    # Four answers to each of seven prompts, and two guesses at each that is not always solved.
    assert len(engine.requests) == 4 * 7 + 2 * 6


def test_a_program_is_never_left_out_for_the_form_of_its_question(base: Path) -> None:
    text = "Write a program that reads n. Is n even? Print yes or no."
    program = Problem(id="program", prompt=text, verifier="code", tests=(("2", "yes"),))
    question = Problem(id="question", prompt=text, answer="yes", verifier="math")
    removed: Counter[str] = Counter()
    with scripted_bench(base, answers) as (bench, _, _):
        assert by_form(bench, [program, question], SMALL, removed) == [program]
    assert removed == {"true or false": 1}


def test_without_guesses_no_prompt_is_removed_for_being_guessed(base: Path) -> None:
    with scripted_bench(base, answers) as (bench, _, _):
        result = curate(bench, offered(), SMALL.model_copy(update={"guesses": 0, "max_domain_share": 1.0}))
    assert result.removed["guessed"] == 0
    assert "sum-guessed" in result.pass_rates


def test_a_set_of_which_nothing_is_left_is_refused_with_what_removed_it(base: Path) -> None:
    with scripted_bench(base, answers) as (bench, _, _), pytest.raises(ValueError, match=r"left no prompt.*'proof': 1"):
        curate(bench, offered()[:1], SMALL)
