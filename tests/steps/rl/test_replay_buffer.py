"""The replay buffer as a state machine: no group is lost, doubled, or handed out unfinished."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from steps.problem import Problem
from steps.rl.replay_buffer import ReplayBuffer
from steps.rl.trajectory import Group, Segment, Stop, Trajectory
from steps.token_prompt import TokenPrompt


def group(name: str, started: int, size: int = 2) -> Group:
    problem = Problem(id=name, prompt=name, answer="1", verifier="math")
    return Group(problem, TokenPrompt([1, 2]), [Trajectory(i) for i in range(size)], started)


class Rollouts(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.buffer = ReplayBuffer()
        self.iteration = 0
        self.added: list[Group] = []
        self.out: list[Group] = []

    @rule(name=st.sampled_from("abcdef"), size=st.integers(1, 3))
    def add(self, name: str, size: int) -> None:
        new = group(name, self.iteration, size)
        if name in self.buffer.problem_ids:
            with pytest.raises(ValueError, match=f"problem {name} is in the replay buffer already"):
                self.buffer.add(new)
        else:
            self.buffer.add(new)
            self.added.append(new)

    @precondition(lambda self: self.buffer.unfinished())
    @rule(data=st.data(), stop=st.sampled_from(list(Stop)), tokens=st.integers(1, 3))
    def extend(self, data: st.DataObject, stop: Stop, tokens: int) -> None:
        work = self.buffer.unfinished()
        _, trajectory = work[data.draw(st.integers(0, len(work) - 1))]
        trajectory.segments.append(Segment([1] * tokens, [-0.5] * tokens, self.iteration))
        trajectory.stop = stop

    @rule()
    def next_iteration(self) -> None:
        self.iteration += 1

    @rule(most=st.integers(0, 4))
    def take_done(self, most: int) -> None:
        done = self.buffer.take_done(most)
        assert all(one.done for one in done)
        left = [one.started for one in self.buffer.groups if one.done]
        assert len(done) == most or not left
        assert not done or not left or max(one.started for one in done) <= min(left), "the oldest go first"
        self.out += done

    @rule(bound=st.integers(0, 3))
    def drop_stale(self, bound: int) -> None:
        stale = self.buffer.drop_stale(self.iteration, bound)
        assert all(one.started + bound < self.iteration and not one.done for one in stale)
        assert all(one.started + bound >= self.iteration or one.done for one in self.buffer.groups)
        self.out += stale

    @rule(bound=st.integers(0, 3))
    def finish_stale(self, bound: int) -> None:
        before = [(one, t, t.stop) for one in self.buffer.groups for t in one.trajectories]
        ended = self.buffer.finish_stale(self.iteration, bound)
        expected = []
        for one, t, stop in before:
            old = one.started + bound < self.iteration
            if old and not (stop is not None and stop.final):
                expected.append((one, t))
                assert t.stop == Stop.STALE
            else:
                assert t.stop == stop
            assert one.done or not old
        assert len(ended) == len(expected)
        assert all(a is c and b is d for (a, b), (c, d) in zip(ended, expected, strict=True))

    @invariant()
    def every_group_is_in_one_place(self) -> None:
        assert sorted(map(id, self.added)) == sorted(map(id, self.buffer.groups + self.out))

    @invariant()
    def no_problem_is_worked_on_twice(self) -> None:
        assert len(self.buffer.problem_ids) == len(self.buffer)

    @invariant()
    def the_oldest_go_first_and_what_is_done_does_not_go_on(self) -> None:
        work = self.buffer.unfinished()
        started = [one.started for one, _ in work]
        assert started == sorted(started) and not any(t.done for _, t in work)
        assert len(work) == sum(not t.done for one in self.buffer.groups for t in one.trajectories)


Rollouts.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestRollouts = Rollouts.TestCase


def test_a_group_within_the_bound_is_not_stale() -> None:
    buffer = ReplayBuffer([group("a", 0)])
    assert buffer.finish_stale(4, 4) == [] == buffer.drop_stale(4, 4)
    assert len(buffer.finish_stale(5, 4)) == 2
    assert [one.problem.id for one in buffer.take_done(9)] == ["a"] and len(buffer) == 0
