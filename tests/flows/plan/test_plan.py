"""The plan: which stages would run, which would be reused, and why."""

import json
import shutil
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import boto3
import pytest

from flows.chain import DataChanged
from flows.topology import STAGES, inputs_of
from infra.errors import LonghaulError
from infra.lineage.index import LineageIndex
from infra.stages.code_digest import ReachedCode
from infra.stages.contract import StageContext, StageOutput
from infra.store import records
from infra.store.records import DefinitionsRecord, Failure, StageRecord
from infra.store.store import StoreError
from tests.flows.made_up_chain import SECONDS, chain, finish
from tests.flows.plan.planned import EVALUATIONS, RL_AND_AFTER, plan, runs
from tests.infra.store.store_common import s3_place


def test_nothing_runs_again_where_nothing_changed(store: Path) -> None:
    planned = plan(chain(store))
    assert runs(planned) == []
    assert {one.reason for one in planned.values()} == {"same key as in run run-1"}
    assert "reward_models" not in planned


def test_stages_that_the_recipe_does_not_have_are_passed_through(store: Path) -> None:
    made = chain(store)
    absent = [stage for stage, spec in STAGES.items() if not spec.enabled(made.recipe)]
    assert len(absent) >= 2
    assert [made.run(stage, {}) for stage in absent] == [None] * len(absent)


def test_a_first_run_runs_all(tmp_path: Path, store: Path) -> None:
    planned = plan(chain(tmp_path / "another"))
    assert len(runs(planned)) == len(STAGES) - 2
    assert {one.reason for one in planned.values()} == {"never run before"}
    assert planned["rl"].seconds is None


def test_a_changed_key_is_named_with_both_values_and_what_follows_runs(store: Path) -> None:
    planned = plan(chain(store, "rl.tau=0.25"))
    assert runs(planned) == RL_AND_AFTER
    assert planned["rl"].reason == "rl.tau changed: 0.1 → 0.25"
    assert planned["long2short/dpo"].reason == "may be reused from run run-1 if rl comes out the same"
    assert planned["rl"].seconds == SECONDS


def test_a_key_of_a_shared_section_is_named_as_in_the_recipe(store: Path) -> None:
    planned = plan(chain(store, "trainer.weight_decay=0.1"))
    assert planned["vanilla_sft"].reason == "trainer.weight_decay changed: 0.0 → 0.1"
    assert planned["rl"].reason == "trainer.weight_decay changed: 0.0 → 0.1; long_cot_sft runs; curation runs"


def test_one_branch_alone_runs(store: Path) -> None:
    assert runs(plan(chain(store, "long2short.dpo.beta=0.3"))) == ["long2short/dpo", "evaluate/long2short/dpo"]


def test_a_context_that_the_checkpoint_does_not_have_is_refused_by_the_plan(store: Path) -> None:
    with pytest.raises(LonghaulError, match=r"engine\.context is 513, .*positions for 512 tokens"):
        plan(chain(store, "engine.context=513"))
    plan(chain(store, "engine.context=513", "import_checkpoint.context_length=513"))


def test_a_context_that_the_scaled_positions_do_not_reach_is_refused_by_the_plan(store: Path, tmp_path: Path) -> None:
    other = tmp_path / "base"
    shutil.copytree("steps/nano_world/checkpoint", other)
    config = json.loads((other / "config.json").read_text())
    config["rope_parameters"] = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512}
    (other / "config.json").write_text(json.dumps(config))
    base = f"import_checkpoint.checkpoint={other}"
    with pytest.raises(LonghaulError, match=r"context_length 2049 is above the 2048 tokens that its yarn RoPE"):
        plan(chain(store, base, "import_checkpoint.context_length=2049"))
    plan(chain(store, base, "import_checkpoint.context_length=2048"))
    with pytest.raises(LonghaulError, match="context_length 511 is below the checkpoint's 512"):
        plan(chain(store, base, "engine.context=500", "import_checkpoint.context_length=511"))


def test_heads_that_ranks_cannot_share_are_refused_by_the_plan(store: Path) -> None:
    with pytest.raises(LonghaulError, match=r"trainer\.sequence_parallel is 3, .* 4 for queries and 2 for keys"):
        plan(chain(store, "trainer.ranks=3", "trainer.sequence_parallel=3"))
    plan(chain(store, "trainer.ranks=2", "trainer.sequence_parallel=2"))


