import json
import re
import socket
from functools import cache
from pathlib import Path
from typing import Any

import attr
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, ValidationError
from referencing import Registry, Resource

from infra.lineage import export
from infra.lineage.errors import LineageError
from infra.lineage.export import facets
from infra.lineage.export.mermaid import escaped, mermaid
from infra.lineage.export.openlineage import events
from infra.lineage.export.selection import as_data, of_run, whole
from infra.lineage.graph import Edge, Node, Subgraph
from infra.lineage.index import LineageIndex
from infra.lineage.row_values import artifact_id
from infra.store.open import open_store
from infra.store.records import ForkPoint
from infra.store.store import Ref
from tests.infra.lineage.records import BEFORE_RL, History, digest, ref, reused, stage_record, write_history

SCHEMAS = Path(__file__).parent / "openlineage"
OWN_SCHEMAS = Path(export.__file__).parent / "facets"
WARNED = {"expectation": "expect_tags_to_be_balanced", "rule": "tags are even", "success": False, "severity": "warn"}


def made_index(tmp_path: Path, **changed: Any) -> LineageIndex:
    history = History()
    first = history.add_run("first", sources={"data": {"data/train.jsonl": digest("train"), "s3://raw/a": digest("a")}})
    history.set_tag("production", first["rl"], 50)
    reuse = reused(first, *BEFORE_RL)
    history.add_run("second", minutes=60, reuse=reuse, fails_at="rl", **changed)
    history.add_run("third", minutes=120, reuse=reuse, status="interrupted")
    store = open_store(tmp_path / "store")
    write_history(tmp_path / "store", history.records)
    index = LineageIndex.of(store, tmp_path)
    index.sync(store)
    return index


@cache
def registry() -> "Registry[Any]":
    files = [*SCHEMAS.glob("*.json"), *OWN_SCHEMAS.glob("*.json")]
    schemas = [json.loads(file.read_text()) for file in files]
    assert len(schemas) == 13 + 2
    return Registry().with_resources([(schema["$id"], Resource.from_contents(schema)) for schema in schemas])


