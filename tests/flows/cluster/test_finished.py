"""Which steps of a workflow get a pod: what the first step, on a node without GPUs, says of the others."""

import shutil
from pathlib import Path

import pytest

from flows.chain import Chain, StageMissing
from flows.cluster.finished import reuse_finished, write_steps_to_run
from flows.cluster.pool_environments import environments_of, leave_environment
from flows.evaluation import evaluated_in, reuse_evaluation
from flows.topology import STEPS, enabled_stages
from infra.store import records
from infra.store.records import StageRecord
from tests.flows.made_up_chain import chain, finish

GPU_NODE = {"processor": "x86_64", "gpus": "NVIDIA H100 80GB HBM3", "threads": "one for each core"}
ON_GPUS = ("cluster={default: {pool: train, gpus: 8}, stages: {data: {pool: cpu, gpus: 0}}}",)
MODELS_BEFORE_RL = {"import", "vanilla_sft", "long_cot_sft"}
RULE = "{RL prompts: [{type: expect_table_row_count_to_be_between, kwargs: {min_value: 1}}]}"
FROM_RL = {"rl", "long2short/merge", "long2short/shortest", "long2short/dpo", "long2short/rl"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of a chain that ran on GPU nodes; this process has none."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        for module in ("infra.stages.key", "flows.cluster.pool_environments"):
            patch.setattr(f"{module}.numeric_environment", lambda variables: GPU_NODE)
        made = chain(folder / "store", *ON_GPUS)
        finish(made, folder / "made")
        leave_environment(made.store, made.recipe, "rl")
        leave_environment(made.store, made.recipe, "vanilla_sft")
    assert environments_of(made.store, made.recipe, "dpo") == [GPU_NODE], "all stages of a pool share what was seen"
    return folder / "store"


@pytest.fixture
def store(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "store"))


def steps_to_run(made: Chain) -> set[str]:
    """The stages whose steps get a pod, after the first step."""
    return reuse_finished(made, made.run_step("data", {}))[1]


def test_a_chain_that_is_finished_gets_no_node_with_gpus(store: Path) -> None:
    again = chain(store, *ON_GPUS, run="run-2")
    assert steps_to_run(again) == set()
    reused = {one.stage: one for one in records.read(again.store, StageRecord, "stage-runs/run-2")}
    assert reused.keys() == set(enabled_stages(again.recipe))
    assert {one.reused_from for one in reused.values()} == {"run-1"}
    assert not any(one.reused_despite for one in reused.values()), "it was made on such nodes"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (("long2short.dpo.beta=0.3",), {"long2short/dpo"}),
        (("rl.tau=0.25",), FROM_RL),
        (("evaluation.samples=3",), MODELS_BEFORE_RL | FROM_RL),
        ((f"gates.suites={{rl: {RULE}}}",), {"rl"}),
        (("reward_models={}", "engine.context=512"), {"reward_models"}),
    ],
)
def test_only_what_changed_and_what_depends_on_it_gets_a_pod(
    settings: tuple[str, ...], expected: set[str], store: Path
) -> None:
    assert steps_to_run(chain(store, *ON_GPUS, *settings, run="run-2")) == expected


def test_what_was_made_on_other_nodes_than_the_pool_has_runs_again(store: Path) -> None:
    moved = "cluster={default: {pool: rollout, gpus: 8}, stages: {data: {pool: cpu, gpus: 0}}}"
    unseen = chain(store, moved, run="run-2")
    with_tensors = {step for step in STEPS[1:] if step not in ("long_cot_paths", "reward_models")}
    assert steps_to_run(unseen) == with_tensors, "no node of the pool was seen: each pod decides for itself"
    leave_environment(unseen.store, unseen.recipe, "rl")  # this machine's, which has no GPU
    assert steps_to_run(chain(store, moved, run="run-3")) == with_tensors
    assert steps_to_run(chain(store, moved, "reuse_across_environments=true", run="run-4")) == set()


@pytest.mark.parametrize(
    ("selection", "settings", "expected"),
    [
        ({"force": True, "only": "rl"}, (), {"rl"}),
        ({"until": "curation"}, ("rl.tau=0.25",), set()),
        ({"start": "rl"}, ("rl.tau=0.25",), FROM_RL),
        ({"only": "long2short/dpo", "reuse": "run-1"}, ("long2short.dpo.beta=0.3",), {"long2short/dpo"}),
        # What stands between the two is looked for once the first has made its outputs.
        ({"selectors": ("curation rl",)}, ("curation.samples=3",), {"curation", "long_cot_sft", "rl"}),
    ],
)
def test_a_selection_is_honoured(
    selection: dict[str, object], settings: tuple[str, ...], expected: set[str], store: Path
) -> None:
    assert steps_to_run(chain(store, *ON_GPUS, *settings, run="run-2", **selection)) == expected


def test_a_stage_that_is_needed_and_missing_is_named_before_any_node_starts(store: Path) -> None:
    with pytest.raises(StageMissing, match="stage 'vanilla_sft' is needed, is not among those to run"):
        steps_to_run(chain(store, *ON_GPUS, "vanilla_sft.expansion.samples=3", run="run-2", start="rl"))


def test_argo_finds_a_file_for_each_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.cluster.finished.OUTPUTS", tmp_path)
    write_steps_to_run(["rl", "short-rl"], ["short-rl"])
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"run-rl": "false", "run-short-rl": "true"}


def test_an_evaluation_that_is_there_gets_no_node_with_gpus(store: Path) -> None:
    recipe = chain(store, *ON_GPUS).recipe
    assert reuse_evaluation(recipe, "evaluation-1", "", ["evaluate"])
    evaluated = evaluated_in(chain(store).store, "evaluation-1")
    assert evaluated is not None and (evaluated.stage, evaluated.run) == ("long2short/rl", "run-1")
    assert evaluated.record.reused_from == "run-1" and evaluated.record.evaluation is not None
    changed = chain(store, *ON_GPUS, "evaluation.samples=3").recipe
    assert not reuse_evaluation(changed, "evaluation-2", "", ["evaluate"])
    assert evaluated_in(chain(store).store, "evaluation-2") is None
