import json
from pathlib import Path
from typing import Any

import boto3
import pytest

from infra.lineage.errors import LineageError
from infra.lineage.graph import is_folded
from infra.lineage.index import LineageIndex
from infra.lineage.row_values import evaluation_number
from infra.lineage.rows import ModelRow
from infra.store.evaluation_stages import is_evaluation
from infra.store.open import open_store
from infra.store.records import FORMAT, Failure, StageRecord, write
from infra.store.store import Store, StoreError
from tests.infra.lineage.records import (
    CHAIN,
    EVALUATION,
    NO_MODEL,
    History,
    Opened,
    big_history,
    digest,
    indexed,
    ref,
    stage_record,
    two_runs,
    write_history,
)


def test_runs_are_listed_with_what_was_reused_and_what_failed(opened: Opened, store: Store) -> None:
    index = indexed(opened, store, two_runs())
    second, first = index.runs().rows
    assert (first.run, first.status, first.stages, first.reused, first.failed_stage) == (
        "first",
        "succeeded",
        10,
        0,
        None,
    )
    assert (second.run, second.status, second.stages, second.reused) == ("second", "failed", 6, 5)
    assert second.failed_stage == "rl"
    assert second.seed == 3
    assert first.seconds == 600
    assert second.accuracy == first_accuracy(index, "long_cot_sft")
    assert first.accuracy == first_accuracy(index, "long2short/rl")


def first_accuracy(index: LineageIndex, stage: str) -> float:
    accuracy = evaluation_number(index.stage_record("first", f"evaluate/{stage}"), "accuracy")
    assert accuracy is not None
    return accuracy


def test_a_run_is_listed_in_full_with_the_records_of_what_it_reused(opened: Opened, store: Store) -> None:
    history = two_runs()
    index = indexed(opened, store, history)
    detail = index.run("second")
    assert detail.start is not None
    assert detail.start.recipe["name"] == "made-up"
    assert detail.end is not None
    assert detail.end.error == "ValueError: no luck"
    written = [record for name, record in history.records if name == "stage-runs/second"]
    assert list(detail.stages) == written
    assert detail.stages[0].reused_from == "first"
    with pytest.raises(LineageError, match="no run 'third'; the newest is second"):
        index.run("third")


def test_earlier_executions_leave_out_failures_and_reuses(opened: Opened, store: Store) -> None:
    history = two_runs()
    history.add_run("third", minutes=120)
    index = indexed(opened, store, history)
    assert [record.run for record in index.succeeded("rl")] == ["third", "first"]
    assert [record.run for record in index.succeeded("rl", limit=1)] == ["third"]
    assert [record.run for record in index.succeeded("data")] == ["third", "first"]


def test_only_new_records_are_read(opened: Opened, store: Store) -> None:
    history = two_runs()
    index = indexed(opened, store, history)
    assert index.sync(store).new == 0
    later = History()
    later.add_run("third", minutes=120)
    before = len(history.records)
    write_history(Path(store.backend.address), later.records, first=before)
    synced = index.sync(store)
    assert (synced.new, synced.total) == (len(later.records), before + len(later.records))
    assert index.runs().rows[0].run == "third"


def test_a_corrupted_record_is_named_and_hides_nothing_else(opened: Opened, store: Store) -> None:
    history = two_runs()
    root = Path(store.backend.address)
    write_history(root, history.records)
    broken = min((root / "records" / "stage-runs" / "second").glob("*.json"))
    whole = broken.read_text()
    broken.write_text(whole[:50])
    index = opened()
    synced = index.sync(store)
    assert synced.new == len(history.records) - 1
    assert len(synced.problems) == 1
    assert broken.name in synced.problems[0]
    assert index.runs().total == 2
    assert len(index.run("second").stages) == 8
    broken.write_text(whole)  # as it was put back from a copy
    assert index.sync(store).problems == ()
    assert len(index.run("second").stages) == 9


