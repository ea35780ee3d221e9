"""Shortest rejection sampling learns from the shortest right response and from nothing else."""

from hypothesis import given
from hypothesis import strategies as st

from steps.long2short.responses import JudgedResponse, Responses
from steps.long2short.shortest import shortest_examples
from steps.problem import Problem

PROBLEM = Problem(id="p", prompt="?", answer="1", verifier="math")
PROMPT = [1, 2, 3]


def responses(judged: list[tuple[int, bool]]) -> Responses:
    return Responses(PROBLEM, PROMPT, [JudgedResponse([9] * length, right) for length, right in judged])


def test_a_shorter_wrong_response_is_never_learned_from() -> None:
    sampled = [responses([(30, True), (4, False), (12, True)]), responses([(5, False)]), responses([])]
    (example,) = shortest_examples(sampled)
    assert list(example.tokens) == [*PROMPT, *[9] * 12] and example.prompt_length == 3


@given(st.lists(st.lists(st.tuples(st.integers(1, 50), st.booleans()), max_size=8), max_size=6))
def test_each_problem_with_a_right_response_gives_its_shortest(sampled: list[list[tuple[int, bool]]]) -> None:
    lengths = [len(e.tokens) - e.prompt_length for e in shortest_examples([responses(judged) for judged in sampled])]
    right = [[length for length, ok in judged if ok] for judged in sampled]
    assert lengths == [min(row) for row in right if row]
