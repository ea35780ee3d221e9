"""RL's iterations, with the real engine and trainer: what they do with bad rewards, prompts, models and losses."""

import itertools
import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import steps.rl.iteration as iteration
from infra.inference.engine import Engine
from infra.sandbox.interface import SandboxUnavailable
from infra.training.interface import LossNotFinite
from infra.training.trainer import Trainer
from infra.weights.handover import HandOver
from steps.configs.data import NanoWorldConfig
from steps.configs.rl import RlConfig
from steps.nano_world.world import generate
from steps.packing import pack
from steps.problem import Problem
from steps.rewards.score import Score
from steps.rewards.scorer import Scorer
from steps.rl.checkpoint import Checkpoints, RlState
from steps.rl.iteration import reinforce
from steps.rl.metrics import TrainingMetrics
from steps.rl.rollout import NothingJudged
from steps.supervised import response_loss
from steps.token_example import TokenExample
from steps.workbench import Workbench

CONFIG = RlConfig(
    iterations=3,
    groups=2,
    responses=2,
    max_response_tokens=12,
    token_budget=8,
    updates=1,
    learning_rate=1e-4,
    final_learning_rate=1e-4,
)


BenchWith = Callable[[Scorer], Workbench]


@pytest.fixture
def bench_with(trainer: Trainer, engine: Engine, base: Path) -> Iterator[BenchWith]:
    """Makes benches around the tests' own engine and trainer, which they do not close, and a scorer."""
    with ExitStack() as scorers:
        yield lambda scorer: Workbench(
            base,
            engine=engine,
            trainer=trainer,
            scorer=scorers.enter_context(scorer),
            context=engine.config.context,
            seed=0,
        )


@pytest.fixture
def bench(bench_with: BenchWith) -> Workbench:
    """Judged by the real verifiers."""
    return bench_with(Scorer())


PROBLEMS = [p for p in generate(NanoWorldConfig(train_problems=24), 0).train if p.domain == "arithmetic"]


def run(bench: Workbench, folder: Path, config: RlConfig = CONFIG) -> RlState:
    return reinforce(bench, PROBLEMS, {}, config, Checkpoints(folder))


def changed(**settings: Any) -> RlConfig:
    return RlConfig.model_validate(CONFIG.model_dump() | settings)


def without_seconds(state: RlState) -> dict[str, Any]:
    dumped = state.model_dump()
    dumped["history"] = [{k: v for k, v in one.items() if not k.endswith("_seconds")} for one in dumped["history"]]
    return dumped


def fail_at(monkeypatch: pytest.MonkeyPatch, number: int, times: int) -> None:
    """Let training fail in an iteration, so many times."""
    train_on, left = iteration.train_on, [times]

    def failing(bench: Workbench, groups: Any, config: RlConfig, now: int) -> TrainingMetrics:
        if now == number and left[0]:
            left[0] -= 1
            raise LossNotFinite("the loss of micro-batch 1 of 1 is nan")
        return train_on(bench, groups, config, now)

    monkeypatch.setattr(iteration, "train_on", failing)


