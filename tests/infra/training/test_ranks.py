"""Trainer ranks: real processes under torchrun with real DeepSpeed, against the trainer of one process."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from infra.configs import TrainerConfig
from infra.errors import LonghaulError
from infra.training.interface import LossNotFinite, StepResult
from infra.training.ranks import TrainerRankDied, TrainerRanks
from infra.training.trainer import Trainer
from steps.long2short.dpo import PairRows, StepLoss
from steps.packing import pack
from steps.rl.update import PolicyLoss, ResponseRows
from steps.supervised import response_loss
from steps.token_example import TokenExample
from tests.infra.training.losses import ROWS, Endless, FitValue, Poisoned, WithGradients
from tests.processes import running_below


def trained(trainer: Trainer | TrainerRanks, steps: int = 3) -> tuple[list[StepResult], dict[str, Tensor]]:
    results = [trainer.step(ROWS, response_loss(ROWS), learning_rate=1e-4) for _ in range(steps)]
    return results, {name: tensor.clone() for name, tensor in trainer.weights()}


SPARING = {"gradient_checkpointing": True, "logit_chunk_tokens": 16}
"""The settings that save memory; tests/infra/training/test_ranks_on_nodes.py has ZeRO 3 without them."""


@pytest.fixture(
    scope="module",
    params=[
        {"zero_stage": 0},
        {"zero_stage": 0, "sequence_parallel": 2},
        {"zero_stage": 1, "sequence_parallel": 2},
        {"zero_stage": 2, "sequence_parallel": 2},
        {"zero_stage": 3} | SPARING,
        {"zero_stage": 3, "sequence_parallel": 2} | SPARING,
    ],
    ids=[
        "0",
        "0, sharing rows",
        "1, sharing rows",
        "2, sharing rows",
        "3 sparing memory",
        "3 sparing memory, sharing rows",
    ],
)
def ranks(base: Path, request: pytest.FixtureRequest) -> Iterator[TrainerRanks]:
    """Two ranks; a test that trains them puts the weights back."""
    ranks = TrainerRanks(base, TrainerConfig(ranks=2, **request.param), seed=0)
    yield ranks
    ranks.close()


def test_two_ranks_take_the_steps_of_one(ranks: TrainerRanks, trainer: Trainer, base: Path) -> None:
    trainer.load_weights(base)
    expected, weights = trained(trainer)
    before = trainer.reference_logprobs(ROWS)
    trainer.load_weights(base)
    actual, same = trained(ranks)
    after = ranks.reference_logprobs(ROWS)
    ranks.load_weights(base)
    for own, others in zip(actual, expected, strict=True):
        assert own.loss == pytest.approx(others.loss, rel=1e-5)
        assert own.gradient_norm == pytest.approx(others.gradient_norm, rel=1e-5)
    assert same.keys() == weights.keys()
    # Where a gradient is all but zero, the sign of Adam's step hangs on the order of additions: 3e-4 is three steps.
    assert max((same[name] - weights[name]).abs().max().item() for name in weights) < 5e-5
    assert all(torch.allclose(one, other, atol=1e-4) for one, other in zip(after, before, strict=True))


def policy_rows(trainer: Trainer | TrainerRanks) -> list[ResponseRows]:
    references = trainer.reference_logprobs(ROWS)
    return [
        ResponseRows(**vars(rows), counted=(rows.owners >= 0).float(), reference=reference + 0.1)
        for rows, reference in zip(ROWS, references, strict=True)
    ]


def preference_rows(trainer: Trainer | TrainerRanks) -> list[PairRows]:
    """Two pairs in two micro-batches, whose responses lie in rows of other lengths than a multiple of the ranks."""
    batches = []
    for first in (0, 3):
        chosen = TokenExample(list(range(5 + first, 28 + first)), 4)
        rejected = TokenExample(list(range(5 + first, 40 + 2 * first)), 4)
        (packed,) = pack([chosen, rejected], 41, 2)
        batches.append(PairRows(**vars(packed), pairs=1, reference=torch.tensor([-30.0, -60.0])))
    return batches


@pytest.mark.parametrize("kind", ["RL", "DPO"])
def test_two_ranks_take_the_steps_of_one_for_losses_of_whole_responses(
    ranks: TrainerRanks, trainer: Trainer, base: Path, kind: str
) -> None:
    losses: dict[str, tuple[Any, Any]] = {
        "RL": (policy_rows, PolicyLoss("mirror_descent", 0.1, torch.tensor([0.5, -1.0, 0.25]), 3.0)),
        "DPO": (preference_rows, StepLoss(0.1, 2)),
    }
    rows_of, loss = losses[kind]
    taken = []
    for one in (trainer, ranks):
        one.load_weights(base)
        rows = rows_of(one)
        results = [one.step(rows, loss, learning_rate=1e-4) for _ in range(2)]
        taken.append((results, {name: tensor.clone() for name, tensor in one.weights()}))
        one.load_weights(base)
    (expected, weights), (actual, same) = taken
    for own, others in zip(actual, expected, strict=True):
        assert own.loss == pytest.approx(others.loss, rel=1e-5)
        assert own.gradient_norm == pytest.approx(others.gradient_norm, rel=1e-5)
        assert own.sums.keys() == others.sums.keys()
        for name, tensor in own.sums.items():
            torch.testing.assert_close(tensor, others.sums[name], atol=1e-3, rtol=1e-5)
    assert max((same[name] - weights[name]).abs().max().item() for name in weights) < 5e-5


@pytest.mark.parametrize("kind", ["SFT", "RL", "DPO"])
def test_two_ranks_have_the_gradient_of_one_for_every_parameter(
    ranks: TrainerRanks, trainer: Trainer, base: Path, kind: str
) -> None:
    if ranks.config.zero_stage == 3:
        pytest.skip("no rank has a whole parameter: norms and steps are compared above")
    losses: dict[str, tuple[Any, Any]] = {
        "SFT": (lambda one: ROWS, response_loss(ROWS)),
        "RL": (policy_rows, PolicyLoss("mirror_descent", 0.1, torch.tensor([0.5, -1.0, 0.25]), 3.0)),
        "DPO": (preference_rows, StepLoss(0.1, 2)),
    }
    rows_of, loss = losses[kind]
    gradients = []
    for one in (trainer, ranks):
        one.load_weights(base)
        gradients.append(
            one.step(rows_of(one), WithGradients(loss, one.config.sequence_parallel > 1), learning_rate=1e-4).sums
        )
        one.load_weights(base)
    expected, actual = gradients
    assert actual.keys() == expected.keys() == {name for name, _ in trainer.weights()}
    largest = max(gradient.abs().max().item() for gradient in expected.values())
    for name, gradient in actual.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-5 * largest, msg=name)


def test_values_of_whole_rows_are_computed_by_ranks_with_rows_of_their_own(base: Path) -> None:
    ranks = TrainerRanks(base, TrainerConfig(ranks=2, sequence_parallel=2), seed=0, head="value")
    alone = Trainer(base, TrainerConfig(), seed=0, head="value")
    steps = [one.step(ROWS, FitValue(), learning_rate=1e-4) for one in (alone, ranks)]
    ranks.close()
    assert steps[1].loss == pytest.approx(steps[0].loss, rel=1e-5)
    assert steps[1].gradient_norm == pytest.approx(steps[0].gradient_norm, rel=1e-5)


def test_heads_that_the_ranks_cannot_share_are_refused_by_the_key(base: Path) -> None:
    with pytest.raises(LonghaulError, match=r"trainer\.sequence_parallel is 3, .* 4 for queries and 2 for keys"):
        TrainerRanks(base, TrainerConfig(ranks=3, sequence_parallel=3), seed=0)
    with pytest.raises(ValidationError, match="3 ranks share a row, which does not divide ranks, 4"):
        TrainerConfig(ranks=4, sequence_parallel=3)


def test_loaded_weights_are_trained_on_by_a_new_optimizer(ranks: TrainerRanks, base: Path, tmp_path: Path) -> None:
    from steps.import_checkpoint import check_checkpoint

    first, weights = trained(ranks)
    saved = ranks.save(tmp_path / "model")
    check_checkpoint(saved)
    ranks.load_weights(base)
    again, same = trained(ranks)
    assert [(r.loss, r.gradient_norm) for r in again] == [(r.loss, r.gradient_norm) for r in first]
    assert all(torch.equal(same[name], weights[name]) for name in weights)
    ranks.load_weights(saved)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in ranks.weights())
    ranks.load_weights(base)


def test_a_loss_that_is_not_finite_on_one_rank_is_raised_by_all_and_leaves_no_trace(
    ranks: TrainerRanks, base: Path
) -> None:
    clean = ranks.step(ROWS, Poisoned(None), learning_rate=1e-4)
    assert clean.sums["seen"].tolist() == [1, 1, 1], "a micro-batch that only fills up a round was counted"
    ranks.load_weights(base)
    for place in (1, 2):
        with pytest.raises(LossNotFinite, match=f"micro-batch {place + 1} of 3 is nan"):
            ranks.step(ROWS, Poisoned(place), learning_rate=1e-4)
    again = ranks.step(ROWS, Poisoned(None), learning_rate=1e-4)
    assert (again.loss, again.gradient_norm) == (clean.loss, clean.gradient_norm)
    ranks.load_weights(base)


def test_what_the_ranks_raise_is_raised_here_and_they_go_on(ranks: TrainerRanks, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nothing-here") as caught:
        ranks.load_weights(tmp_path / "nothing-here")
    assert "In a trainer rank" in "".join(caught.value.__notes__)
    assert len(ranks.reference_logprobs(ROWS)) == len(ROWS)


def rank_processes(parent: int) -> list[psutil.Process]:
    """The ranks that torchrun's agent, and so `parent`, has started."""
    return [process for process, _ in running_below(parent) if process.name().startswith("rank ")]


