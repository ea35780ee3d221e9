"""The rollout phase (§2.6.2): unfinished responses go on, new problems fill the free places, rewards are computed
while others are still being generated.

A response may grow by the iteration's token budget. What is unfinished then stays in the replay buffer and goes on in
the next iteration, under the next policy.
"""

import time
from collections import Counter
from concurrent.futures import Future
from dataclasses import dataclass, field

from infra.engine import Completion, Request
from infra.progress import task
from steps.rewards.score import Score
from steps.rl.config import RlConfig
from steps.rl.prompt_sampling import PromptSampler
from steps.rl.replay_buffer import ReplayBuffer
from steps.rl.trajectory import Group, Segment, Stop, Trajectory
from steps.workbench import Workbench


@dataclass
class RolloutResult:
    """What one rollout phase brought."""

    done: list[Group]
    """Groups all of whose responses are done and judged."""
    dropped: list[Group]
    """Groups given up as stale."""
    tokens: int = 0
    """Tokens generated."""
    seconds: float = 0.0
    stops: Counter[Stop] = field(default_factory=Counter)


def rollout(
    bench: Workbench, buffer: ReplayBuffer, sampler: PromptSampler, config: RlConfig, iteration: int
) -> RolloutResult:
    """Generate and judge one iteration's share of responses."""
    started = time.perf_counter()
    dropped, judged = _retire_stale(bench, buffer, config, iteration)
    _fill(bench, buffer, sampler, config, iteration)
    work = buffer.unfinished()
    requests = [_request(group, trajectory, config) for group, trajectory in work]
    result = RolloutResult([], dropped)
    with task("rollout", total=len(requests), unit="responses") as progress:
        for completion in bench.engine.generate(requests):
            group, trajectory = work[completion.index]
            _extend(trajectory, completion, config, iteration)
            result.tokens += len(completion.tokens)
            if trajectory.done:
                judged.append((trajectory, _judge(bench, group, trajectory)))
            progress.advance(1)
    for trajectory, score in judged:
        trajectory.reward, trajectory.reason = score.result().value, score.result().reason
    result.stops.update(trajectory.stop for _, trajectory in work if trajectory.stop is not None)
    result.done = buffer.take_done()
    result.seconds = time.perf_counter() - started
    return result


def _retire_stale(
    bench: Workbench, buffer: ReplayBuffer, config: RlConfig, iteration: int
) -> tuple[list[Group], list[tuple[Trajectory, Future[Score]]]]:
    if config.when_stale == "drop":
        return buffer.drop_stale(iteration, config.max_staleness), []
    ended = {id(trajectory) for trajectory in buffer.finish_stale(iteration, config.max_staleness)}
    judged = [(t, _judge(bench, g, t)) for g in buffer.groups for t in g.trajectories if id(t) in ended]
    return [], judged


def _fill(bench: Workbench, buffer: ReplayBuffer, sampler: PromptSampler, config: RlConfig, iteration: int) -> None:
    """Start new groups in the free places."""
    free = config.groups - len(buffer)
    for problem in sampler.draw(max(0, free), iteration, buffer.problem_ids):
        rng = bench.random(f"rollout {iteration} {problem.id}")
        trajectories = [Trajectory(rng.getrandbits(31)) for _ in range(config.responses)]
        buffer.add(Group(problem, bench.chat.prompt(problem), trajectories, iteration))


def _request(group: Group, trajectory: Trajectory, config: RlConfig) -> Request:
    room = config.max_response_tokens - trajectory.length
    return Request(
        tokens=[*group.prompt, *trajectory.tokens],
        max_tokens=min(config.token_budget, room),
        seed=(trajectory.seed + len(trajectory.segments)) % 2**31,
        temperature=config.temperature,
        repetition=config.repetition.for_engine(),
    )


def _extend(trajectory: Trajectory, completion: Completion, config: RlConfig, iteration: int) -> None:
    trajectory.segments.append(Segment(completion.tokens, completion.logprobs, iteration))
    if completion.ended == "stop":
        trajectory.stop = Stop.END
    elif completion.ended == "repetition":
        trajectory.stop = Stop.REPETITION
    elif trajectory.length >= config.max_response_tokens:
        trajectory.stop = Stop.LENGTH
    else:
        trajectory.stop = Stop.BUDGET


def _judge(bench: Workbench, group: Group, trajectory: Trajectory) -> Future[Score]:
    return bench.scorer.submit(group.problem, bench.chat.text(trajectory.tokens))
