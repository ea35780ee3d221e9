import json
from pathlib import Path
from typing import Any

import pytest

from infra.flatten import flatten
from infra.lineage.errors import LineageError
from infra.lineage.graph import Subgraph
from infra.lineage.histories import changes, differences, history
from infra.lineage.index import LineageIndex
from infra.lineage.queries import find_all, models_that_saw, reruns
from infra.store.open import open_store
from tests.infra.lineage.records import CHAIN, NO_MODEL, History, digest, ref, reused, stage_record, write_history

TRAIN, TEST = "data/train.jsonl", "data/test.jsonl"
UP_TO_CURATION = ("data", "import", "vanilla_sft", "curation")
MODEL_STAGES = [stage for stage in CHAIN if stage not in NO_MODEL]


@pytest.fixture
def index(tmp_path: Path) -> LineageIndex:
    """`first`; `second`, which has another learning rate from long-CoT SFT on; `third`, with another training file; and
    `other`, which read a file of its own."""
    made = History()
    first = made.add_run("first", sources={"data": {TRAIN: digest("train"), TEST: digest("test")}})
    reuse = reused(first, *UP_TO_CURATION)
    made.add_run("second", minutes=60, reuse=reuse, config={"own": {"learning_rate": 2e-4}}, metrics={"loss": 0.4})
    made.add_run("third", minutes=120, sources={"data": {TRAIN: digest("train 2"), TEST: digest("test")}}, seed=1)
    made.add_run("other", minutes=180, sources={"import": {"base": digest("base")}})
    write_history(tmp_path / "store", made.records)
    index = LineageIndex.of(open_store(tmp_path / "store"), tmp_path)
    index.sync(open_store(tmp_path / "store"))
    return index


def model_of(index: LineageIndex, run: str, stage: str) -> str:
    return index.stage_record(run, stage).outputs["model"].digest


def executions_in(graph: Subgraph) -> set[tuple[str, str]]:
    return {(node.facts["run"], node.facts["stage"]) for node in graph.nodes if node.kind == "execution"}


def test_upstream_of_a_model_is_all_that_made_it_and_nothing_else(index: LineageIndex) -> None:
    graph = index.upstream(f"artifact:{model_of(index, 'second', 'rl')}")
    expected = {("first", stage) for stage in UP_TO_CURATION} | {("second", "long_cot_sft"), ("second", "rl")}
    assert executions_in(graph) == expected
    assert {node.label for node in graph.nodes if node.kind == "source"} == {TRAIN, TEST}
    near = index.upstream(f"artifact:{model_of(index, 'second', 'rl')}", depth=1)
    assert executions_in(near) == {("second", "rl")}
    assert index.upstream(graph.nodes[0].id, limit=4).cut > 0


def test_downstream_of_a_file_is_all_that_it_touched(index: LineageIndex) -> None:
    graph = index.downstream(f"source:{digest('train')}:{TRAIN}")
    stages = [*CHAIN, *(f"evaluate/{stage}" for stage in MODEL_STAGES)]
    expected = {("first", stage) for stage in stages}
    expected |= {("second", stage) for stage in stages if stage.removeprefix("evaluate/") not in UP_TO_CURATION}
    assert executions_in(graph) == expected
    assert {node.label for node in graph.nodes if node.kind == "run"} == {"first", "second"}


def test_models_that_saw_a_file_count_all_its_versions(index: LineageIndex) -> None:
    seen = models_that_saw(index, find_all(index, "train.jsonl"))
    assert {model.run for model in seen} == {"first", "second", "third"}
    assert len(seen) == 8 + 6 + 8
    one = models_that_saw(index, find_all(index, digest("train 2")[:12]))
    assert {model.run for model in one} == {"third"}


def test_a_model_did_not_see_itself(index: LineageIndex) -> None:
    rl = model_of(index, "first", "rl")
    seen = models_that_saw(index, find_all(index, rl))
    assert {model.stage for model in seen} == {stage for stage in CHAIN if stage.startswith("long2short/")}


def test_a_history_is_the_models_own_also_where_others_made_the_same_data(tmp_path: Path) -> None:
    made = History()
    first = made.add_run("first")
    second = made.add_run("second", minutes=60)
    # The second run's data have the same bytes, though its stage has another key; so have its base's weights.
    same = {
        ref.digest: first[stage].outputs[name].digest
        for stage in ("data", "import")
        for name, ref in second[stage].outputs.items()
    }
    text = json.dumps([record.model_dump(mode="json") for _, record in made.records])
    for old, new in same.items():
        text = text.replace(old, new)
    made.records = [
        (name, type(record).model_validate(raw))
        for (name, record), raw in zip(made.records, json.loads(text), strict=True)
    ]
    write_history(tmp_path / "store", made.records)
    index = LineageIndex.of(open_store(tmp_path / "store"), tmp_path)
    index.sync(open_store(tmp_path / "store"))
    assert {record.run for record in history(index, "first:rl")} == {"first"}
    theirs = [(record.run, record.stage) for record in history(index, "second:vanilla_sft")]
    assert theirs == [("second", "vanilla_sft"), ("second", "import"), ("second", "data")]
    assert second["data"].key != first["data"].key