def validate(value: Any, address: str) -> None:
    """Raise unless a value is what the schema at an address says, formats included."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$ref": address}
    Draft202012Validator(schema, registry=registry(), format_checker=Draft202012Validator.FORMAT_CHECKER).validate(
        value
    )


def facets_of(event: dict[str, Any]) -> list[dict[str, Any]]:
    sets = [*event["inputs"], *event["outputs"]]
    holders = [event["run"], event["job"], *sets, *({"facets": each.get("inputFacets", {})} for each in sets)]
    return [holder.get("facets", {}) for holder in holders]


def test_events_are_valid_by_the_official_schemas(tmp_path: Path) -> None:
    index = made_index(tmp_path, gates=[{"gate": "balance", "passed": True, "rows": 3, "checks": [WARNED]}])
    actual = list(events(index, whole(index)))
    seen = set()
    for event in actual:
        validate(event, event["schemaURL"])
        validate(event, "https://openlineage.io/spec/2-0-2/OpenLineage.json")
        for group in facets_of(event):
            for name, facet in group.items():
                seen.add(name)
                validate(facet, facet["_schemaURL"])
                validate({name: facet}, facet["_schemaURL"].partition("#")[0])
    assert seen == {
        "parent",
        "longhaul_stage",
        "longhaul_evaluation",
        "test",
        "errorMessage",
        "tags",
        "jobType",
        "sourceCodeLocation",
        "version",
        "dataSource",
        "datasetType",
        "documentation",
        "dataQualityAssertions",
    }


def test_a_validator_without_these_schemas_would_not_pass_anything(tmp_path: Path) -> None:
    index = made_index(tmp_path)
    event = next(events(index, whole(index)))
    with pytest.raises(Exception, match="eventTime"):
        validate(event | {"eventTime": 3}, event["schemaURL"])


@pytest.mark.parametrize("schema", sorted(OWN_SCHEMAS.glob("*.json")), ids=lambda file: file.stem)
def test_every_field_of_our_facets_is_described_with_a_valid_example(schema: Path) -> None:
    (definition,) = json.loads(schema.read_text())["$defs"].values()
    fields = definition["allOf"][1]["properties"]
    facet = getattr(facets, schema.stem)
    assert {each.name for each in attr.fields(facet)} - {"_producer", "_schemaURL", "_deleted"} == fields.keys()
    for name, field in fields.items():
        assert field["description"].endswith("."), name
        Draft202012Validator(field).validate(field["example"])


@pytest.mark.parametrize(
    ("facet", "field", "value"),
    [("longhaul_evaluation", "accuracy", 61.2), ("longhaul_evaluation", "domains", {"sums": {"accuracy": 1.0}})],
)
def test_a_custom_facet_with_a_wrong_value_is_refused_by_its_schema(
    tmp_path: Path, facet: str, field: str, value: object
) -> None:
    index = made_index(tmp_path)
    made = next(
        actual[facet] for event in events(index, whole(index)) for actual in facets_of(event) if facet in actual
    )
    validate(made, made["_schemaURL"])
    with pytest.raises(ValidationError):
        validate(made | {field: value}, made["_schemaURL"])


def test_a_model_and_its_evaluation_carry_the_same_figures(tmp_path: Path) -> None:
    index = made_index(tmp_path)
    actual = list(events(index, of_run(index, "first")))
    model = "made-up/rl/model"
    carried = [
        (event["job"]["name"], each["facets"].get("longhaul_evaluation"))
        for event in actual
        for each in (*event["inputs"], *event["outputs"])
        if each["name"] == model and event["eventType"] == "COMPLETE"
    ]
    figures = {name: facet for name, facet in carried if facet}
    assert figures.keys() == {"made-up.rl", "made-up.evaluate/rl"}
    assert figures["made-up.rl"] == figures["made-up.evaluate/rl"]
    assert figures["made-up.rl"]["stage"] == "evaluate/rl"


def test_events_tell_what_ran_in_which_run_and_how_it_ended(tmp_path: Path) -> None:
    index = made_index(tmp_path)
    actual = list(events(index, of_run(index, "second")))
    reported = [(event["job"]["name"], event["eventType"]) for event in actual]
    assert reported[:2] == [("made-up", "START"), ("made-up", "FAIL")]
    assert ("made-up.rl", "FAIL") in reported
    assert ("made-up.long_cot_sft", "COMPLETE") in reported
    failed = next(each for each in actual if each["job"]["name"] == "made-up.rl" and each["eventType"] == "FAIL")
    assert failed["run"]["facets"]["errorMessage"]["message"] == "ValueError: no luck"
    assert failed["run"]["facets"]["parent"]["run"]["runId"] == actual[0]["run"]["runId"]
    assert failed["outputs"] == []
    assert {tag["key"] for tag in actual[0]["run"]["facets"]["tags"]["tags"]} >= {"reused data", "reused import"}
    ended = {event["job"]["name"]: event["eventType"] for event in events(index, of_run(index, "third"))}
    assert ended["made-up"] == "ABORT"


def test_a_data_set_is_written_and_read_under_one_name_and_version(tmp_path: Path) -> None:
    index = made_index(tmp_path)
    actual = list(events(index, of_run(index, "first")))
    written = {(each["namespace"], each["name"]) for event in actual for each in event["outputs"]}
    read = {(each["namespace"], each["name"]): each for event in actual for each in event["inputs"]}
    here = f"file://{socket.gethostname()}"
    assert read.keys() - written == {(here, "data/train.jsonl"), ("s3://raw", "a")}
    assert read["s3://raw", "a"]["facets"]["version"]["datasetVersion"] == digest("a")
    model = index.stage_record("first", "rl").outputs["model"]
    (made,) = (each for event in actual for each in event["outputs"] if each["name"] == "made-up/rl/model")
    assert made["namespace"].endswith(model.address.partition("/objects/")[0])
    assert made["facets"]["dataSource"]["uri"].endswith(model.address)
    assert made["facets"]["version"]["datasetVersion"] == model.digest
    assert made["facets"]["datasetType"]["datasetType"] == "MODEL"
    assert [tag["key"] for tag in made["facets"]["tags"]["tags"]] == ["production"]


def test_a_fork_reads_the_iteration_that_its_parent_kept_and_says_so(tmp_path: Path) -> None:
    history = History()
    retained, point = ref("iteration", "kept"), ForkPoint(run="first", stage="rl", iteration=20)
    parent = stage_record("rl", "first", iterations={20: retained})
    fork = stage_record("rl", "second", minutes=60, inputs={"fork": retained}, forked_from=point)
    history.records = [(f"stage-runs/{record.run}", record) for record in (parent, fork)]
    store = open_store(tmp_path / "store")
    write_history(tmp_path / "store", history.records)
    index = LineageIndex.of(store, tmp_path)
    index.sync(store)
    graph = whole(index)
    ends = {(edge.source, edge.role, edge.target) for edge in graph.edges}
    assert (f"execution:{parent.run}:rl", "iteration-20", artifact_id(retained.digest)) in ends
    assert (artifact_id(retained.digest), "fork", f"execution:{fork.run}:rl") in ends
    assert index.node("execution:second:rl").facts["forked_from"] == "first:rl@20"
    actual = [event for event in events(index, graph) if event["job"]["name"].endswith(".rl")]
    for event in actual:
        (facet,) = (each["longhaul_stage"] for each in facets_of(event) if "longhaul_stage" in each)
        validate(facet, facet["_schemaURL"])
        of_fork = [each["name"] for each in event["inputs"]] == ["run/rl/iteration-20"]
        assert facet.get("forkedFrom") == (point.model_dump() if of_fork else None)
    assert {each["name"] for event in actual for each in event["outputs"]} == {"run/rl/model", "run/rl/iteration-20"}


def test_a_data_set_has_the_same_name_in_every_export(tmp_path: Path) -> None:
    index = made_index(tmp_path)

    def read(graph: Subgraph) -> set[tuple[str, str, str]]:
        inputs = [each for event in events(index, graph) for each in event["inputs"]]
        return {(each["namespace"], each["name"], each["facets"]["version"]["datasetVersion"]) for each in inputs}

    everywhere = read(whole(index))
    model = index.stage_record("first", "vanilla_sft").outputs["model"]
    for part in (of_run(index, "second"), index.downstream(artifact_id(model.digest))):
        assert read(part) and read(part) <= everywhere


def test_gates_are_assertions_about_the_data_that_a_stage_read(tmp_path: Path) -> None:
    index = made_index(tmp_path, gates=[{"gate": "balance", "passed": True, "rows": 3, "checks": [WARNED]}])
    actual = [each for each in events(index, of_run(index, "second")) if each["job"]["name"] == "made-up.rl"]
    by_name = {each["name"]: each for each in actual[-1]["inputs"]}
    (assertion,) = by_name["made-up/curation/prompts"]["inputFacets"]["dataQualityAssertions"]["assertions"]
    assert (assertion["success"], assertion["severity"], assertion["name"]) == (False, "warn", "balance")
    assert "inputFacets" not in by_name["made-up/long_cot_sft/model"] or (
        by_name["made-up/long_cot_sft/model"]["inputFacets"] == {}
    )
    (test,) = actual[-1]["run"]["facets"]["test"]["tests"]
    assert (test["status"], test["type"]) == ("fail", WARNED["expectation"])


def test_versions_of_a_data_set_share_a_name_and_configuration_and_metrics_are_objects(tmp_path: Path) -> None:
    history = History()
    for number, run in enumerate(("first", "second")):
        history.add_run(run, minutes=60 * number)
    write_history(tmp_path / "store", history.records)
    store = open_store(tmp_path / "store")
    index = LineageIndex.of(store, tmp_path)
    index.sync(store)
    actual = list(events(index, whole(index)))
    models = [each for event in actual for each in event["outputs"] if each["name"] == "made-up/rl/model"]
    assert len(models) == 2
    facet = next(event["run"]["facets"]["longhaul_stage"] for event in actual if event["job"]["name"] == "made-up.rl")
    assert isinstance(facet["config"], dict) and isinstance(facet["metrics"], dict)
    json.dumps(actual, allow_nan=False)


def test_the_same_events_come_out_each_time(tmp_path: Path) -> None:
    index = made_index(tmp_path)
    assert list(events(index, whole(index))) == list(events(index, whole(index)))


def test_a_stage_whose_start_is_not_a_time_is_named(tmp_path: Path) -> None:
    write_history(tmp_path / "store", [("stage-runs/first", stage_record("rl", "first", started="yesterday"))])
    index = LineageIndex.of(open_store(tmp_path / "store"), tmp_path)
    index.sync(open_store(tmp_path / "store"))
    with pytest.raises(LineageError, match=r"execution:first:rl cannot be exported as events: .*yesterday"):
        list(events(index, whole(index)))


def test_a_run_is_exported_without_other_runs_that_used_its_stages(tmp_path: Path) -> None:
    index = made_index(tmp_path)
    graph = of_run(index, "first")
    assert [node.id for node in graph.nodes if node.kind == "run"] == ["run:first"]
    assert {node.facts["run"] for node in graph.nodes if node.kind == "execution"} == {"first"}
    kinds = [node.kind for node in graph.nodes]
    assert (kinds.count("execution"), kinds.count("gate"), kinds.count("source")) == (18, 18, 2)
    with pytest.raises(LineageError, match="no run 'fourth'"):
        of_run(index, "fourth")


def test_json_holds_all_nodes_and_edges(tmp_path: Path) -> None:
    index = made_index(tmp_path)
    graph = whole(index)
    data = json.loads(json.dumps(as_data(graph), allow_nan=False))
    ids = {node["id"] for node in data["nodes"]}
    assert len(ids) == len(graph.nodes)
    assert all({edge["source"], edge["target"]} <= ids for edge in data["edges"])
    assert data["cut"] == 0


@given(st.text(), st.text(min_size=1))
def test_no_label_ends_early_or_becomes_markup_in_mermaid(label: str, role: str) -> None:
    nodes = (Node("a", "artifact", label, {"digest": label}), Node("b", "execution", role, {"run": label}))
    lines = mermaid(Subgraph(nodes, (Edge("a", "b", role),))).split("\n")
    assert len(lines) == 5
    label_form = r"(?:[A-Za-z0-9 ._/·…-]|#\d+;)*"
    assert re.fullmatch(rf'    n0\(\["{label_form}(?:<br/>{label_form})?"\]\):::artifact', lines[1])
    assert re.fullmatch(rf'    n1\["{label_form}(?:<br/>{label_form})?"\]:::execution', lines[2])
    assert re.fullmatch(rf'    n0 -->\|"{label_form}"\| n1', lines[3])


def test_mermaid_writes_signs_as_their_numbers() -> None:
    assert escaped('a"]; <b>#é\x1b') == "a#34;#93;#59; #60;b#62;#35;#233;#9243;"


def test_an_s3_store_is_the_namespace_of_its_data_sets(tmp_path: Path) -> None:
    made = digest("model")
    ref = Ref(kind="model", digest=made, address=f"s3://bucket/prefix/objects/{made}/content", files=1, size=1)
    write_history(tmp_path / "store", [("stage-runs/first", stage_record("rl", "first", outputs={"model": ref}))])
    index = LineageIndex.of(open_store(tmp_path / "store"), tmp_path)
    index.sync(open_store(tmp_path / "store"))
    (output,) = list(events(index, whole(index)))[-1]["outputs"]
    assert (output["namespace"], output["name"]) == ("s3://bucket/prefix", "run/rl/model")