@pytest.mark.parametrize("content", ["[]", "{}", '{"run": "a", "event": "exploded", "time": "now"}', "\ud800", "1e999"])
def test_what_is_not_a_record_is_passed_over(content: str, store: Store, tmp_path: Path) -> None:
    folder = Path(store.backend.address) / "records" / "runs" / "odd"
    folder.mkdir(parents=True)
    (folder / "1.json").write_bytes(content.encode("utf-8", "surrogatepass"))
    (folder / "not a record's name").write_text("{}")
    index = LineageIndex.of(store, tmp_path)
    assert len(index.sync(store).problems) == 2
    assert index.runs().total == 0


def test_a_run_whose_name_could_be_part_of_another_id_is_passed_over(store: Store, tmp_path: Path) -> None:
    odd = stage_record("rl", "first:rl")
    write_history(Path(store.backend.address), [("stage-runs/odd", odd)])
    index = LineageIndex.of(store, tmp_path)
    (problem,) = index.sync(store).problems
    assert "'first:rl', which is not a valid name of a run" in problem


def test_a_record_of_a_newer_format_is_refused_with_its_version(store: Store, tmp_path: Path) -> None:
    newer = {"format": FORMAT + 1, "run": "first", "what": "nobody knows"}
    folder = Path(store.backend.address) / "records" / "runs" / "first"
    folder.mkdir(parents=True)
    (folder / "1.json").write_text(json.dumps(newer))
    with pytest.raises(StoreError, match=rf"newer version of Longhaul \(format {FORMAT + 1}"):
        LineageIndex.of(store, tmp_path).sync(store)


def test_a_store_in_s3_is_indexed_as_a_folder_is(s3: None, tmp_path: Path) -> None:
    boto3.client("s3").create_bucket(Bucket="lineage-index")
    store = open_store("s3://lineage-index/store", tmp_path / "cache")
    history = two_runs()
    for name, record in history.records:
        write(store, name, record)
    index = LineageIndex.of(store, tmp_path)
    assert index.sync(store).new == len(history.records)
    assert [row.run for row in index.runs().rows] == ["second", "first"]
    assert index.find("import").id == "execution:first:import"


def test_other_folders_of_records_are_passed_over(opened: Opened, store: Store) -> None:
    folder = Path(store.backend.address) / "records" / "something-new" / "x"
    folder.mkdir(parents=True)
    (folder / "1.json").write_text("{")
    index = indexed(opened, store, two_runs())
    assert index.problems() == []


def test_tags_move_are_taken_away_and_keep_their_history(opened: Opened, store: Store) -> None:
    history = History()
    first = history.add_run("first")
    second = history.add_run("second", minutes=60)
    history.set_tag("production", first["rl"], 100)
    history.set_tag("production", second["rl"], 200)
    history.set_tag("best", second["rl"], 300)
    history.set_tag("gone", first["rl"], 400)
    history.set_tag("gone", None, 500)
    index = indexed(opened, store, history)
    assert [(tag.tag, tag.run) for tag in index.tags()] == [("best", "second"), ("production", "second")]
    assert [tag.run for tag in index.tag_history("production")] == ["second", "first"]
    assert [tag.run for tag in index.tag_history("gone")] == [None, "first"]
    (model,) = index.models("production").rows
    assert model.digest == second["rl"].outputs["model"].digest
    assert model.tags == ("best", "production")
    assert index.upstream("tag:production", depth=1).nodes[1].id == model.id
    with pytest.raises(LineageError, match="no tag 'staging'"):
        index.tag_history("staging")


def test_a_stage_that_failed_first_and_then_succeeded_in_its_run_counts_as_succeeded(
    opened: Opened, store: Store
) -> None:
    history = History()
    source: dict[str, Any] = {"sources": {"data.jsonl": digest(1)}}
    failed = stage_record("data", "first", outputs={}, failure=Failure(error="OSError: full"), **source)
    write_history(Path(store.backend.address), [("stage-runs/first", failed)])
    index = opened()
    index.sync(store)
    assert index.runs().rows[0].failed_stage == "data"
    done = stage_record("data", "first")
    history.records += [(f"stages/{done.key}", done), ("stage-runs/first", done)]
    write_history(Path(store.backend.address), history.records, first=1)
    index.sync(store)
    (row,) = index.runs().rows
    assert (row.failed_stage, row.stages) == (None, 1)
    assert [record.failure for record in index.run("first").stages] == [None]
    # What the failed attempt alone had read is not part of the lineage any more.
    assert [row.name for row in index.data().rows] == ["data"]


