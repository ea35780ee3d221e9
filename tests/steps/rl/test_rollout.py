"""A rollout phase with prepared responses: its requests and figures. Real engines are in test_iteration.py."""

from pathlib import Path
from random import Random

from infra.inference.repetition import Repetition
from steps.configs.rl import RepetitionConfig, RlConfig
from steps.problem import Problem
from steps.rl.prompt_sampling import PromptSampler
from steps.rl.replay_buffer import ReplayBuffer
from steps.rl.rollout import RolloutResult, rollout, rollout_metrics
from steps.rl.trajectory import Group, Segment, Stop, Trajectory
from steps.token_prompt import TokenPrompt
from tests.steps.scripted import Answer, scripted_bench

CONFIG = RlConfig(
    iterations=2,
    groups=2,
    responses=2,
    updates=1,
    max_response_tokens=40,
    token_budget=30,
    learning_rate=1e-4,
    final_learning_rate=1e-4,
    repetition=RepetitionConfig(max_pattern=7, min_count=3, min_tokens=9),
)
PROBLEMS = [Problem(id=name, prompt=f"{name} = ?", answer="2", verifier="math") for name in ("one", "two")]


def script(prompt: str, turn: int) -> Answer:
    """To the first problem a right and a wrong answer; to the second, responses that use up the budget and then end."""
    if "one = ?" in prompt:
        return Answer("\\boxed{2}" if turn == 0 else "\\boxed{3}")
    if "x" * 30 in prompt:
        return Answer("y" * 10, "length") if turn == 0 else Answer("yy", "repetition")
    return Answer("x" * 30, "length")


def test_what_the_engine_is_asked_and_what_the_phase_reports(base: Path) -> None:
    sampler = PromptSampler.start(PROBLEMS, {}, CONFIG.sampling, Random(0))
    buffer = ReplayBuffer()
    with scripted_bench(base, script) as (bench, engine, _):
        first = rollout(bench, buffer, sampler, CONFIG, 0)
        figures = rollout_metrics(first, buffer, CONFIG, 0)
        turn = len(engine.requests)
        second = rollout(bench, buffer, sampler, CONFIG, 1)
        later = rollout_metrics(second, buffer, CONFIG, 1)

    assert {request.repetition for request in engine.requests} == {Repetition(max_pattern=7, min_count=3, min_tokens=9)}
    assert {request.max_tokens for request in engine.requests[:turn]} == {30}
    assert [group.problem.id for group in first.done] == ["one"]
    length = len(bench.chat.encode("\\boxed{2}")) + 1
    assert (figures.rollout_tokens, figures.accuracy, figures.response_tokens) == (2 * length + 60, 0.5, length)
    assert (figures.groups_done, figures.groups_in_buffer, figures.batch_fill) == (1, 1, 0.5)

    # The unfinished ones come first, and have room for 10 more tokens; the place that is free goes to "one" again.
    assert [request.max_tokens for request in engine.requests[turn:]] == [10, 10, 30, 30]
    assert [request.response for request in engine.requests] == [0] * turn + [30, 30, 0, 0]
    assert (later.groups_done, later.length_stops, later.repetition_stops) == (2, 1, 1)
    assert later.repetition_tokens_saved == 40 - 32
    # Both responses that continue are computed again with their prompt; new prompts are computed for the first time.
    again = sum(len(request.tokens) for request in engine.requests[turn : turn + 2])
    new = sum(len(request.tokens) for request in engine.requests[turn + 2 :])
    assert (figures.reread_tokens, figures.reread_share) == (0, 0)
    assert (later.reread_tokens, later.computed_tokens) == (again, again + new + later.rollout_tokens)
    assert later.reread_share == again / (again + new + later.rollout_tokens)
    assert later.staleness == 0.5 and later.accuracy == 0.25


def test_accuracy_and_length_are_reported_by_modality_where_prompts_have_images() -> None:
    def group(images: tuple[str, ...], rewards: list[float], length: int) -> Group:
        segments = [Segment([7] * length, [0.0] * length, 0)]
        trajectories = [Trajectory(seed=0, segments=segments, stop=Stop.END, reward=reward) for reward in rewards]
        return Group(PROBLEMS[0], TokenPrompt([5], images), trajectories, 0)

    text = group((), [1.0, 1.0], 4)
    mixed = RolloutResult([text, group(("a" * 64,), [1.0, 0.0], 8)], [], [])
    figures = rollout_metrics(mixed, ReplayBuffer(), CONFIG, 0)
    assert (figures.accuracy, figures.text_accuracy, figures.image_accuracy) == (0.75, 1.0, 0.5)
    assert (figures.response_tokens, figures.text_response_tokens, figures.image_response_tokens) == (6, 4, 8)
    alone = rollout_metrics(RolloutResult([text], [], []), ReplayBuffer(), CONFIG, 0)
    assert not [name for name in alone.model_dump(exclude_none=True) if name.startswith(("text_", "image_"))]
