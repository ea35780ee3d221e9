"""The rules of curation that need no model."""

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steps.curation import balance, guess, question_form
from steps.problem import Problem
from steps.rewards.score import boxed_answer


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("What is 3 + 4? (A) 6 (B) 7 (C) 8", "multiple choice"),
        ("What is 3 + 4?\nA. 6\nB. 7", "multiple choice"),
        ("What is 3 + 4?\n a) 6\n b) 7", "multiple choice"),
        ("Which of the following is prime?", "multiple choice"),
        ("Choose the correct value of x.", "multiple choice"),
        ("True or false: 7 mod 3 = 1.", "true or false"),
        ("Is it true that 91 is prime?", "true or false"),
        ("Is 91 prime? Answer yes or no.", "true or false"),
        ("Prove that 3 * 4 = 4 * 3.", "proof"),
        ("Prove or disprove: every even number is a sum of two primes.", "proof"),
        ("Let n be odd. Show that n^2 - 1 is divisible by 8.", "proof"),
        ("Let n be odd, and show that n^2 is odd.", "proof"),
        ("Give a proof of Fermat's little theorem.", "proof"),
    ],
)
def test_forms_that_cannot_be_evaluated_are_found(text: str, form: str) -> None:
    assert question_form(text) == form


@pytest.mark.parametrize(
    "text",
    [
        "Start with 7. Add 5. What is the result?",
        "Find the smallest positive x with x mod 3 = 1 and x mod 5 = 4.",
        "Write a Python program that reads an integer x and prints f(x). Examples: f(2) = 7, f(3) = 9, f(5) = 13.",
        "If f(a) = 7 and f(b) = 9, what is f(a) + f(b)?",
        "In how many ways can we choose one red ball and two blue ones?",
        "Jill watched a show that was 30 minutes long. How long were two of them?",
        "Records show that the home team won three matches. How many did the other team win?",
        "Fireworks show the year. How many are lit?",
        "Matt watches the show The Office. How many weeks does it take?",
        "How much waterproof paint is needed?",
    ],
)
def test_questions_that_can_be_evaluated_stay(text: str) -> None:
    assert question_form(text) is None


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
    kept = balance(given_problems, share, Random(seed))
    assert [p for p in given_problems if p in kept] == kept
    left = Counter(problem.domain for problem in kept)
    assert left.keys() == counts.keys()
    possible = max(share, 1 / max(1, len(counts)))
    assert all(count <= possible * len(kept) + 1e-6 for count in left.values())
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