def test_a_reused_stage_tells_of_the_run_whose_records_are_lost(opened: Opened, store: Store) -> None:
    history = two_runs()
    history.records = [(name, record) for name, record in history.records if name.endswith("second")]
    index = indexed(opened, store, history)
    assert index.execution("first", "import").run == "first"
    assert index.find("import").id == "execution:first:import"
    assert index.run("first").row.status == "unknown"


def test_models_and_data_are_found_by_words_of_what_they_are(opened: Opened, store: Store) -> None:
    index = indexed(opened, store, two_runs())
    assert index.models().total == 8
    (model,) = index.models("FIRST long2short/rl").rows
    assert (model.stage, model.name, model.size) == ("long2short/rl", "model", 4096)
    assert model.accuracy == first_accuracy(index, "long2short/rl")
    assert {row.name for row in index.data().rows} == {"data", "prompts", "data/train.jsonl"}
    (source,) = index.data("train.jsonl").rows
    assert (source.source, source.stage, source.kind, source.size) == (True, "data", "file", None)
    assert index.node(source.id).label == "data/train.jsonl"
    assert index.data("%").total == 0
    assert index.data("_").total == 0


def test_a_model_has_the_figures_of_its_newest_evaluation_by_the_chain(opened: Opened, store: Store) -> None:
    history = History()
    made = history.add_run("first", evaluated=False)["rl"]
    model = made.outputs["model"]

    def evaluate(stage: str, run: str, minutes: float, accuracy: float) -> None:
        evaluation = EVALUATION | {"accuracy": accuracy}
        record = stage_record(stage, run, minutes=minutes, inputs={"model": model}, evaluation=evaluation)
        history.records.append((f"stage-runs/{run}", record))

    def row() -> ModelRow:
        index = indexed(opened, store, history)
        (own,) = index.models(model.digest).rows
        record = index.evaluation_of(made)
        assert record is not None and record.evaluation is not None
        assert (own.stage, own.run) == ("rl", "first")
        assert evaluation_number(record, "accuracy") == own.accuracy
        return own

    evaluate("evaluate", "by-hand", 5000, 0.1)
    assert made.evaluation is not None and row().accuracy == made.evaluation.accuracy
    evaluate("evaluate/rl", "third", 3000, 0.3)
    evaluate("evaluate/rl", "second", 2000, 0.2)
    assert row().accuracy == 0.3
    index = indexed(opened, store, history)
    assert [record.run for record in index.evaluations(model.digest)] == ["by-hand", "third", "second"]
    assert index.run("by-hand").row.accuracy == 0.1
    assert not [node for node in index.neighbourhood(f"artifact:{model.digest}", fold=True).nodes if is_folded(node)]


def test_tables_are_ordered_and_cut_into_pages(opened: Opened, store: Store) -> None:
    write_history(Path(store.backend.address), big_history(runs=12))
    index = opened()
    index.sync(store)
    every = index.data(limit=10_000)
    assert every.total == len(every.rows)
    pages = [index.data(limit=100, offset=at).rows for at in range(0, every.total, 100)]
    assert [row for page in pages for row in page] == list(every.rows)
    sizes = [row.size for row in index.data(limit=10_000, order="-size").rows]
    assert sizes[-1] is None  # of files from outside nobody knows it
    assert sizes[0] is not None
    names = [row.name for row in index.models(limit=1000, order="stage").rows if row.stage]
    assert len(names) == index.models().total
    with pytest.raises(LineageError, match="the order is one of started, run"):
        index.runs(order="started; DROP TABLE lineage_runs")


HOSTILE = "<script>\0\u202e\ud800'\"; DROP TABLE lineage_nodes; --"


