"""What the bench opens, in which order, and what it closes."""

from pathlib import Path
from typing import Any

import pytest

from infra.configs import EngineConfig, HandoverConfig, HandoverRefused, TrainerConfig
from steps.rewards.scorer import Scorer
from steps.workbench import Workbench, open_workbench
from tests.steps.scripted import CONTEXT, RecordingTrainer, ScriptedEngine, scripted_bench


class Parts:
    """Opens parts for a bench, and remembers which were opened."""

    def __init__(self, model: Path) -> None:
        self.opened: list[str] = []
        with scripted_bench(model, lambda prompt, turn: "") as (_, engine, trainer):
            self.parts: dict[str, Any] = {"engine": engine, "trainer": trainer, "scorer": Scorer()}

    def open(self, name: str) -> Any:
        self.opened.append(name)
        return self.parts[name]

    def bench(self, model: Path, **settings: Any) -> Workbench:
        functions: Any = {name: lambda name=name: self.open(name) for name in self.parts}
        return Workbench(model, **functions, context=CONTEXT, seed=0, **settings)


@pytest.fixture
def parts(base: Path) -> Any:
    parts = Parts(base)
    yield parts
    parts.parts["scorer"].close()


def test_a_part_that_is_not_used_is_never_opened(parts: Parts, base: Path) -> None:
    with parts.bench(base) as bench:
        assert parts.opened == []
        bench.engine, bench.engine  # noqa: B018
    assert parts.opened == ["engine"]
    assert parts.parts["engine"].closed and not parts.parts["trainer"].closed


def test_the_trainer_is_opened_before_the_engine_for_a_hand_over(parts: Parts, base: Path) -> None:
    with parts.bench(base) as bench:
        bench.hand_over()
    assert parts.opened == ["trainer", "engine"]
    assert parts.parts["engine"].closed and parts.parts["trainer"].closed


def test_a_part_that_is_handed_in_ready_is_not_closed(base: Path) -> None:
    with scripted_bench(base, lambda prompt, turn: "") as (bench, engine, trainer):
        assert isinstance(bench.engine, ScriptedEngine) and isinstance(bench.trainer, RecordingTrainer)
    assert not engine.closed and not trainer.closed


def test_opened_parts_are_closed_when_the_stage_fails(parts: Parts, base: Path) -> None:
    with pytest.raises(ZeroDivisionError), parts.bench(base) as bench:
        bench.hand_over()
        raise ZeroDivisionError
    assert parts.parts["engine"].closed and parts.parts["trainer"].closed


def test_completions_come_in_the_order_of_the_prompts_with_seeds_of_their_own(base: Path) -> None:
    with scripted_bench(base, lambda prompt, turn: f"{'first' in prompt} {turn}", seed=3) as (
        bench,
        engine,
        _,
    ):
        prompts = [bench.chat.read("the first"), bench.chat.read("the second")]
        rows = bench.sample(prompts, samples=2, max_tokens=20, temperature=0.5, name="some")
        again = bench.sample(prompts, samples=2, max_tokens=20, temperature=0.5, name="some")
    assert [[bench.chat.text(one.tokens) for one in row] for row in rows] == [
        ["True 0", "True 1"],
        ["False 0", "False 1"],
    ]
    assert again == rows
    seeds = [request.seed for request in engine.requests]
    assert len(set(seeds[:4])) == 4 and seeds[:4] == seeds[4:]
    assert {(request.max_tokens, request.temperature) for request in engine.requests} == {(20, 0.5)}


def test_a_hand_over_that_the_machine_cannot_do_is_refused_before_anything_starts(base: Path) -> None:
    engine = EngineConfig(tensor_parallel=64)
    with pytest.raises(HandoverRefused, match=r"engine\.tensor_parallel is 64"):
        open_workbench(base, engine=engine, trainer=TrainerConfig(), seed=0, handover=HandoverConfig())
