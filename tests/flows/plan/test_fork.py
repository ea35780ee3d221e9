"""`--fork RUN:STAGE@N`: what would run, from where it would continue, and what is refused."""

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

import flows.chain
from flows.forks import ForkRefused, find_fork, parse_fork
from flows.models import ModelNotFound
from flows.selection import SelectionRefused
from infra.store import records
from infra.store.records import ITERATION, ForkPoint, StageRecord
from infra.store.store import object_prefix
from tests.flows.made_up_chain import chain, finish
from tests.flows.plan.planned import plan, runs

MORE = "rl.iterations=9"
OTHER_BASE = "long_cot_sft.paths=61"


def keep(
    store: Path, run: str, stage: str = "rl", numbers: Iterable[int] = (2, 4), seconds: float = 1.0
) -> StageRecord:
    """Let a finished stage have kept iterations; all its runs keep the same states, and other metrics."""
    made, folder = chain(store, run=run), store.parent / "kept" / run / stage
    (record,) = (r for r in records.read(made.store, StageRecord, f"stage-runs/{run}") if r.stage == stage)
    for iteration in range(5):
        (folder / "samples").mkdir(parents=True, exist_ok=True)
        (folder / "samples" / f"{iteration:06d}.parquet").write_text(f"{stage} {iteration}")
    iterations = {}
    for number in numbers:
        place = folder / str(number)
        (place / "model").mkdir(parents=True, exist_ok=True)
        (place / "model" / "config.json").write_text(f"{stage} {number}")
        (place / "state.json").write_text(json.dumps({"next_iteration": number}))
        (place / "history.json").write_text(json.dumps({"seconds": seconds}))
        iterations[number] = made.store.put(place, ITERATION)
    outputs = record.outputs | {"samples": made.store.put(folder / "samples", "samples")}
    changed = record.model_copy(update={"outputs": outputs, "iterations": iterations})
    records.write(made.store, f"stage-runs/{run}", changed)
    records.write(made.store, f"stages/{record.key}", changed)
    return changed


@pytest.fixture
def retained(store: Path) -> StageRecord:
    """The record of `rl` in run-1, which kept two iterations."""
    return keep(store, "run-1")


@pytest.fixture(scope="module")
def with_other_base(finished: Path) -> Path:
    """A store for tests that run nothing in it: besides run-1 it has run-2, with another base."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flows.chain, "HOME", finished.parent / "home")
        keep(finished, "run-1")
        finish(chain(finished, OTHER_BASE, run="run-2"), finished.parent / "made")
    return finished


@pytest.fixture
def shared(with_other_base: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same store, for one test."""
    monkeypatch.setattr(flows.chain, "HOME", with_other_base.parent / "home")
    return with_other_base


def test_a_fork_runs_its_stage_and_says_from_where_and_with_what_changed(shared: Path) -> None:
    planned = plan(chain(shared, MORE, "rl.tau=0.25", only="rl", fork="run-1:rl@4"))
    assert runs(planned) == ["rl", "evaluate/rl"]
    assert planned["rl"].reason == "continues from run-1:rl@4; rl.iterations changed: 2 → 9; rl.tau changed: 0.1 → 0.25"
    assert planned["rl"].plain()["forked_from"] == "run-1:rl@4"
    assert planned["long_cot_sft"].plain()["forked_from"] is None
    assert plan(chain(shared))["rl"].action == "reuse", "without it nothing is changed"


def test_what_continues_from_another_iteration_has_another_key_and_metrics_do_not_count(
    store: Path, retained: StageRecord
) -> None:
    keys = {name: plan(chain(store, MORE, only="rl", fork=name))["rl"].key for name in ("run-1:rl@2", "run-1:rl@4")}
    assert len({*keys.values(), plan(chain(store, MORE, only="rl"))["rl"].key}) == 3
    finish(chain(store, run="run-2"), store.parent / "made")
    again = keep(store, "run-2", seconds=2.0)
    assert again.iterations[4].digest != retained.iterations[4].digest
    assert plan(chain(store, MORE, only="rl", fork="run-2:rl@4"))["rl"].key == keys["run-1:rl@4"]


def test_a_fork_reads_what_was_kept_and_a_second_one_is_reused(store: Path, retained: StageRecord) -> None:
    forked = chain(store, MORE, run="fork", start="rl", fork="run-1:rl@4")
    done = finish(forked, store.parent / "made")
    assert (
        done["rl"].inputs["fork"] == retained.iterations[4]
        and done["rl"].inputs["fork_samples"] == retained.outputs["samples"]
    )
    assert "fork" not in done["long2short/rl"].inputs
    again = plan(chain(store, MORE, run="again", start="rl", fork="run-1:rl@4"))
    assert {one.action for one in again.values()} == {"reuse"}
    assert again["rl"].reason == "same key as in run fork, which continues from run-1:rl@4"