def test_hostile_texts_are_kept_and_found(opened: Opened, store: Store) -> None:
    record = stage_record(
        HOSTILE,
        "first",
        outputs={HOSTILE: ref("model", 1)},
        inputs={HOSTILE: ref("dataset", 2)},
        sources={HOSTILE: HOSTILE},
        gates=[{"gate": HOSTILE, "checks": [HOSTILE]}, {"rows": float("nan"), "checks": "none"}],
        evaluation=EVALUATION | {"accuracy": float("inf")},
        seed=2**70,
        key=HOSTILE,
        commit=HOSTILE,
        started=HOSTILE,
    )
    folder = Path(store.backend.address) / "records" / "stage-runs" / "first"
    folder.mkdir(parents=True)
    (folder / "1.json").write_text(json.dumps(record.model_dump(mode="json")))
    index = opened()
    assert index.sync(store).problems == ()
    (model,) = index.models("<script>").rows
    assert model.accuracy is None
    graph = index.neighbourhood(model.id)
    assert {node.kind for node in graph.nodes} == {"artifact", "execution", "source", "gate", "run"}
    assert json.loads(json.dumps([node.facts for node in graph.nodes], allow_nan=False))
    assert index.run("first").stages[0].stage == HOSTILE
    assert index.stage_record("first", HOSTILE).seed == 2**70
    assert index.find(f"first:{HOSTILE}").kind == "execution"


@pytest.mark.parametrize(
    ("name", "id"),
    [
        ("first", "run:first"),
        ("first:rl", "execution:first:rl"),
        ("second:import", "execution:first:import"),
        ("rl", "execution:second:rl"),
        ("long2short/dpo", "execution:first:long2short/dpo"),
        ("best", "tag:best"),
        (ref("model", digest("rl", "first"), "model").digest[:8], None),
        ("train.jsonl", f"source:{digest('train')}:data/train.jsonl"),
        ("data/train.jsonl", f"source:{digest('train')}:data/train.jsonl"),
        (digest("train")[:6].upper(), f"source:{digest('train')}:data/train.jsonl"),
        ("gate:first:rl:0", "gate:first:rl:0"),
    ],
)
def test_names_find_their_node(name: str, id: str | None, store: Store, tmp_path: Path) -> None:
    history = two_runs()
    made = next(
        record
        for where, record in history.records
        if where == "stage-runs/first" and isinstance(record, StageRecord) and record.stage == "rl"
    )
    history.set_tag("best", made)
    write_history(Path(store.backend.address), history.records)
    index = LineageIndex.of(store, tmp_path)
    index.sync(store)
    assert index.find(name).id == (id or f"artifact:{made.outputs['model'].digest}")


def test_an_unknown_or_ambiguous_name_is_refused_saying_which_there_are(opened: Opened, store: Store) -> None:
    assert opened().runs().total == 0
    with pytest.raises(LineageError, match="no run has been recorded yet"):
        opened().find("rl")
    history = History()
    made = history.add_run("first", sources={"data": {"a/train.jsonl": digest(1), "b/train.jsonl": digest(2)}})
    history.set_tag("rl", made["rl"])
    index = indexed(opened, store, history)
    with pytest.raises(LineageError, match=r"called 'r1'.*The newest run is first, with the stages.*tags: rl"):
        index.find("r1")
    with pytest.raises(LineageError, match=r"could be any of these: execution:first:rl, tag:rl; give one of the ids"):
        index.find("rl")
    with pytest.raises(LineageError, match=r"a/train\.jsonl.*b/train\.jsonl"):
        index.find("train.jsonl")
    with pytest.raises(LineageError, match="called '%'"):
        index.find("%")


def test_every_stage_of_the_made_up_chain_is_there(store: Store, tmp_path: Path) -> None:
    write_history(Path(store.backend.address), two_runs().records)
    index = LineageIndex.of(store, tmp_path)
    index.sync(store)
    stages = [record.stage for record in index.run("first").stages]
    assert [stage for stage in stages if not is_evaluation(stage)] == list(CHAIN)
    assert all(stages[stages.index(f"evaluate/{stage}") - 1] == stage for stage in set(CHAIN) - set(NO_MODEL))
