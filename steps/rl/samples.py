"""What an iteration records of its responses, to answer later what a policy was trained on: one row for each
response of the groups that left the replay buffer."""

from collections.abc import Iterator, Mapping

from infra.lineage.sample_row import Outcome, PolicySpan, SampleRow
from steps.chat import Chat
from steps.configs.rl import RlConfig
from steps.rl.credit import Credit, credit
from steps.rl.rollout import RolloutResult
from steps.rl.trajectory import Group


def sample_rows(chat: Chat, result: RolloutResult, config: RlConfig, iteration: int) -> Iterator[SampleRow]:
    """Rows of the groups that a rollout phase handed out: those to train on, the stale ones, the failed ones.

    A response that could not be judged has failed, in whatever group it is.
    """
    for group in result.done:
        credits = {one.place: one for one in credit(group, config, iteration)}
        outcome: Outcome = "trained" if any(one.advantage for one in credits.values()) else "no_signal"
        yield from _rows(chat, group, iteration, outcome, credits)
    for group in result.stale:
        yield from _rows(chat, group, iteration, "stale", None)
    for group in result.failed:
        yield from _rows(chat, group, iteration, "failed", None)


def _rows(
    chat: Chat, group: Group, iteration: int, outcome: Outcome, credits: Mapping[int, Credit] | None
) -> Iterator[SampleRow]:
    """The rows of one group; `credits` are of its judged responses, by their places, if it is trained on."""
    problem, digest = group.problem, group.problem.digest
    for place, trajectory in enumerate(group.trajectories):
        one = credits.get(place) if credits is not None else None
        own: Outcome = "failed" if credits is not None and one is None else outcome
        yield SampleRow(
            problem_id=problem.id,
            prompt_digest=digest,
            prompt=problem.text,
            response=chat.text(trajectory.tokens),
            tokens=trajectory.length,
            role="rollout",
            outcome=own,
            times_trained=int(own == "trained"),
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
            images=group.prompt.images,
        )
