"""Shortest rejection sampling learns from the shortest right response and from nothing else."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from steps.configs.phase import PhaseConfig
from steps.configs.responses import ResponsesConfig
from steps.configs.shortest import ShortestConfig
from steps.long2short.responses import JudgedResponse, Responses, sample_responses
from steps.long2short.shortest import shortest_examples, shortest_rejection_sampling
from steps.problem import Problem
from steps.token_prompt import TokenPrompt
from tests.steps.scripted import Answer, scripted_bench

PROBLEM = Problem(id="p", prompt="?", answer="1", verifier="math")
PROMPT = [1, 2, 3]


def responses(judged: list[tuple[int, bool]]) -> Responses:
    return Responses(PROBLEM, TokenPrompt(PROMPT), [JudgedResponse([9] * length, right) for length, right in judged])


def test_a_shorter_wrong_response_is_never_learned_from() -> None:
    sampled = [responses([(30, True), (4, False), (12, True)]), responses([(5, False)]), responses([])]
    (example,) = shortest_examples(sampled)
    assert list(example.tokens) == [*PROMPT, *[9] * 12] and example.prompt_length == 3


@given(st.lists(st.lists(st.tuples(st.integers(1, 50), st.booleans()), max_size=8), max_size=6))
def test_each_problem_with_a_right_response_gives_its_shortest(sampled: list[list[tuple[int, bool]]]) -> None:
    lengths = [len(e.tokens) - e.prompt_length for e in shortest_examples([responses(judged) for judged in sampled])]
    right = [[length for length, ok in judged if ok] for judged in sampled]
    assert lengths == [min(row) for row in right if row]


def test_the_stage_trains_on_the_shortest_right_response_that_was_not_cut_off(base: Path) -> None:
    answers = [
        Answer("I will add them: \\boxed{1}"),
        Answer("So \\boxed{1}"),
        Answer("\\boxed{1}", "length"),
        Answer("\\boxed{2}"),
    ]
    config = ShortestConfig(
        responses=ResponsesConfig(samples=4),
        phase=PhaseConfig(sequence_length=64, learning_rate=1e-3, final_learning_rate=1e-4),
    )
    hard = Problem(id="hard", prompt="hard = ?", answer="5", verifier="math")
    with scripted_bench(base, lambda prompt, turn: answers[turn]) as (bench, _, trainer):
        sampled = sample_responses(bench, [PROBLEM, hard], config.responses)
        assert shortest_rejection_sampling(bench, sampled, config) == 1
    ((text,),) = trainer.steps
    assert "So \\boxed{1}" in text and "hard" not in text
    judged = {one.problem.id: [response.right for response in one.judged] for one in sampled}
    assert judged == {"p": [True, True, False], "hard": [False, False, False]}
