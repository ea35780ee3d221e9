"""The rollout phase (§2.6.2): unfinished responses continue, new problems fill the free places, rewards are computed
while others are still being generated.

A response may grow by the iteration's token budget. What is unfinished then stays in the replay buffer and continues in
the next iteration, under the next policy.
"""

import math
import statistics
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field

from infra.inference.repetition import Repetition
from infra.inference.requests import Completion, Request
from infra.progress.tasks import say, task
from infra.sandbox.interface import SandboxUnavailable
from steps.configs.rl import RepetitionConfig, RlConfig
from steps.rewards.score import Score
from steps.rl.metrics import RolloutMetrics
from steps.rl.prompt_sampling import PromptSampler
from steps.rl.replay_buffer import ReplayBuffer
from steps.rl.trajectory import Group, Segment, Stop, Trajectory
from steps.workbench import Workbench


class NothingJudged(RuntimeError):
    """Not one of an iteration's responses could be judged: the verifiers are broken, not the responses."""


@dataclass
class RolloutResult:
    """What one rollout phase brought."""

    done: list[Group]
    """Groups to train on: all of their responses are done, and at least two of them judged."""
    stale: list[Group]
    """Groups given up as stale."""
    failed: list[Group]
    """Groups given up because fewer than two of their responses could be judged."""
    tokens: int = 0
    """Tokens generated."""
    seconds: float = 0.0
    stops: Counter[Stop] = field(default_factory=Counter)
    """How the responses that were worked on stand now."""
    reread_tokens: int = 0
    """Tokens of responses that continue, and of their prompts, which were computed again under the new weights."""
    computed_tokens: int = 0
    """Tokens that the engine computed: those, new prompts, and what was generated."""
    repetition_tokens_saved: int = 0
    """Tokens that responses stopped for repetition could still have grown by: the most that stopping them saved."""


def rollout(
    bench: Workbench, buffer: ReplayBuffer, sampler: PromptSampler, config: RlConfig, iteration: int
) -> RolloutResult:
    """Generate and judge one iteration's share of responses. Raises NothingJudged, SandboxUnavailable."""
    started = time.perf_counter()
    stale, judging = _retire_stale(bench, buffer, config, iteration)
    _fill(bench, buffer, sampler, config, iteration)
    work = buffer.unfinished()
    requests = [_request(bench, group, trajectory, config) for group, trajectory in work]
    result = RolloutResult([], stale, [])
    with task("rollout", total=len(requests), unit="responses") as progress:
        for completion in bench.engine.generate(requests):
            group, trajectory = work[completion.index]
            read = requests[completion.index].length - completion.cached
            result.computed_tokens += read + len(completion.tokens)
            result.reread_tokens += read if trajectory.segments else 0
            _extend(trajectory, completion, config, iteration)
            result.tokens += len(completion.tokens)
            if trajectory.done:
                judging.append((trajectory, _judge(bench, group, trajectory)))
            progress.advance(1)
    _take_judgements(judging)
    for _, trajectory in work:
        assert trajectory.stop is not None, "the engine left a request without a completion"
        result.stops[trajectory.stop] += 1
        if trajectory.stop is Stop.REPETITION:
            result.repetition_tokens_saved += config.max_response_tokens - trajectory.length
    for group in buffer.take_done(config.groups):
        (result.done if len(group.judged) >= 2 else result.failed).append(group)
    result.seconds = time.perf_counter() - started
    return result