def test_images_for_a_model_of_text_are_refused_by_the_plan_naming_the_first(store: Path, tmp_path: Path) -> None:
    sizes = "train_problems: 8, test_problems: 8, sft_examples: 8, long_cot_paths: 8"
    vision = f"data.nano_world.vision={{{sizes}}}"
    with pytest.raises(LonghaulError, match=r"data\.nano_world\.vision has an image, .* reads text alone"):
        plan(chain(store, vision))
    rows = [{"problem": "1 + 1?", "answer": "2"}, {"problem": "<image>?", "images": ["a.png"], "answer": "2"}]
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    one = f"[{{path: {path}, format: easyr1}}]"
    with pytest.raises(LonghaulError, match=rf"{path}:2 has an image"):
        plan(
            chain(
                store, f"data={{sources: {{train: {one}, test: {one}}}}}", "long_cot_paths={max_response_tokens: 256}"
            )
        )

    sees = tmp_path / "sees"
    shutil.copytree("steps/nano_world/checkpoint", sees)
    config = json.loads((sees / "config.json").read_text())
    seeing, blind = "Qwen2_5_VLForConditionalGeneration", "Gemma3ForConditionalGeneration"
    for name in (seeing, blind):  # the second one is imported as a language model
        (sees / "config.json").write_text(
            json.dumps({"architectures": [name], "vision_config": {}, "text_config": config})
        )
        with nullcontext() if name == seeing else pytest.raises(LonghaulError, match="reads text alone"):
            plan(chain(store, vision, f"import_checkpoint.checkpoint={sees}"))


def test_what_is_not_done_with_a_model_that_reads_images_is_refused_by_the_plan(store: Path) -> None:
    vision = "import_checkpoint.checkpoint=steps/nano_world/vision_checkpoint"
    with pytest.raises(LonghaulError, match=r"trainer\.sequence_parallel is 2, .* set it to 1"):
        plan(chain(store, vision, "trainer.ranks=2", "trainer.sequence_parallel=2"))
    phase = "{sequence_length: 384, tokens_per_step: 2048, learning_rate: 1.0e-3, final_learning_rate: 5.0e-5}"
    judges = f"reward_models={{classic: {{phase: {phase}}}, cot: {{phase: {phase}}}}}"
    with pytest.raises(LonghaulError, match=r"classic reward model is not made of .* set rl\.reward to rules"):
        plan(chain(store, vision, judges))
    plan(chain(store, vision, "long2short.dpo.freeze=vision"))
    with pytest.raises(
        LonghaulError, match=r"long2short\.dpo\.freeze is vision, .* reads text alone: take the key out"
    ):
        plan(chain(store, "long2short.dpo.freeze=vision"))


def test_tasks_in_long_texts_run_the_evaluations_that_are_named_and_nothing_else(store: Path) -> None:
    context = "evaluation.context={lengths: [400], max_response_tokens: 64, stages: [rl, long2short/dpo]}"
    assert runs(plan(chain(store, context))) == ["evaluate/rl", "evaluate/long2short/dpo"]


def test_the_seed_and_data_from_outside_are_reasons(store: Path, tmp_path: Path) -> None:
    planned = plan(chain(store, "seed=7"))
    assert planned["data"].reason == "seed changed: 0 → 7"
    other = tmp_path / "base"
    shutil.copytree("steps/nano_world/checkpoint", other)
    finish(chain(store, f"import_checkpoint.checkpoint={other}", run="run-2"), tmp_path / "made")
    (other / "config.json").write_text((other / "config.json").read_text() + " ")
    planned = plan(chain(store, f"import_checkpoint.checkpoint={other}"))
    assert planned["import"].reason == "import_checkpoint.checkpoint changed"
    assert planned["data"].action == "reuse"


