"""Evaluation's figures, counted by hand."""

import math
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steps.chat import Chat
from steps.configs.evaluation import EvaluationConfig
from steps.evaluation import by_limit, evaluate, percentile
from steps.problem import Problem
from tests.steps.scripted import Answer, scripted_bench


@pytest.mark.parametrize(
    ("count", "share", "expected"),
    [
        (100, 0.99, 99),
        (1000, 0.99, 990),
        (100, 0.07, 7),
        (100, 0.5, 50),
        (3, 0.5, 2),
        (1, 0.99, 1),
        (4, 1.0, 4),
        (4, 0, 1),
    ],
)
def test_percentiles_are_as_counted_by_hand(count: int, share: float, expected: int) -> None:
    assert percentile(range(count, 0, -1), share) == expected


@given(st.lists(st.integers(0, 500), min_size=1, max_size=300), st.integers(1, 100))
def test_the_percentile_is_the_smallest_value_that_enough_do_not_exceed(values: list[int], percent: int) -> None:
    value = percentile(values, percent / 100)
    enough = math.ceil(Fraction(percent, 100) * len(values))
    assert sum(one <= value for one in values) >= enough
    assert sum(one < value for one in values) < enough


def of_length(chat: Chat, answer: str, tokens: int) -> str:
    """A response of so many tokens, the end token counted, whose final answer is `answer`."""
    boxed = f"\\boxed{{{answer}}}"
    return "y" * (tokens - 1 - len(chat.encode(boxed))) + boxed


def problem(name: str, domain: str = "sums") -> Problem:
    return Problem(id=name, prompt=f"{name} = ?", answer="2", verifier="math", domain=domain)


RESPONSES = {"one": [("2", 20), ("2", 30)], "two": [("2", 40), ("3", 50)], "three": [("3", 60), ("", 300)]}
"""Final answer and tokens of both responses to each problem; the last one is cut off before it gives an answer."""


def test_accuracy_its_error_and_lengths_are_as_counted_by_hand(base: Path) -> None:
    chat = Chat(base)

    def script(prompt: str, turn: int) -> Answer:
        name = next(name for name in RESPONSES if f"{name} = ?" in prompt)
        answer, tokens = RESPONSES[name][turn]
        return Answer(of_length(chat, answer, tokens)) if answer else Answer("y" * tokens, "length")

    with scripted_bench(base, script) as (bench, engine, _):
        problems = [problem("one"), problem("two"), problem("three", "searches")]
        result = evaluate(bench, problems, EvaluationConfig(samples=2, max_response_tokens=300, temperature=0.5))
    assert (result.problems, result.samples) == (3, 2)
    # Per problem 1, 1/2 and 0 of the responses are right: their standard deviation is 1/2.
    assert result.accuracy == 0.5
    assert result.standard_error == pytest.approx(0.5 / math.sqrt(3))
    assert result.mean_tokens == pytest.approx((20 + 30 + 40 + 50 + 60 + 300) / 6)
    assert (result.median_tokens, result.p99_tokens) == (45, 300)
    sums, searches = result.domains["sums"], result.domains["searches"]
    assert (sums.problems, sums.accuracy, sums.mean_tokens) == (2, 0.75, 35)
    assert (searches.problems, searches.accuracy, searches.mean_tokens) == (1, 0, 180)
    assert {(request.max_tokens, request.temperature) for request in engine.requests} == {(300, 0.5)}


def test_one_problem_has_no_error_and_two_of_two_hundred_are_beyond_the_percentile(base: Path) -> None:
    chat = Chat(base)
    with scripted_bench(base, lambda prompt, turn: of_length(chat, "2", 20 + turn)) as (bench, _, _):
        result = evaluate(bench, [problem("one")], EvaluationConfig(samples=200, max_response_tokens=300))
    assert (result.accuracy, result.standard_error) == (1, 0)
    # Lengths are 20 to 219; 198 of them are at most 217.
    assert (result.median_tokens, result.p99_tokens) == (119.5, 217)


def test_an_answer_without_a_box_counts_where_the_configuration_reads_it_otherwise(base: Path) -> None:
    with scripted_bench(base, lambda prompt, turn: "1 + 1 = 2") as (bench, _, _):
        config = EvaluationConfig(samples=1, max_response_tokens=60)
        assert evaluate(bench, [problem("one")], config).accuracy == 0
        read = evaluate(bench, [problem("one")], config.model_copy(update={"answer_reading": "last_number"}))
        assert read.accuracy == 1 and "100.0% by last number" in read.headline
        assert read.examples[0].response == "1 + 1 = 2"


def test_accuracy_by_the_tokens_allowed_counts_longer_responses_as_wrong() -> None:
    rewards, lengths = [[1.0, 1.0], [0.0, 1.0]], [[16, 40], [20, 33]]
    results = {one.tokens: one.accuracy for one in by_limit(rewards, lengths, 100)}
    assert results == {16: 0.25, 32: 0.25, 64: 0.75, 100: 0.75}
    assert [one.tokens for one in by_limit(rewards, lengths, 64)] == [16, 32, 64]
    assert [one.tokens for one in by_limit(rewards, lengths, 8)] == [8]