def test_a_stage_of_which_a_fork_alone_is_near_says_that_it_began_elsewhere(store: Path, retained: StageRecord) -> None:
    settings = (MORE, "rl.tau=0.25", "rl.groups=5", "rl.responses=3")
    finish(chain(store, *settings, run="fork", start="rl", fork="run-1:rl@4"), store.parent / "made")
    assert plan(chain(store, *settings))["rl"].reason == "the iteration that it continues from changed"


def test_a_run_that_reused_the_stage_is_continued_where_it_was_kept(store: Path, retained: StageRecord) -> None:
    made = chain(store, run="later")
    made.runner.reuse(retained, made.task("rl", {r.stage: r for r in records.read(made.store, StageRecord, "stages")}))
    fork = find_fork(made.store, "later:rl@2")
    assert fork.point == ForkPoint(run="run-1", stage="rl", iteration=2)
    assert fork.inputs["fork"] == retained.iterations[2]


def test_an_iteration_that_was_not_kept_or_is_deleted_is_refused_with_those_that_are_there(
    store: Path, retained: StageRecord
) -> None:
    made = chain(store)
    with pytest.raises(ForkRefused, match="--fork run-1:rl@3: iteration 3 was not kept; there are 2, 4"):
        find_fork(made.store, "run-1:rl@3")
    shutil.rmtree(store / object_prefix(retained.iterations[4].digest))
    with pytest.raises(ForkRefused, match=r"iteration 4 was deleted by `longhaul store gc`; there are 2$"):
        find_fork(made.store, "run-1:rl@4")
    with pytest.raises(ForkRefused, match=r"none is there.*--only long2short/rl --force.*long2short\.rl\.keep_every"):
        find_fork(made.store, "run-1:long2short/rl@4")
    with pytest.raises(ModelNotFound, match="there is no run run-9; the newest is run-1"):
        find_fork(made.store, "run-9:rl@4")
    assert plan(made, read=True)["rl"].action == "reuse", "no stage runs again for an iteration that is gone"


def test_a_fork_of_a_fork_names_the_run_of_its_earlier_iterations(store: Path, retained: StageRecord) -> None:
    finish(chain(store, MORE, run="fork", start="rl", fork="run-1:rl@4"), store.parent / "made")
    made = chain(store)
    (record,) = (r for r in records.read(made.store, StageRecord, "stage-runs/fork") if r.stage == "rl")
    point = ForkPoint(run="run-1", stage="rl", iteration=4)
    records.write(made.store, "stage-runs/fork", record.model_copy(update={"forked_from": point}))
    with pytest.raises(ForkRefused, match="It continued from run-1:rl@4: name that run for what came before"):
        find_fork(made.store, "fork:rl@2")


@pytest.mark.parametrize(
    ("settings", "selection", "message"),
    [
        ((), {}, r"2 iterations are done there, and rl\.iterations is 2: raise it"),
        ((MORE, OTHER_BASE), {"reuse": "run-2"}, r"and now long_cot_sft's model is [0-9a-f]{12}: add"),
        (
            (MORE, OTHER_BASE, "seed=1"),
            {"start": "long_cot_sft", "only": None, "reuse": "run-1"},
            r"began with model [0-9a-f]{12} of long_cot_sft, and now long_cot_sft would run: add --reuse run-1",
        ),
    ],
)
def test_what_cannot_continue_is_refused_before_anything_runs(
    shared: Path, settings: tuple[str, ...], selection: dict[str, Any], message: str
) -> None:
    with pytest.raises(ForkRefused, match=message):
        plan(chain(shared, *settings, **{"only": "rl", "fork": "run-1:rl@2", **selection}))


def test_a_fork_of_a_stage_that_is_not_to_run_is_refused(shared: Path) -> None:
    with pytest.raises(SelectionRefused, match=r"rl is not among the stages to run \(--only long_cot_sft\)"):
        chain(shared, only="long_cot_sft", fork="run-1:rl@2")


@pytest.mark.parametrize(
    ("settings", "selection"),
    [((OTHER_BASE,), {"only": "rl"}), (("curation.samples=3",), {"selectors": ("curation rl",)})],
    ids=["another base in the recipe", "other problems"],
)
def test_with_the_model_of_its_run_it_continues_whatever_has_changed_before_it(
    shared: Path, settings: tuple[str, ...], selection: dict[str, Any]
) -> None:
    planned = plan(chain(shared, MORE, *settings, fork="run-1:rl@2", reuse="run-1", **selection))
    assert planned["rl"].reason.startswith("continues from run-1:rl@2") and planned["rl"].action == "run"
    assert planned["long_cot_sft"].action == "reuse"


@pytest.mark.parametrize("name", ["rl@4", "run-1:rl", "run-1:rl@-1", "run-1:rl@4@5", "../x:rl@4", "run-1:rl@four"])
def test_a_name_that_is_not_an_iterations_is_refused(name: str) -> None:
    with pytest.raises(ForkRefused, match="is not RUN:STAGE@N, as in"):
        parse_fork(name)
    with pytest.raises(ForkRefused, match="curation has no iterations; rl and long2short/rl have"):
        parse_fork("run-1:curation@4")