def rollout_metrics(result: RolloutResult, buffer: ReplayBuffer, config: RlConfig, iteration: int) -> RolloutMetrics:
    """What a rollout phase reports."""
    judged = [trajectory for group in result.done for trajectory in group.judged]
    seen = [trajectory for group in result.done if group.prompt.images for trajectory in group.judged]
    read = [trajectory for group in result.done if not group.prompt.images for trajectory in group.judged]
    by_modality: dict[str, float | None] = {}
    if seen:
        for modality, members in (("text", read), ("image", seen)):
            by_modality[f"{modality}_accuracy"] = _mean(t.reward or 0.0 for t in members)
            by_modality[f"{modality}_response_tokens"] = _mean(t.length for t in members)
    return RolloutMetrics(
        rollout_tokens=result.tokens,
        rollout_seconds=result.seconds,
        reread_tokens=result.reread_tokens,
        computed_tokens=result.computed_tokens,
        reread_share=result.reread_tokens / result.computed_tokens if result.computed_tokens else None,
        groups_done=len(result.done),
        groups_in_buffer=len(buffer),
        groups_dropped=len(result.stale),
        groups_failed=len(result.failed),
        batch_fill=len(result.done) / config.groups,
        repetition_stops=result.stops[Stop.REPETITION],
        repetition_tokens_saved=result.repetition_tokens_saved,
        length_stops=result.stops[Stop.LENGTH],
        failed_judgements=result.stops[Stop.FAILED],
        accuracy=_mean(t.reward or 0.0 for t in judged),
        response_tokens=_mean(t.length for t in judged),
        staleness=_mean(iteration - t.first_iteration for t in judged),
        **by_modality,
    )


def _mean(values: Iterable[float]) -> float | None:
    """None of no values."""
    present = list(values)
    return statistics.fmean(present) if present else None


def _retire_stale(
    bench: Workbench, buffer: ReplayBuffer, config: RlConfig, iteration: int
) -> tuple[list[Group], list[tuple[Trajectory, Future[Score]]]]:
    if config.when_stale == "drop":
        return buffer.drop_stale(iteration, config.max_staleness), []
    ended = buffer.finish_stale(iteration, config.max_staleness)
    return [], [(trajectory, _judge(bench, group, trajectory)) for group, trajectory in ended]


def _fill(bench: Workbench, buffer: ReplayBuffer, sampler: PromptSampler, config: RlConfig, iteration: int) -> None:
    """Start new groups in the free places."""
    free = config.in_flight - len(buffer)
    for problem in sampler.draw(max(0, free), iteration, buffer.problem_ids):
        rng = bench.random(f"rollout {iteration} {problem.id}")
        trajectories = [Trajectory(rng.getrandbits(31)) for _ in range(config.responses)]
        buffer.add(Group(problem, bench.chat.read(problem), trajectories, iteration))


def _request(bench: Workbench, group: Group, trajectory: Trajectory, config: RlConfig) -> Request:
    room = config.max_response_tokens - trajectory.length
    return bench.request(
        group.prompt,
        min(config.token_budget, room),
        (trajectory.seed + len(trajectory.segments)) % 2**31,
        config.temperature,
        response=trajectory.tokens,
        repetition=repetition_rule(config.repetition),
    )


def repetition_rule(config: RepetitionConfig) -> Repetition:
    """The engine's rule."""
    return Repetition(config.max_pattern, config.min_count, config.min_tokens)


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


def _take_judgements(judging: list[tuple[Trajectory, Future[Score]]]) -> None:
    """Wait for the scores. A response whose score is an error, or no number, has failed and goes without a reward."""
    first: Exception | None = None
    failed = 0
    for trajectory, future in judging:
        try:
            score = future.result()
            if not math.isfinite(score.value):
                raise ValueError(f"verifier {score.verifier} gave the reward {score.value}")
            trajectory.reward, trajectory.reason, trajectory.verifier = score.value, score.reason, score.verifier
        except SandboxUnavailable:
            raise
        except Exception as error:  # whatever a verifier raises: one response must not end the run
            trajectory.stop, trajectory.reason = Stop.FAILED, f"{type(error).__name__}: {error}"
            first, failed = first or error, failed + 1
    if failed and failed == len(judging):
        raise NothingJudged(f"none of {failed} responses could be judged; the first: {first}") from first
    if failed:
        say(f"{failed} of {len(judging)} responses could not be judged and are left out; the first: {first}")