def test_a_changed_object_is_named_and_one_that_is_absent_with_its_key(store: Path, s3: None) -> None:
    place = s3_place("planned")
    bucket, _, key = place.removeprefix("s3://").partition("/")
    client = boto3.client("s3")
    for name in ("train", "test", "sft", "long_cot"):
        client.put_object(Bucket=bucket, Key=f"{key}/{name}.jsonl", Body=b"before")
    sources = {name: [{"path": f"{place}/{name}.jsonl"}] for name in ("train", "test", "sft", "long_cot")}
    from_s3 = [f"data={json.dumps({'sources': sources})}"]
    planned = plan(chain(store, *from_s3))
    assert "data.sources.train.0 is new" in planned["data"].reason
    assert "nothing → nothing" not in planned["data"].reason
    finish(chain(store, *from_s3, run="run-2"), store.parent / "made")
    assert runs(plan(chain(store, *from_s3))) == []
    client.put_object(Bucket=bucket, Key=f"{key}/sft.jsonl", Body=b"after!")
    assert plan(chain(store, *from_s3))["data"].reason == "data.sources.sft.0 changed"
    client.delete_object(Bucket=bucket, Key=f"{key}/sft.jsonl")
    with pytest.raises(StoreError, match=rf"data\.sources\.sft\.0\.path: {place}/sft.jsonl: there is nothing at this"):
        plan(chain(store, *from_s3))


