"""RL with two rollout workers and two trainer ranks, one worker killed on the way, against RL in one process."""

import itertools
from pathlib import Path
from typing import Any

import pytest

from infra.configs import EngineConfig, TrainerConfig
from infra.inference.engine import Engine
from infra.training.trainer import Trainer
from steps.configs.rl import RlConfig
from steps.rewards.score import Score
from steps.rl.checkpoint import Checkpoints, RlState
from steps.rl.iteration import reinforce
from steps.workbench import Workbench, open_workbench
from tests.infra.inference.test_workers import worker_processes
from tests.steps.rl.test_iteration import PROBLEMS, Judging

CONFIG = RlConfig(
    iterations=4,
    groups=4,
    responses=4,
    max_response_tokens=24,
    token_budget=16,
    updates=2,
    learning_rate=1e-4,
    final_learning_rate=1e-4,
)
KILLED_AT = 20
"""Which judgement a worker dies at: in the second iteration, when most of its responses have been returned."""


def judging(kill: bool) -> Judging:
    """Judges by the response alone, whoever sampled it and when: the base solves nothing. May kill a worker."""
    turn = itertools.count()

    def judged(problem: Any, response: str) -> Score:
        if kill and next(turn) == KILLED_AT:
            worker_processes()[0].kill()
        return Score(float(sum(map(ord, response)) % 2), "", 0.0, "test@1")

    return Judging(judged)


def run(bench: Workbench, folder: Path) -> RlState:
    return reinforce(bench, PROBLEMS, {}, CONFIG, Checkpoints(folder))


@pytest.mark.slow
def test_rl_on_workers_and_ranks_of_which_one_dies_is_rl_in_one_process(
    base: Path, engine: Engine, trainer: Trainer, tmp_path: Path
) -> None:
    parts: Any = {"engine": engine, "trainer": trainer, "scorer": lambda: judging(kill=False)}
    with Workbench(base, **parts, context=engine.config.context, seed=0) as alone:
        try:
            expected = run(alone, tmp_path / "alone")
            trained = {name: tensor.clone() for name, tensor in trainer.weights()}
        finally:
            trainer.load_weights(base)
            alone.hand_over()
    several: Any = {"engine": EngineConfig(max_sequences=8, workers=2), "trainer": TrainerConfig(ranks=2, zero_stage=2)}
    with open_workbench(base, **several, scorer=lambda: judging(kill=True), seed=0) as bench:
        state = run(bench, tmp_path / "many")
        for name, tensor in bench.trainer.weights():
            assert (tensor.cpu() - trained[name]).abs().max() < 1e-4, name
    assert state.ledger == expected.ledger
    assert any(entry.ended > entry.started for entry in state.ledger), "no rollout continued"
    for own, other in zip((s.values() for s in state.history), (e.values() for e in expected.history), strict=True):
        for name in own.keys() - {key for key in own if key.endswith("_seconds")}:
            assert own[name] == pytest.approx(other[name], rel=1e-3, abs=1e-4), name