def test_differences_name_what_changed_and_what_came_of_it(index: LineageIndex) -> None:
    actual = {each.stage: each for each in differences(index, "first:rl", "second:rl")}
    assert list(actual) == ["data", "import", "vanilla_sft", "curation", "long_cot_sft", "rl"]
    assert all(actual[stage].same for stage in UP_TO_CURATION)
    reported = [(change.what, change.name, change.before, change.after) for change in actual["long_cot_sft"].changes]
    assert ("config", "own.learning_rate", 1e-4, 2e-4) in reported
    assert ("metric", "loss", 0.5, 0.4) in reported
    assert {what for what, *_ in reported} == {"config", "metric", "evaluation"}
    assert "input" in {change.what for change in actual["rl"].changes}


def test_differences_of_data_and_seed_are_named(index: LineageIndex) -> None:
    (data, *_rest) = differences(index, "first:rl", "third:rl")
    assert [(change.what, change.name) for change in data.changes] == [("seed", ""), ("data", TRAIN)]
    (imported, *_rest) = _rest
    assert ("input", "data") in {(change.what, change.name) for change in imported.changes}


def test_a_stage_that_only_one_history_has_is_listed(index: LineageIndex) -> None:
    actual = {each.stage: each for each in differences(index, "first:long2short/merge", "second:long_cot_sft")}
    assert (actual["long2short/merge"].before, actual["long2short/merge"].after) == ("first", None)
    assert actual["rl"].after is None


def test_a_model_is_asked_for_by_tag_digest_or_stage_and_nothing_else(index: LineageIndex, tmp_path: Path) -> None:
    rl = model_of(index, "first", "rl")
    assert history(index, rl[:10])[0].stage == "rl"
    assert history(index, "other:rl")[0].run == "other"
    with pytest.raises(LineageError, match=r"'first' is a run \(run:first\): give a model's tag, RUN:STAGE or digest"):
        history(index, "first")
    tagged = History()
    tagged.set_tag("production", index.stage_record("first", "rl"))
    write_history(tmp_path / "store", tagged.records, first=10_000)
    index.sync(open_store(tmp_path / "store"))
    assert history(index, "production")[0].run == "first"


def test_code_is_compared_by_module_where_modules_are_recorded() -> None:
    before = stage_record("rl", "first")
    after = before.model_copy(update={"modules": before.modules | {"steps.rl": "other"}, "code": "other"})
    (change,) = changes(before, after, (before, after))
    assert (change.what, change.name, change.after) == ("code", "steps.rl", "other")
    older = before.model_copy(update={"modules": {}, "code": "older"})
    (change,) = changes(older, after, (older, after))
    assert (change.what, change.name, change.before, change.after) == ("code", "", "older", "other")


@pytest.mark.parametrize(
    ("value", "leaves"),
    [
        ({}, {}),
        ({"a": {"b": 1, "c": [1, {"d": 2}]}, "e": None}, {"a.b": 1, "a.c": [1, {"d": 2}], "e": None}),
        ({"a": {}}, {"a": {}}),
    ],
)
def test_data_are_flattened_to_their_leaves(value: Any, leaves: dict[str, Any]) -> None:
    assert flatten(value) == leaves


def test_other_bytes_of_the_same_key_and_the_environment_are_differences() -> None:
    before = stage_record("rl", "first", environment={"processor": "one"})
    after = stage_record("rl", "second", key=before.key, environment={"processor": "other"})
    same = after.model_copy(update={"outputs": before.outputs})
    assert [(change.what, change.name) for change in changes(before, same, (None, None))] == [
        ("environment", "processor")
    ]
    other = after.model_copy(update={"outputs": {"model": ref("model", "other")}})
    by_what = {change.what: change for change in changes(before, other, (None, None))}
    assert by_what.keys() == {"environment", "other bytes"}
    assert (by_what["other bytes"].name, by_what["other bytes"].after) == ("model", other.outputs["model"].digest)


def test_a_changed_file_reruns_who_read_it_and_all_that_follows(index: LineageIndex) -> None:
    actual = reruns(index, "base")
    assert actual.run == "other"
    assert [stage.stage for stage in actual.stages if "evaluate" not in stage.stage] == list(CHAIN)[1:]
    assert actual.reused == ("data",)
    assert actual.stages[0].because == ("base",)
    assert actual.stages[1].stage == "evaluate/import" and actual.stages[1].because == ("model from import",)
    assert actual.seconds == 30.0 * (9 + 8)


def test_reruns_are_those_of_the_newest_use_or_of_the_run_that_is_named(index: LineageIndex) -> None:
    assert reruns(index, "train.jsonl").run == "third"
    second = reruns(index, "train.jsonl", run="second")
    assert len(second.stages) == len(CHAIN) + len(MODEL_STAGES)
    assert {stage.run for stage in second.stages} == {"first", "second"}
    with pytest.raises(LineageError, match=r"nothing has read 'train\.jsonl' in run 'other'"):
        reruns(index, "train.jsonl", run="other")


def test_a_changed_artifact_reruns_only_what_reads_it(index: LineageIndex) -> None:
    curated = index.stage_record("first", "curation").outputs["prompts"].digest
    actual = reruns(index, curated, run="first")
    assert [stage.stage for stage in actual.stages if not stage.stage.startswith("evaluate/")] == [
        "long_cot_sft",
        "rl",
        "long2short/merge",
        "long2short/shortest",
        "long2short/dpo",
        "long2short/rl",
    ]
    assert reruns(index, "first:rl").stages[0].because == ("it would itself differ",)