def test_data_that_change_while_they_are_read_are_never_recorded_as_what_they_were(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {name: tmp_path / f"{name}.jsonl" for name in ("train", "test", "sft", "long_cot")}
    for file in files.values():
        file.write_text("before")
    sources = {name: [{"path": str(file)}] for name, file in files.items()}
    made = chain(store, f"data={json.dumps({'sources': sources})}")

    def body(context: StageContext, settings: object) -> StageOutput:
        output = context.folder / "data"
        output.mkdir()
        shutil.copy(files["sft"], output)
        if files["sft"].read_text() == "before":
            files["sft"].write_text("after, and longer")
        return StageOutput({"data": ("dataset", output)}, {})

    monkeypatch.setattr("steps.stages.data.run", body)
    with pytest.raises(DataChanged, match=r"sft\.jsonl changed while it was read"):
        made.run("data", {})
    record = made.run("data", {})
    assert record is not None
    read = made.store.fetch(record.outputs["data"]) / "sft.jsonl"
    assert read.read_text() == "after, and longer"


def test_a_changed_module_is_named(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import infra.stages.key

    reached_code = infra.stages.key.reached_code

    def changed(module: str) -> ReachedCode:
        actual = reached_code(module)
        digests = {name: "0" * 64 if name == "steps.rl.objective" else one for name, one in actual.digests.items()}
        return replace(actual, digests=digests)

    monkeypatch.setattr(infra.stages.key, "reached_code", changed)
    planned = plan(chain(store))
    assert set(runs(planned)) == set(RL_AND_AFTER)
    assert planned["rl"].reason == "steps.rl.objective changed"


def test_the_nearest_earlier_run_gives_the_reason(store: Path, tmp_path: Path) -> None:
    finish(chain(store, "rl.tau=0.5", "rl.groups=8", run="run-2"), tmp_path / "made")
    assert plan(chain(store, "rl.tau=0.25"))["rl"].reason == "rl.tau changed: 0.1 → 0.25"
    assert plan(chain(store, "rl.tau=0.5"))["rl"].reason == "rl.groups changed: 8 → 6"


def test_outputs_that_are_gone_or_damaged_run_again_and_say_so(store: Path) -> None:
    made = chain(store)
    record = next(r for r in records.read(made.store, StageRecord, "stages") if r.stage == "long_cot_sft")
    content = Path(record.outputs["model"].address) / "content.json"
    content.chmod(0o644)
    content.write_bytes(b"?" * content.stat().st_size)
    assert plan(made)["long_cot_sft"].action == "reuse"
    actual = plan(made, read=True)["long_cot_sft"]
    assert actual.action == "run"
    assert "outputs of run run-1 cannot be reused" in actual.reason and "content.json" in actual.reason
    shutil.rmtree(content.parent.parent)
    assert "has no folder" in plan(made)["long_cot_sft"].reason


def test_a_key_that_two_stages_claim_is_refused(store: Path) -> None:
    made = chain(store)
    record = next(r for r in records.read(made.store, StageRecord, "stages") if r.stage == "rl")
    records.write(made.store, f"stages/{record.key}", record.model_copy(update={"stage": "curation"}))
    from infra.stages.reuse import KeyClaimed

    with pytest.raises(KeyClaimed, match="claimed by two stages, 'rl' and 'curation'"):
        plan(made)


def test_every_stage_stands_after_what_it_depends_on(tmp_path: Path) -> None:
    paths = "long_cot_paths={max_response_tokens: 96}"
    made = chain(tmp_path, paths, "reward_models={}", "rl.reward=cot_rm", "long2short.rl.reward=classic_rm")
    order = list(STAGES)
    for name in STAGES:
        assert all(order.index(each.stage) < order.index(name) for each in inputs_of(made.recipe, name).values())
    assert STAGES["rl"].inputs(made.recipe)["cot_rm"].stage == "reward_models"
    assert STAGES["long_cot_sft"].inputs(made.recipe)["paths"].stage == "long_cot_paths"


def test_what_failed_with_the_same_key_is_named(store: Path) -> None:
    made = chain(store, "rl.tau=0.25", run="run-2")
    before = plan(made)["rl"]
    earlier = next(r for r in records.read(made.store, StageRecord, "stages") if r.stage == "rl")
    changed = made.parts("rl", {one.stage: one.record for one in plan(made).values() if one.record})
    failure = Failure(error="LossNotFinite: the loss is nan\nand more")
    failed = earlier.model_copy(update={"key": changed.key, "run": "run-2", "failure": failure})
    records.write(made.store, "stage-runs/run-2", failed)
    reported = plan(made)["rl"].reason
    assert reported == f"failed in run run-2: LossNotFinite: the loss is nan; {before.reason}"
    index = LineageIndex.of(made.store, store / "home")
    index.sync(made.store)
    actual = index.last_failure(before.key)
    assert actual is not None and actual.run == "run-2"
    assert index.last_failure(earlier.key) is None


def test_more_evaluation_samples_retrain_nothing(store: Path) -> None:
    planned = plan(chain(store, "evaluation.samples=3"))
    assert runs(planned) == EVALUATIONS
    assert planned["evaluate/rl"].reason == "evaluation.samples changed: 2 → 3"


def test_what_follows_a_stage_that_made_the_same_bytes_is_reused(store: Path, tmp_path: Path) -> None:
    finish(chain(store, "vanilla_sft.expansion.samples=3", run="run-2"), tmp_path / "made", same=["vanilla_sft"])
    finish(chain(store, "vanilla_sft.expansion.samples=4", run="run-3"), tmp_path / "made", same=["vanilla_sft"])
    made = chain(store, "vanilla_sft.expansion.samples=5")
    planned = plan(made)
    assert planned["curation"].may_reuse is not None
    assert planned["curation"].plain()["may_be_reused_from"] == "run-3"
    task = made.task("vanilla_sft", {one.stage: one.record for one in planned.values() if one.record})
    earlier = next(
        record
        for record in records.read(made.store, StageRecord, "stages")
        if record.stage == "vanilla_sft" and record.run == "run-3"
    )
    again = earlier.model_copy(update={"key": task.parts.key, "run": "run-4", "config": task.parts.config})
    records.write(made.store, f"stages/{again.key}", again)
    assert runs(plan(made)) == [], "the model came out the same: nothing after it runs"


def test_a_change_of_the_rules_of_keys_is_one_reason_and_not_a_list_of_modules(store: Path) -> None:
    made = chain(store)
    for record in list(records.read(made.store, StageRecord, "stages")):
        old = record.model_copy(update={"key_format": 1, "modules": {}, "upstream": {"model": record.key}})
        records.write(made.store, f"stages/old-{record.key}", old)
        shutil.rmtree(store / "records" / "stages" / record.key)
    planned = plan(made)
    assert {one.reason.partition(";")[0] for one in planned.values()} == {
        "stage keys are made by other rules now (format 1 → 2)"
    }


def test_a_changed_function_is_named(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = chain(store)
    record = next(r for r in records.read(made.store, StageRecord, "stages") if r.stage == "rl")
    name = f"definitions/{record.definitions}"
    before = next(records.read(made.store, DefinitionsRecord, name))
    before.modules["steps.rl.objective"] = {**before.modules["steps.rl.objective"], "surrogate_loss": "0", "_GONE": "0"}
    modules = {**record.modules, "steps.rl.objective": "0" * 64}
    shutil.rmtree(store / "records" / "stages" / record.key)
    records.write(made.store, name, before)
    records.write(made.store, "stages/other", record.model_copy(update={"modules": modules, "key": "other"}))
    reason = plan(made)["rl"].reason
    assert reason.startswith("steps.rl.objective changed (") and "_GONE" in reason
