"""Prompt sampling: in proportion to 1 − s, without replacement, from the seed alone."""

from collections import Counter
from collections.abc import Sequence
from itertools import permutations
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steps.configs.rl import SamplingConfig
from steps.problem import Problem
from steps.rl.prompt_sampling import PromptSampler

RATES = [0.0, 0.2, 0.5, 0.75, 0.9, 1.0]


def sampler(rates: Sequence[float], seed: int = 0, **settings: object) -> PromptSampler:
    problems = [Problem(id=str(i), prompt=f"{i}?", answer="1", verifier="math") for i in range(len(rates))]
    config = SamplingConfig.model_validate(settings)
    return PromptSampler.start(problems, {str(i): rate for i, rate in enumerate(rates)}, config, Random(seed))


def chi_square(seen: Counter, expected: dict) -> float:
    return sum((seen[key] - count) ** 2 / count for key, count in expected.items())


def test_problems_are_drawn_in_proportion_to_one_minus_their_success_rate() -> None:
    draws = 20_000
    rates = [*RATES[:-1], 0.97]
    drawn = sampler(rates)
    seen = Counter(drawn.draw(1, 0, set())[0].id for _ in range(draws))
    weights = {str(i): max(0.05, 1 - rate) for i, rate in enumerate(rates)}
    expected = {key: draws * weight / sum(weights.values()) for key, weight in weights.items()}
    assert chi_square(seen, expected) < 20.5  # 5 degrees of freedom: one seed in a thousand is beyond


def test_the_second_problem_is_drawn_in_proportion_from_what_the_first_left() -> None:
    draws = 20_000
    drawn = sampler([0.0, 0.5, 0.8, 0.9])
    seen = Counter(tuple(p.id for p in drawn.draw(2, 0, set())) for _ in range(draws))
    weights = {"0": 1.0, "1": 0.5, "2": 0.2, "3": 0.1}
    total = sum(weights.values())
    expected = {
        (a, b): draws * weights[a] / total * weights[b] / (total - weights[a]) for a, b in permutations(weights, 2)
    }
    assert chi_square(seen, expected) < 31.3  # 11 degrees of freedom


def test_the_curriculum_begins_with_the_whole_set_evenly() -> None:
    drawn = sampler(RATES, curriculum_iterations=1)
    seen = Counter(drawn.draw(1, 0, set())[0].id for _ in range(6_000))
    assert chi_square(seen, {str(i): 6_000 / len(RATES) for i in range(len(RATES))}) < 20.5


def test_problems_are_drawn_evenly_where_priorities_are_off() -> None:
    drawn = sampler(RATES, prioritised=False, curriculum_iterations=1)
    seen = Counter(drawn.draw(1, 0, set())[0].id for _ in range(12_000))
    assert chi_square(seen, {str(i): 2000.0 for i in range(6)}) < 20.5


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20), st.integers(0, 3), st.data())
def test_no_problem_is_drawn_twice_nor_one_that_is_worked_on(
    rates: list[float], iteration: int, data: st.DataObject
) -> None:
    exclude = data.draw(st.sets(st.sampled_from([str(i) for i in range(len(rates))])))
    count = data.draw(st.integers(0, len(rates) - len(exclude)))
    drawn = sampler(rates, curriculum_iterations=2, hard_below=0.5).draw(count, iteration, exclude)
    ids = [problem.id for problem in drawn]
    assert len(ids) == len(set(ids)) == count and not exclude & set(ids)


def test_equal_seeds_draw_equal_problems() -> None:
    def draws(seed: int) -> list[list[str]]:
        drawn = sampler(RATES, seed)
        return [[problem.id for problem in drawn.draw(3, i, set())] for i in range(10)]

    assert draws(7) == draws(7) != draws(8)


def test_easy_problems_are_drawn_during_the_curriculum_and_not_after() -> None:
    drawn = sampler(RATES, curriculum_iterations=3, hard_below=0.6)
    during = {p.id for _ in range(200) for p in drawn.draw(2, 2, set())}
    after = {p.id for _ in range(200) for p in drawn.draw(2, 3, set())}
    assert during == {"0", "1", "2", "3", "4", "5"} and after == {"0", "1", "2"}


def test_hard_problems_all_come_before_easy_ones_fill_up() -> None:
    drawn = sampler(RATES, hard_below=0.3)
    for _ in range(50):
        assert {"0", "1"} < {problem.id for problem in drawn.draw(3, 0, set())}


def test_a_problem_counts_as_hard_by_what_was_seen_last() -> None:
    drawn = sampler([0.0, 0.0, 0.9], hard_below=0.5, momentum=0.5)
    drawn.observe(drawn.problems[0], 1.0)
    assert drawn.success["0"] == 0.5
    drawn.observe(drawn.problems[0], 0.5)
    drawn.observe(drawn.problems[2], 0.0)
    drawn.observe(drawn.problems[2], 0.1)
    assert (drawn.success["0"], drawn.success["2"]) == (0.5, pytest.approx(0.275))
    assert {p.id for _ in range(50) for p in drawn.draw(1, 0, set())} == {"1", "2"}


def test_a_problem_without_a_pass_rate_counts_with_the_prior() -> None:
    problem = Problem(id="new", prompt="?", answer="1", verifier="math")
    assert PromptSampler.start([problem], {}, SamplingConfig(), Random(0)).success == {"new": 0.5}
    assert PromptSampler.start([problem], {}, SamplingConfig(prior=0.1), Random(0)).success == {"new": 0.1}


def test_too_few_problems_are_an_error_that_says_what_to_change() -> None:
    with pytest.raises(ValueError, match=r"3 prompts are asked for and 2 are left: lower rl\.groups"):
        sampler([0.1, 0.2, 0.3]).draw(3, 0, {"1"})
