"""Which nodes stages get, and what is refused before anything is compiled."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.cluster.multi_node_steps import STEPS_ON_NODES
from flows.cluster.plan import TURNS, CannotDeploy, for_evaluation, nodes_of, pool_turns, shipped_files
from flows.topology import STAGES, STEPS, enabled_stages
from steps.recipe import check_recipe, load_recipe
from tests.flows.cluster.deployments import FOUR_NODES, ON_CLUSTER, ROOT, recipe_with, run_deploy

README = "[{path: README.md}]"
FILES = f"data={{sources: {{train: {README}, test: {README}, sft: {README}, long_cot: {README}}}}}"
DATA_CHANGE = "schedule={when: data-changed}"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ((), "store is .longhaul/store, which pods do not share"),
        (("store=s3://b/p",), "cluster.sandbox is not set"),
        ((*ON_CLUSTER, "cluster.stages.sft={gpus: 1}"), "there is no stage 'sft'"),
        ((*ON_CLUSTER, "cluster.stages.data.gpus=1"), "cluster.stages.data.gpus is 1, its own or the default's"),
        ((*ON_CLUSTER, "cluster.secrets=[]"), "notify.webhook is LONGHAUL_WEBHOOK, an environment variable"),
        ((*ON_CLUSTER, "cluster.stages.rl={nodes: 1}", *FOUR_NODES), "rl has 1 nodes of 8 GPUs"),
        ((*ON_CLUSTER, *FOUR_NODES), "needs 3 nodes, and the pool train has 1 (cluster.pools.train)"),
        ((*ON_CLUSTER, "import_checkpoint.checkpoint=/etc"), "import_checkpoint.checkpoint is /etc, which no pod has"),
        ((*ON_CLUSTER, "cluster.environment={METAFLOW_USER: me}"), "METAFLOW_USER is set by the workflow itself"),
        ((*ON_CLUSTER, "cluster.stages.rl={efa: 4, gpus: 0}"), "efa needs gpus"),
        ((*ON_CLUSTER, FILES, DATA_CHANGE), "would start a workflow every ten minutes"),
        ((*ON_CLUSTER, "cluster.environment={X: 'http://localhost:1'}"), "has 'localhost'"),
    ],
)
def test_what_cannot_work_on_a_cluster_is_refused_with_its_key(settings: tuple[str, ...], expected: str) -> None:
    answer = run_deploy(*settings)
    assert answer.exit_code == 1
    assert expected in answer.output
    assert "Traceback" not in answer.output


def test_files_that_are_too_large_to_go_with_the_code_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("flows.cluster.plan.MOST_SHIPPED", 1000)
    for name in ("train", "test", "sft", "long_cot"):
        Path(f"{name}.jsonl").write_text("x" * 300)
    sources = {name: [{"path": f"{name}.jsonl"}] for name in ("train", "test", "sft", "long_cot")}
    raw = load_recipe(ROOT / "configs" / "smoke.yaml").model_dump(mode="json")
    recipe = check_recipe({**raw, "data": {"sources": sources}}, "test")
    with pytest.raises(CannotDeploy, match="put them into S3"):
        shipped_files(recipe)


@pytest.mark.parametrize(
    ("settings", "stage", "nodes"),
    [
        ((), "rl", 1),
        (FOUR_NODES, "rl", 4),
        (FOUR_NODES, "import", 3),
        (FOUR_NODES, "data", 1),
        ((*FOUR_NODES, "handover.share_device=true", "trainer.zero_stage=2"), "rl", 3),
        (("cluster.stages.rl={nodes: 2}",), "rl", 2),
    ],
)
def test_a_stage_fills_the_nodes_that_its_ranks_and_workers_need(
    settings: tuple[str, ...], stage: str, nodes: int
) -> None:
    assert nodes_of(recipe_with(*settings, size="medium"), stage) == nodes


def test_all_stages_of_the_chain_but_data_can_fill_several_nodes() -> None:
    recipe = recipe_with()
    assert set(STEPS_ON_NODES) == set(STEPS) - {"data"} and set(enabled_stages(recipe)) <= set(STAGES)


@pytest.mark.parametrize(
    ("settings", "workers"),
    [
        (FOUR_NODES, 8),
        ((*FOUR_NODES, "engine.tensor_parallel=4"), 2),
        (("engine.workers=3",), 3),
        ((*FOUR_NODES, "cluster.stages.evaluate={gpus: 0, efa: 0}"), 24),
    ],
)
def test_the_evaluation_takes_as_many_engines_as_one_node_holds(settings: tuple[str, ...], workers: int) -> None:
    fitted = for_evaluation(recipe_with(*settings, size="medium"))
    assert fitted.engine.workers == workers and nodes_of(fitted, "evaluate") == 1


@pytest.mark.parametrize("setting", ["cluster={stages: {evaluate: {nodes: 2}}}", "cluster={default: {nodes: 2}}"])
def test_an_evaluation_on_several_nodes_is_refused_and_the_way_out_is_one(setting: str) -> None:
    with pytest.raises(CannotDeploy, match=r"cluster\.stages\.evaluate\.nodes is 2, .*: set it to 1"):
        for_evaluation(recipe_with(setting, size=None))
    for_evaluation(recipe_with(setting, "cluster.stages={evaluate: {nodes: 1}}", size=None))


@st.composite
def shared_pools(draw: st.DrawFn) -> tuple[int, list[tuple[str, int]]]:
    """The nodes of a pool, and stages of recipes that would run there at the same time: names and nodes."""
    size = draw(st.integers(1, 80))
    stages = draw(st.lists(st.tuples(st.text("abcdef", min_size=1, max_size=3), st.integers(1, size)), max_size=12))
    return size, stages


@settings(deadline=None, max_examples=60)
@given(shared_pools())
def test_stages_that_share_a_pool_never_wait_for_one_another(shared: tuple[int, list[tuple[str, int]]]) -> None:
    """Nodes are given out one by one, to whichever stage wants one. It gets stuck where all nodes belong to stages that
    lack some."""
    size, stages = shared
    running: list[int] = []
    held: set[int] = set()
    for name, nodes in stages:
        pool = (
            f"cluster={{pools: {{train: {size}}}, default: {{pool: train}}, stages: {{curation: {{nodes: {nodes}}}}}}}"
        )
        turns = pool_turns(recipe_with(f"name={name}", pool, size=None), "curation")
        assert (nodes > 1) <= bool(turns), "several nodes, and no turn"
        if nodes > 1 and not held & set(turns):
            held |= set(turns)
            running.append(nodes)
    assert sum(nodes - 1 for nodes in running) < size, "each of them could lack one node for ever"


def test_large_pools_hold_several_recipes_at_a_time() -> None:
    pool = "cluster={pools: {train: 64}, default: {pool: train}, stages: {curation: {nodes: 16}}}"
    (turn,) = pool_turns(recipe_with(pool, size=None), "curation")
    assert turn in range(TURNS)
    assert len(pool_turns(recipe_with(pool.replace("16", "17"), size=None), "curation")) == TURNS
    wide = recipe_with("cluster={pools: {train: 64}, default: {pool: train, nodes: 4}}", size=None)
    branches = [stage for stage in STEPS if stage.startswith("long2short/")]
    assert len({turn for stage in branches for turn in pool_turns(wide, stage)}) == TURNS, "they run beside each other"
