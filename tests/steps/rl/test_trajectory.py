"""Segments, trajectories and groups."""

import pytest

from steps.problem import Problem
from steps.rl.trajectory import Group, Segment, Stop, Trajectory
from steps.token_prompt import TokenPrompt

PROBLEM = Problem(id="p", prompt="?", answer="1", verifier="math")


def test_only_the_token_budget_lets_a_trajectory_go_on() -> None:
    assert [stop for stop in Stop if not stop.final] == [Stop.BUDGET]
    assert not Trajectory(0).done and not Trajectory(0, stop=Stop.BUDGET).done and Trajectory(0, stop=Stop.END).done


def test_a_response_is_its_segments_in_order() -> None:
    trajectory = Trajectory(0, [Segment([5, 6], [-1.0, -2.0], 3), Segment([7], [-0.5], 4)])
    assert trajectory.tokens == [5, 6, 7] and trajectory.logprobs == [-1.0, -2.0, -0.5]
    assert trajectory.length == 3 and trajectory.first_iteration == 3


def test_a_group_is_done_with_its_last_trajectory_and_scored_once_all_are_judged() -> None:
    trajectories = [Trajectory(0, stop=Stop.END, reward=1.0), Trajectory(1, stop=Stop.BUDGET)]
    group = Group(PROBLEM, TokenPrompt([1]), trajectories, 0)
    assert not group.done
    group.trajectories[1].stop = Stop.LENGTH
    assert group.done
    with pytest.raises(ValueError, match="group of problem p is not judged yet"):
        _ = group.rewards
    group.trajectories[1].reward = 0.0
    assert group.rewards == [1.0, 0.0]


def test_a_response_whose_judging_failed_counts_neither_as_right_nor_as_wrong() -> None:
    failed = Trajectory(1, stop=Stop.FAILED)
    group = Group(PROBLEM, TokenPrompt([1]), [Trajectory(0, stop=Stop.END, reward=1.0), failed], 0)
    assert group.done and group.rewards == [1.0] and group.judged == group.trajectories[:1]
