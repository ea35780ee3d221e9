"""The length reward of §2.3.3."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steps.rl.length_reward import length_rewards, weight_at

GROUPS = st.lists(st.tuples(st.integers(0, 10_000), st.booleans()), min_size=1, max_size=12)


def test_length_rewards_are_as_worked_out_by_hand() -> None:
    assert length_rewards([10, 20, 30], [True, False, True]) == [0.5, 0.0, -0.5]
    assert length_rewards([10, 20, 30], [False, True, False]) == [0.0, 0.0, -0.5]
    assert length_rewards([10, 15, 30], [False, True, True]) == [0.0, 0.25, -0.5]


def test_equally_long_responses_gain_and_lose_nothing() -> None:
    assert length_rewards([7, 7, 7], [True, False, True]) == [0.0, 0.0, 0.0]
    assert length_rewards([7], [True]) == [0.0]


@given(GROUPS)
def test_a_wrong_response_never_gains(group: list[tuple[int, bool]]) -> None:
    lengths, right = zip(*group, strict=True)
    rewards = length_rewards(lengths, right)
    assert all(-0.5 <= reward <= 0.5 for reward in rewards)
    assert all(reward <= 0 for reward, ok in zip(rewards, right, strict=True) if not ok)


@given(GROUPS)
def test_a_longer_response_never_earns_more_than_a_shorter_one_of_its_kind(group: list[tuple[int, bool]]) -> None:
    lengths, right = zip(*group, strict=True)
    rewards = length_rewards(lengths, right)
    for kind in (True, False):
        by_length = sorted((n, -r) for n, r, ok in zip(lengths, rewards, right, strict=True) if ok is kind)
        assert all(a <= b for (_, a), (_, b) in pairwise(by_length))


@pytest.mark.parametrize(("iteration", "weight"), [(0, 0.0), (2, 0.0), (3, 0.4), (90, 0.4)])
def test_there_is_no_length_reward_during_warm_up_and_a_constant_one_after(iteration: int, weight: float) -> None:
    assert weight_at(iteration, 0.4, 3) == weight
