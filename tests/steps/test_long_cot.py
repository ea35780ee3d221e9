"""The choice of long paths."""

from collections import Counter
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from steps.long_cot import BEHAVIOURS, behaviours, choose
from steps.problem import Example

WORDS = {"planning": "Plan: 3 steps.", "evaluation": "Check: 7.", "reflection": "Wait: 7.", "exploration": "Try 7."}


def path(*shown: str, number: int = 0) -> Example:
    return Example(problem_id=str(number), prompt="?", response=" ".join(["7 + 1 = 8", *(WORDS[s] for s in shown)]))


PATHS = st.lists(st.sets(st.sampled_from(sorted(BEHAVIOURS))), max_size=30).map(
    lambda sets: [path(*sorted(shown), number=i) for i, shown in enumerate(sets)]
)


def test_each_behaviour_is_known_by_its_own_words() -> None:
    assert {name: behaviours(text) for name, text in WORDS.items()} == {name: {name} for name in WORDS}
    assert behaviours("Back to 12, not now: the backlog is known.") == {"reflection"}
    assert behaviours("7 + 1 = 8") == set()


@given(PATHS, st.integers(1, 40), st.integers(0, 5))
def test_as_many_different_paths_are_chosen_as_there_are(paths: list[Example], count: int, seed: int) -> None:
    chosen = choose(paths, count, Random(seed))
    assert len(chosen) == min(count, len(paths)) == len({one.problem_id for one in chosen})
    assert all(one in paths for one in chosen)
    assert choose(paths, count, Random(seed)) == chosen


@given(PATHS, st.integers(1, 40), st.integers(0, 5))
def test_a_path_that_shows_nothing_is_chosen_only_for_want_of_others(
    paths: list[Example], count: int, seed: int
) -> None:
    chosen = choose(paths, count, Random(seed))
    showing = sum(bool(behaviours(one.response)) for one in paths)
    assert sum(bool(behaviours(one.response)) for one in chosen) == min(count, showing)


def test_a_rare_behaviour_is_chosen_before_more_of_a_frequent_one() -> None:
    paths = [path("planning", number=i) for i in range(100)]
    paths += [
        path(name, number=200 + 10 * i + j) for i, name in enumerate(("reflection", "evaluation")) for j in range(4)
    ]
    for seed in range(5):
        counts = Counter(name for one in choose(paths, 12, Random(seed)) for name in behaviours(one.response))
        # No path shows exploration: what it lacks must not go to whichever path comes first.
        assert counts == {"planning": 4, "reflection": 4, "evaluation": 4}
