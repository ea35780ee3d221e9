"""Trainer ranks on a group of nodes: what they make is what one machine makes."""

from pathlib import Path
from typing import Literal

import pytest

from infra.cluster.group import lead
from infra.configs import TrainerConfig
from infra.training.ranks import TrainerRanks
from infra.training.trainer import Trainer
from tests.infra.cluster.test_group import new_node, others
from tests.infra.training.test_ranks import trained


@pytest.mark.parametrize("zero_stage", [2, 3])
def test_trainer_ranks_on_two_nodes_take_the_steps_of_one(
    zero_stage: Literal[2, 3], trainer: Trainer, base: Path, tmp_path: Path
) -> None:
    trainer.load_weights(base)
    expected, weights = trained(trainer)
    trainer.load_weights(base)
    first = new_node()
    with others(first) as processes:
        with lead(first, 60):
            for _ in range(2 if zero_stage == 2 else 1):  # a stage may open a second trainer
                ranks = TrainerRanks(base, TrainerConfig(ranks=2, zero_stage=zero_stage), seed=0)
                actual, same = trained(ranks)
                ranks.load_weights(ranks.save(tmp_path / "model"))
                ranks.close()
        assert processes[0].wait(20) == 0
    assert [one.loss for one in actual] == pytest.approx([one.loss for one in expected], rel=1e-5)
    assert max((same[name] - weights[name]).abs().max().item() for name in weights) < 5e-5
