"""What an iteration leaves of its responses for whoever asks later what a policy was trained on: one row for each
response of the groups that left the replay buffer."""

from collections.abc import Iterator

from infra.lineage.sample_files import Outcome, PolicySpan, SampleRow
from steps.chat import Chat
from steps.rl.config import RlConfig
from steps.rl.credit import Credit, credit
from steps.rl.rollout import RolloutResult
from steps.rl.trajectory import Group, Trajectory


def sample_rows(chat: Chat, result: RolloutResult, config: RlConfig, iteration: int) -> Iterator[SampleRow]:
    """Rows of the groups that a rollout phase handed out: those to train on, the stale ones, the failed ones.

    A response that could not be judged has failed, in whatever group it is.
    """
    for group in result.done:
        credits = {id(one.trajectory): one for one in credit(group, config, iteration)}
        outcome: Outcome = "trained" if any(one.advantage for one in credits.values()) else "no_signal"
        for trajectory in group.trajectories:
            one = credits.get(id(trajectory))
            yield _row(chat, group, trajectory, iteration, outcome if one else "failed", one)
    for group in result.stale:
        yield from (_row(chat, group, trajectory, iteration, "stale") for trajectory in group.trajectories)
    for group in result.failed:
        yield from (_row(chat, group, trajectory, iteration, "failed") for trajectory in group.trajectories)


def _row(
    chat: Chat, group: Group, trajectory: Trajectory, iteration: int, outcome: Outcome, one: Credit | None = None
) -> SampleRow:
    problem = group.problem
    return SampleRow(
        problem_id=problem.id,
        prompt_digest=problem.digest,
        prompt=problem.text,
        response=chat.text(trajectory.tokens),
        tokens=trajectory.length,
        role="rollout",
        outcome=outcome,
        passes=int(outcome == "trained"),
        iteration=iteration,
        started=group.started,
        policies=[PolicySpan(segment.iteration, len(segment.tokens)) for segment in trajectory.segments],
        seed=trajectory.seed,
        stop=trajectory.stop,
        reward=trajectory.reward,
        reward_reason=trajectory.reason or None,
        verifier=trajectory.verifier or None,
        total_reward=one.total_reward if one else None,
        advantage=one.advantage if one else None,
        source=problem.source,
        licence=problem.licence,
    )
