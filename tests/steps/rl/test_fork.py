"""RL that continues from an iteration of another run: the same where nothing is changed, and what may be changed."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import steps.rl.iteration as iteration
from infra.inference.engine import Engine
from infra.training.interface import LossNotFinite
from infra.training.trainer import Trainer
from steps.configs.data import NanoWorldConfig
from steps.configs.rl import RlConfig
from steps.nano_world.world import generate
from steps.problem import Problem
from steps.rewards.score import Score
from steps.rewards.scorer import Scorer
from steps.rl.checkpoint import Checkpoints, Origin, RlState
from steps.rl.iteration import reinforce
from steps.workbench import Workbench

CONFIG = RlConfig(
    iterations=4,
    groups=2,
    oversampling=2.0,
    responses=2,
    max_response_tokens=12,
    token_budget=8,
    updates=1,
    learning_rate=1e-3,
    final_learning_rate=1e-3,
    keep_every=1,
)
PROBLEMS = [p for p in generate(NanoWorldConfig(train_problems=24), 0).train if p.domain == "arithmetic"]


class ByLetters(Scorer):
    """Judges a response by its letters alone, so that rewards differ and the policy moves."""

    def _score(self, problem: Problem, response: str) -> Score:
        return Score(float(hashlib.sha256(response.encode()).digest()[0] % 2), "", 0.0, "letters@1")


@dataclass
class Run:
    """RL that has ended."""

    state: RlState
    checkpoints: Checkpoints
    model: Path

    @property
    def made(self) -> dict[str, Any]:
        """What must not depend on where it began."""
        state = self.state.model_dump()
        state["history"] = [{k: v for k, v in one.items() if not k.endswith("_seconds")} for one in state["history"]]
        return {
            "state": state,
            "samples": {path.name: path.read_bytes() for path in self.checkpoints.samples.iterdir()},
            "weights": (self.model / "model.safetensors").read_bytes(),
        }

    def origin(self, done: int) -> Origin:
        return Origin(self.checkpoints.retained[done], self.checkpoints.samples)


@pytest.fixture(scope="module")
def bench(trainer: Trainer, engine: Engine, base: Path) -> Iterator[Workbench]:
    with ByLetters() as scorer:
        parts: Any = {"engine": engine, "trainer": trainer, "scorer": scorer, "context": engine.config.context}
        yield Workbench(base, **parts, seed=0)
    trainer.load_weights(base)


def run(
    bench: Workbench, folder: Path, origin: Origin | None = None, problems: list[Problem] = PROBLEMS, **settings: Any
) -> Run:
    bench.trainer.load_weights(bench.model)
    config = RlConfig.model_validate(CONFIG.model_dump() | settings)
    checkpoints = Checkpoints(folder, config.keep_every, origin)
    state = reinforce(bench, problems, {}, config, checkpoints)
    return Run(state, checkpoints, bench.trainer.save(folder.parent / f"{folder.name}-model"))


@pytest.fixture(scope="module")
def parent(bench: Workbench, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """An undisturbed run, of which each iteration is kept."""
    return run(bench, tmp_path_factory.mktemp("fork") / "parent")


def test_with_nothing_changed_it_ends_as_the_undisturbed_run_from_every_iteration(
    bench: Workbench, parent: Run, tmp_path: Path
) -> None:
    assert sorted(parent.checkpoints.retained) == [1, 2, 3, 4]
    assert parent.state.ledger and len({one.log_ratio_max for one in parent.state.history}) > 1, "nothing was trained"
    for done in (1, 3):
        forked = run(bench, tmp_path / f"fork-{done}", parent.origin(done))
        assert forked.made == parent.made
        assert sorted(forked.checkpoints.retained) == [*range(done + 1, 5)]
        for number, place in forked.checkpoints.retained.items():
            same = parent.checkpoints.retained[number] / "state.json"
            assert (place / "state.json").read_bytes() == same.read_bytes(), "what a fork of it has in its key"


def test_which_iterations_are_kept_changes_nothing_else(bench: Workbench, parent: Run, tmp_path: Path) -> None:
    every_third = run(bench, tmp_path / "third", keep_every=3)
    assert sorted(every_third.checkpoints.retained) == [3]
    assert every_third.made == parent.made


def test_a_loss_that_is_not_finite_is_tried_again_from_where_it_continued(
    bench: Workbench, parent: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_on, failures = iteration.train_on, iter([True])

    def failing(*arguments: Any) -> Any:
        if next(failures, False):
            raise LossNotFinite("the loss of micro-batch 1 of 1 is nan")
        return train_on(*arguments)

    monkeypatch.setattr(iteration, "train_on", failing)
    assert run(bench, tmp_path / "fork", parent.origin(2)).made == parent.made


def test_with_other_settings_it_differs_from_there_on(bench: Workbench, parent: Run, tmp_path: Path) -> None:
    changed = run(bench, tmp_path / "fork", parent.origin(2), iterations=6, learning_rate=3e-3)
    samples = [one.made["samples"] for one in (parent, changed)]
    first = ["000000.parquet", "000001.parquet", "000002.parquet"]
    assert [samples[1][name] for name in first] == [samples[0][name] for name in first]
    assert len(changed.state.history) == 6
    assert changed.made["weights"] != parent.made["weights"]


def test_problems_may_come_and_go_and_what_was_under_way_for_others_is_dropped(
    bench: Workbench, parent: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(iteration, "say", said.append)
    under_way = RlState.model_validate_json(
        (parent.checkpoints.retained[1] / "state.json").read_text()[:-1] + ', "history": []}'
    ).groups
    gone, *stay = (group.problem.id for group in under_way)
    changed = [p.model_copy(update={"answer": "0"}) if p.id == stay[0] else p for p in PROBLEMS if p.id != gone]
    new = [p.model_copy(update={"id": f"new-{p.id}"}) for p in PROBLEMS]
    forked = run(bench, tmp_path / "fork", parent.origin(1), [*changed, *new], iterations=5)
    assert any(f"2 of {len(under_way)} groups of unfinished responses are dropped" in text for text in said)
    later = {entry.problem_id for entry in forked.state.ledger if entry.ended > 0}
    assert gone not in later and any(problem.startswith("new-") for problem in later)
    assert set(forked.state.sampler.success) == {p.id for p in [*changed, *new]}


def test_responses_that_are_too_long_for_a_lower_limit_are_dropped(
    bench: Workbench, parent: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(iteration, "say", said.append)
    forked = run(bench, tmp_path / "fork", parent.origin(1), max_response_tokens=6)
    assert any("responses are longer than rl.max_response_tokens 6" in text for text in said)
    assert all(one.length <= 6 for group in forked.state.groups for one in group.trajectories)


def test_one_that_is_cut_off_resumes_from_its_own_checkpoints(
    bench: Workbench, parent: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_on = iteration.train_on

    def cut_off(bench: Workbench, groups: Any, config: RlConfig, now: int) -> Any:
        if now == 2:
            raise KeyboardInterrupt
        return train_on(bench, groups, config, now)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(iteration, "train_on", cut_off)
        run(bench, tmp_path / "fork", parent.origin(1))
    assert (tmp_path / "fork" / "000002").is_dir()
    assert run(bench, tmp_path / "fork", parent.origin(1)).made == parent.made
