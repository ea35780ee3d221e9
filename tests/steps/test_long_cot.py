"""Long-CoT SFT: which paths are verified and chosen, and that those are what is trained on."""

from collections import Counter
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steps.configs.long_cot import LongCotConfig
from steps.configs.phase import PhaseConfig
from steps.long_cot import BEHAVIOURS, behaviours, choose, long_cot_sft
from steps.problem import Example, Problem
from tests.steps.scripted import recording_bench

WORDS = {"planning": "Plan: 3 steps.", "evaluation": "Check: 7.", "reflection": "Wait: 7.", "exploration": "Try 7."}


def path(*written: str, number: int = 0) -> Example:
    return Example(problem_id=str(number), prompt="?", response=" ".join(["7 + 1 = 8", *(WORDS[s] for s in written)]))


PATHS = st.lists(st.sets(st.sampled_from(sorted(BEHAVIOURS))), max_size=30).map(
    lambda sets: [path(*sorted(names), number=i) for i, names in enumerate(sets)]
)


def test_each_behaviour_is_known_by_its_own_words() -> None:
    assert {name: behaviours(text) for name, text in WORDS.items()} == {name: {name} for name in WORDS}
    assert behaviours("Back to 12, not now: the backlog is known.") == {"reflection"}
    assert behaviours("7 + 1 = 8") == set()


@given(PATHS, st.integers(1, 40), st.integers(0, 5))
def test_as_many_different_paths_are_chosen_as_there_are(paths: list[Example], count: int, seed: int) -> None:
    chosen = [paths[place] for place in choose(paths, count, Random(seed))]
    assert len(chosen) == min(count, len(paths)) == len({one.problem_id for one in chosen})
    assert all(one in paths for one in chosen)
    assert [paths[place] for place in choose(paths, count, Random(seed))] == chosen


@given(PATHS, st.integers(1, 40), st.integers(0, 5))
def test_a_path_that_shows_nothing_is_chosen_only_for_want_of_others(
    paths: list[Example], count: int, seed: int
) -> None:
    chosen = [paths[place] for place in choose(paths, count, Random(seed))]
    showing = sum(bool(behaviours(one.response)) for one in paths)
    assert sum(bool(behaviours(one.response)) for one in chosen) == min(count, showing)


def test_a_rare_behaviour_is_chosen_before_more_of_a_frequent_one() -> None:
    paths = [path("planning", number=i) for i in range(100)]
    paths += [
        path(name, number=200 + 10 * i + j) for i, name in enumerate(("reflection", "evaluation")) for j in range(4)
    ]
    for seed in range(5):
        counts = Counter(
            name for place in choose(paths, 12, Random(seed)) for name in behaviours(paths[place].response)
        )
        # No path shows exploration: what it lacks must not go to whichever path comes first.
        assert counts == {"planning": 4, "reflection": 4, "evaluation": 4}


CURATED = [Problem(id="a", prompt="1 + 1 = ?", answer="2", verifier="math")]
CONFIG = LongCotConfig(
    paths=2,
    phase=PhaseConfig(sequence_length=128, learning_rate=1e-3, final_learning_rate=1e-4, warmup_share=0.0),
)
OFFERED = [
    Example(problem_id=problem, prompt="1 + 1 = ?", response=f"<think>{thought}</think>\\boxed{{{answer}}}")
    for problem, thought, answer in (
        ("a", "1 + 1 = 2", "2"),
        ("a", "Plan: add. Wait: 3.", "3"),
        ("a", "Plan: add. Try 2.", "2"),
        ("not curated", "Plan: add. Wait: 2.", "2"),
        ("a", "Wait: 2.", "2"),
    )
]


def test_wrong_paths_and_those_of_problems_that_curation_removed_are_not_trained_on(base: Path) -> None:
    with recording_bench(base) as (bench, trainer):
        result = long_cot_sft(bench, OFFERED, CURATED, CONFIG)
    assert (result.candidates, result.of_curated_problems, result.verified) == (5, 4, 3)
    # Of the three right ones, the two that show a behaviour are chosen.
    assert sorted(path.response for path in result.chosen) == sorted(OFFERED[i].response for i in (2, 4))
    assert result.behaviours == {"planning": 1, "exploration": 1, "reflection": 1}
    assert [score.value for score in result.scores] == [1.0, 1.0]
    (step,) = trainer.steps
    assert len(step) == 2 and "Try 2." in "".join(step) and "Wait: 2." in "".join(step)
    assert trainer.rates == [1e-3]


def test_paths_of_which_none_can_be_used_are_refused(base: Path) -> None:
    with recording_bench(base) as (bench, trainer):
        with pytest.raises(ValueError, match="none of the paths belongs to a curated problem and is right"):
            long_cot_sft(bench, [OFFERED[1], OFFERED[3]], CURATED, CONFIG)
        assert trainer.steps == []
