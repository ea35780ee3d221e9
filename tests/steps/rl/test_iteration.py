"""RL's iterations, with the real engine and trainer: what a loss that is not finite does."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import steps.rl.iteration as iteration
from infra.engine import Engine
from infra.trainer import LossNotFinite, Trainer
from steps.nano_world.world import NanoWorldConfig, generate
from steps.rl.checkpoint import Checkpoints, RlState
from steps.rl.config import RlConfig
from steps.rl.iteration import reinforce
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


@pytest.fixture
def bench(trainer: Trainer, engine: Engine, base: Path) -> Iterator[Workbench]:
    """A bench around the tests' own engine and trainer, which it does not close."""
    bench = Workbench(base, engine.config, trainer.config, seed=0)
    bench.__dict__ |= {"engine": engine, "trainer": trainer}
    yield bench
    bench.scorer.close()


def run(bench: Workbench, folder: Path) -> RlState:
    problems = [p for p in generate(NanoWorldConfig(train_problems=24), 0).train if p.domain == "arithmetic"]
    return reinforce(bench, problems, {}, CONFIG, Checkpoints(folder))


def without_seconds(state: RlState) -> dict[str, Any]:
    dumped = state.model_dump()
    dumped["history"] = [{k: v for k, v in one.items() if not k.endswith("_seconds")} for one in dumped["history"]]
    return dumped


def fail_at(monkeypatch: pytest.MonkeyPatch, number: int, times: int) -> None:
    """Let training fail in an iteration, so many times."""
    train_on, left = iteration.train_on, [times]

    def failing(bench: Workbench, groups: Any, config: RlConfig, now: int) -> dict[str, float]:
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
