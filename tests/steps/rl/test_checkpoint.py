"""RL that is killed, at random and at every kind of point, ends as RL that is not."""

import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest

from infra.lineage.sample_files import write_samples
from infra.lineage.sample_row import SampleRow
from infra.training.trainer import Trainer
from steps.chat import Chat
from steps.configs.data import NanoWorldConfig
from steps.configs.phase import PhaseConfig
from steps.configs.rl import SamplingConfig
from steps.nano_world.world import generate
from steps.problem import Problem
from steps.rl.checkpoint import Checkpoints, RlState, SamplesMissing
from steps.rl.ledger import LedgerEntry
from steps.rl.prompt_sampling import PromptSampler, SamplerState
from steps.rl.trajectory import Group, Segment, Stop, Trajectory
from steps.supervised import train
from steps.token_prompt import TokenPrompt
from tests.processes import own_environment
from tests.steps.rl.test_metrics import metrics

ROOT = Path(__file__).parents[3]
KILLS = 20


def state(iteration: int) -> RlState:
    problem = Problem(id="p", prompt="1 + 1?", answer="2", verifier="math")
    trajectory = Trajectory(7, [Segment([3, 4], [-0.1, -1e-17], 0)], Stop.BUDGET)
    sampler = PromptSampler([problem], SamplingConfig(), Random(iteration), {"p": 0.25})
    entry = LedgerEntry(problem_id="p", started=0, ended=1, outcome="trained")
    history = [metrics(log_ratio_max=float("inf"))]
    return RlState(
        next_iteration=iteration,
        sampler=sampler.state,
        groups=[Group(problem, TokenPrompt([1]), [trajectory], 0)],
        history=history,
        ledger=[entry],
    )


def samples(number: int) -> list[SampleRow]:
    return [SampleRow("p", "d", "1 + 1?", f"2, or {number}", 2, "rollout", "trained", 1)]


def test_what_is_restored_is_what_was_saved_last(trainer: Trainer, base: Path, tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    assert checkpoints.restore(trainer) is None
    for iteration in range(1, 11):
        checkpoints.save(state(iteration), trainer, samples(iteration))
    assert checkpoints.restore(trainer) == state(10)
    assert sorted(path.name for path in checkpoints.folder.iterdir()) == ["000010", "samples"]


def test_a_checkpoint_that_was_cut_off_is_not_seen_and_goes_with_the_next(trainer: Trainer, tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    checkpoints.save(state(1), trainer, samples(1))
    shutil.copytree(checkpoints.folder / "000001", checkpoints.folder / ".000002.x1y2")
    (checkpoints.folder / ".000002.x1y2" / "state.json").write_text('{"next_it')
    assert checkpoints.restore(trainer) == state(1)
    checkpoints.save(state(2), trainer, samples(2))
    assert sorted(path.name for path in checkpoints.folder.iterdir()) == ["000002", "samples"]


def test_samples_of_iterations_that_are_not_done_are_dropped_and_the_others_kept(
    trainer: Trainer, tmp_path: Path
) -> None:
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    # The first iteration was killed between its samples and its checkpoint, and the third while it wrote.
    write_samples(checkpoints.samples / "000000.parquet", samples(7))
    assert checkpoints.restore(trainer) is None and not list(checkpoints.samples.iterdir())
    for iteration in (1, 2):
        checkpoints.save(state(iteration), trainer, samples(iteration))
    retained = {path.name: path.read_bytes() for path in checkpoints.samples.iterdir()}
    write_samples(checkpoints.samples / "000002.parquet", samples(7))
    (checkpoints.samples / ".000003.parquet.x1y2").write_bytes(b"PAR1")
    assert checkpoints.restore(trainer) == state(2)
    assert {path.name: path.read_bytes() for path in checkpoints.samples.iterdir()} == retained


def test_a_finished_iteration_without_its_samples_is_an_error_that_names_the_file(
    trainer: Trainer, tmp_path: Path
) -> None:
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    for iteration in (1, 2):
        checkpoints.save(state(iteration), trainer, samples(iteration))
    (checkpoints.samples / "000000.parquet").unlink()
    with pytest.raises(SamplesMissing, match=r"samples/000000\.parquet is missing.*start from scratch"):
        checkpoints.restore(trainer)


def test_a_restored_sampler_draws_what_the_other_would_have_drawn() -> None:
    problems = [Problem(id=str(i), prompt="?", answer="1", verifier="math") for i in range(20)]
    first = PromptSampler.start(problems, {"3": 0.9}, SamplingConfig(), Random(1))
    first.draw(5, 0, set())
    first.observe(problems[2], 1.0)
    other = PromptSampler.start(problems, {}, SamplingConfig(), Random(2))
    other.restore(SamplerState.model_validate_json(first.state.model_dump_json()))
    assert [other.draw(5, i, set()) for i in range(3)] == [first.draw(5, i, set()) for i in range(3)]


@pytest.fixture
def short_model(trainer: Trainer, base: Path, tmp_path: Path) -> Path:
    """A model that ends its responses, so that rewards differ within a group."""
    chat = Chat(base)
    examples = generate(NanoWorldConfig(sft_examples=300), 0).sft
    phase = PhaseConfig(sequence_length=128, tokens_per_step=512, learning_rate=1e-3, final_learning_rate=1e-4)
    tokens = [chat.example(example.text, example.response) for example in examples]
    train(trainer, tokens, phase, Random(0), "SFT", lambda metrics: None)
    saved = trainer.save(tmp_path / "model")
    trainer.load_weights(base)
    return saved


def rl_killed(model: Path, folder: Path, seed: int, kills: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.steps.rl.rl_process", str(model), str(folder), str(seed), str(kills)]
    done = subprocess.run(command, cwd=ROOT, env=own_environment(), capture_output=True, text=True, timeout=580)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.mark.slow
def test_rl_that_is_killed_again_and_again_ends_as_rl_that_is_not(short_model: Path, tmp_path: Path) -> None:
    result = rl_killed(short_model, tmp_path / "rl", seed=0, kills=KILLS)
    assert len(result["phases"]) >= KILLS
    assert {"rollout", "reward", "training", "saving", "samples saved", "pruning"} <= set(result["phases"])
    assert result["killed"]["ledger"] == result["undisturbed"]["ledger"]
    assert result["killed"]["history"] == result["undisturbed"]["history"]
    assert sorted(result["undisturbed"]["samples"]) == [f"{iteration:06d}.parquet" for iteration in range(12)]
    assert result["killed"]["samples"] == result["undisturbed"]["samples"]
    assert result["killed"]["weights"] == result["undisturbed"]["weights"]
    ledger = result["undisturbed"]["ledger"]
    assert any(entry["ended"] > entry["started"] for entry in ledger), "no rollout continued: partial rollouts unseen"
    assert max(Counter((entry["problem_id"], entry["started"]) for entry in ledger).values()) == 1