@pytest.mark.parametrize("number", [0, 2])
def test_an_iteration_whose_loss_is_not_finite_is_tried_once_more(
    bench: Workbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    undisturbed = run(bench, tmp_path / "a")
    fail_at(monkeypatch, number, 1)
    assert without_seconds(run(bench, tmp_path / "b")) == without_seconds(undisturbed)


def test_a_second_time_it_ends_rl_and_the_batch_and_the_finished_iterations_are_kept(
    bench: Workbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_at(monkeypatch, 1, 2)
    with pytest.raises(
        LossNotFinite, match=r"iteration 1: the loss .* is nan\. The groups trained on are in .*a-failed"
    ):
        run(bench, tmp_path / "a")
    assert '"problem"' in (tmp_path / "a-failed-000001.json").read_text()
    undisturbed = run(bench, tmp_path / "b")
    assert without_seconds(run(bench, tmp_path / "a")) == without_seconds(undisturbed)


class Judging(Scorer):
    """Verifiers of which some answers are made up."""

    def __init__(self, made_up: Callable[[Problem, str], Score]) -> None:
        super().__init__()
        self.made_up = made_up

    def _score(self, problem: Problem, response: str) -> Score:
        return self.made_up(problem, response)


def judging(value: Callable[[Problem, int], float]) -> Judging:
    """Judges responses by a function of the problem and of how often it was asked."""
    turn = itertools.count()
    return Judging(lambda problem, response: Score(value(problem, next(turn)), "", 0.0, "test@1"))


def test_a_group_that_cannot_be_judged_is_left_out_and_the_others_go_on(bench_with: BenchWith, tmp_path: Path) -> None:
    bad = {problem.id for problem in PROBLEMS[::2]}

    def value(problem: Problem, turn: int) -> float:
        if problem.id in bad:
            raise ArithmeticError("no answer can be read in the reference")
        return float(turn % 2)

    state = run(bench_with(judging(value)), tmp_path / "a", changed(groups=6))
    failed, trained = ([e.problem_id for e in state.ledger if e.outcome == way] for way in ("failed", "trained"))
    assert failed and set(failed) <= bad
    assert trained and not set(trained) & bad
    assert sum(one.failed_judgements for one in state.history) == 2 * len(failed)


def test_a_reward_that_is_not_a_number_is_not_a_reward(bench_with: BenchWith, tmp_path: Path) -> None:
    bench = bench_with(judging(lambda problem, turn: float("nan") if turn % 3 == 0 else float(turn % 3 == 1)))
    state = run(bench, tmp_path / "a", changed(responses=6))
    assert all(math.isfinite(value) for one in state.history for value in one.values().values())
    assert sum(one.failed_judgements for one in state.history) > 0
    assert sum(one.groups_done for one in state.history) > 0


def test_verifiers_that_judge_nothing_end_rl_with_their_error(bench_with: BenchWith, tmp_path: Path) -> None:
    def value(problem: Problem, turn: int) -> float:
        raise ArithmeticError("out of order")

    with pytest.raises(NothingJudged, match=r"none of \d+ responses could be judged; the first: out of order"):
        run(bench_with(judging(value)), tmp_path / "a")


def test_a_missing_sandbox_ends_rl_at_once(bench_with: BenchWith, tmp_path: Path) -> None:
    def value(problem: Problem, turn: int) -> float:
        if turn == 0:
            raise SandboxUnavailable("no bwrap")
        return 1.0

    with pytest.raises(SandboxUnavailable, match="no bwrap"):
        run(bench_with(judging(value)), tmp_path / "a")


def test_prompts_that_leave_no_room_are_left_out_and_said(
    bench: Workbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(iteration, "say", said.append)
    lengths = sorted(len(bench.chat.prompt(problem)) for problem in PROBLEMS)
    room = lengths[len(lengths) // 2]
    fitting = iteration.drop_long_prompts(bench, PROBLEMS, changed(sequence_length=room + 12))
    assert [len(bench.chat.prompt(p)) <= room for p in PROBLEMS] == [p in fitting for p in PROBLEMS]
    assert said == [
        f"{len(PROBLEMS) - len(fitting)} of {len(PROBLEMS)} prompts are longer than the {room} tokens that "
        f"rl.max_response_tokens 12 leaves them (engine.context 512, rl.sequence_length {room + 12}), and are left out"
    ]
    with pytest.raises(ValueError, match="raise the limits or curate shorter prompts"):
        iteration.drop_long_prompts(bench, PROBLEMS, changed(max_response_tokens=511))


def train_to_answer(bench: Workbench, tokens: list[int]) -> None:
    """Let the model answer each prompt with these tokens."""
    examples = [TokenExample([*bench.chat.prompt(p), *tokens], len(bench.chat.prompt(p))) for p in PROBLEMS]
    rows = list(pack(examples, 512, 8))
    for _ in range(40):
        bench.trainer.step(rows, response_loss(rows), learning_rate=3e-3)


@pytest.fixture
def restored(trainer: Trainer, engine: Engine, base: Path) -> Iterator[None]:
    yield
    trainer.load_weights(base)
    HandOver(trainer, engine).to_rollout()


def test_a_model_that_says_nothing_is_trained_on_without_harm(bench: Workbench, restored: None, tmp_path: Path) -> None:
    train_to_answer(bench, [min(bench.engine.end_tokens)])
    state = run(bench, tmp_path / "a")
    assert {one.response_tokens for one in state.history} == {1.0}
    assert {one.no_signal_share for one in state.history} == {1.0}
    assert all(math.isfinite(value) for one in state.history for value in one.values().values())


def test_a_model_that_repeats_itself_is_stopped_and_penalised_and_the_saving_reported(
    bench: Workbench, restored: None, tmp_path: Path
) -> None:
    train_to_answer(bench, [70] * 48)
    config = changed(
        max_response_tokens=48,
        token_budget=24,
        repetition={"max_pattern": 4, "min_count": 4, "min_tokens": 8, "penalty": 0.5},
    )
    state = run(bench, tmp_path / "a", config)
    first = state.history[0]
    assert first.repetition_stops == 4
    assert 4 * (48 - 24) <= first.repetition_tokens_saved <= 4 * 48
    assert first.reward == -0.5
    assert all(math.isfinite(value) for one in state.history for value in one.values().values())


def test_over_sampling_fills_the_batch_while_long_responses_go_on(bench_with: BenchWith, tmp_path: Path) -> None:
    bench = bench_with(judging(lambda problem, turn: float(turn % 2)))
    alone = run(bench, tmp_path / "a", changed(iterations=4))
    more = run(bench, tmp_path / "b", changed(iterations=4, oversampling=2.0))
    # The base does not end its responses: each takes two iterations of 8 tokens.
    assert [one.batch_fill for one in alone.history] == [0, 1, 0, 1]
    assert [one.batch_fill for one in more.history] == [0, 1, 1, 1]
    assert [entry.started for entry in more.ledger] == sorted(entry.started for entry in more.ledger)


def test_each_stale_group_is_dropped_and_one_prompt_takes_its_place(bench: Workbench, tmp_path: Path) -> None:
    config = changed(iterations=4, token_budget=2, max_staleness=1, when_stale="drop")
    state = run(bench, tmp_path / "a", config)
    assert [one.groups_dropped for one in state.history] == [0, 0, 2, 0]
    assert [one.groups_in_buffer for one in state.history] == [2, 2, 2, 2]
    assert [(entry.started, entry.ended, entry.outcome) for entry in state.ledger] == [(0, 2, "stale")] * 2


@pytest.mark.parametrize("objective", ["rest", "token_level"])
def test_other_objectives_train_on_the_same_rollouts(
    bench_with: BenchWith, tmp_path: Path, restored: None, objective: str
) -> None:
    bench = bench_with(judging(lambda problem, turn: float(turn % 2)))
    state = run(bench, tmp_path / "a", changed(objective=objective, token_budget=12, iterations=2, updates=2))
    for one in state.history:
        assert one.gradient_norm is not None and one.gradient_norm > 0
        # The reference stays that of the iteration's start: the second step finds a policy that has moved away from it.
        assert one.log_ratio_max is not None and one.log_ratio_max > 0.01
    assert state.history[-1].groups_done == 2