def test_a_rank_that_dies_in_a_step_ends_the_others_and_is_reported(base: Path) -> None:
    ranks = TrainerRanks(base, TrainerConfig(ranks=2, zero_stage=2), seed=0)
    processes = rank_processes(ranks._process.pid)
    assert len(processes) == 2
    killer = threading.Timer(1, processes[1].kill)
    killer.start()
    started = time.monotonic()
    with pytest.raises(TrainerRankDied, match="Signal 9"):
        ranks.step(ROWS, Endless(), learning_rate=1e-4)
    assert time.monotonic() - started < 20
    assert not psutil.wait_procs(processes, timeout=5)[1]
    with pytest.raises(TrainerRankDied):
        ranks.reset_optimizer()
    ranks.close()


def test_ranks_end_with_the_process_that_started_them(base: Path, tmp_path: Path) -> None:
    program = (
        "import sys, pathlib, infra.training.ranks as r; from infra.training.trainer import TrainerConfig\n"
        "ranks = r.TrainerRanks(pathlib.Path(sys.argv[1]), TrainerConfig(ranks=2), 0)\n"
        "print(ranks._place, flush=True); sys.stdin.read()"
    )
    with (tmp_path / "log").open("w") as log:
        driver = subprocess.Popen(
            [sys.executable, "-c", program, str(base)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    assert driver.stdin and driver.stdout
    place = Path(driver.stdout.readline().strip())
    processes = rank_processes(driver.pid)
    assert len(processes) == 2 and place.is_dir(), (tmp_path / "log").read_text()[-2000:]
    driver.kill()
    driver.wait()
    assert not psutil.wait_procs(processes, timeout=10)[1]
    assert not place.exists()


def test_a_rank_that_cannot_start_is_reported_with_what_it_printed(tmp_path: Path) -> None:
    with pytest.raises(TrainerRankDied, match="no-model"):
        TrainerRanks(tmp_path / "no-model", TrainerConfig(ranks=2), seed=0)
