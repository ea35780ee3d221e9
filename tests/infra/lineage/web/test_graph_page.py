"""The graph, its panel and what is found by name, as a reader without scripts finds them."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from infra.lineage.web.panel import rerun_command
from infra.lineage.web.site import Site
from infra.store.store import object_prefix
from tests.infra.lineage.records import History
from tests.infra.lineage.web.page_site import (
    FIRST,
    SECOND,
    Outline,
    client,
    empty_site,
    link_to,
    made_up_site,
)


@pytest.fixture
def visitor(site: Site) -> TestClient:
    return client(site)


def test_evaluations_are_folded_into_their_model_unless_the_graph_is_around_one(visitor: TestClient) -> None:
    def drawn(node: str) -> dict[str, int]:
        answer = visitor.get("/graph.json", params={"node": node, "hops": 4})
        return {each["id"]: each["more"] for each in answer.json()["nodes"]}

    near = drawn(f"execution:{FIRST}:rl")
    assert not [id for id in near if "evaluate/" in id]
    evaluation = f"execution:{FIRST}:evaluate/rl"
    around = drawn(evaluation)
    assert evaluation in around and f"execution:{FIRST}:rl" in around and f"gate:{FIRST}:evaluate/rl:0" in around
    model = Outline(visitor.get(link_to(f"execution:{FIRST}:rl")).text)
    assert "evaluate/rl" in model.text and link_to(evaluation) in [each.get("href") for each in model.of("a")]
    leads_to = [each["data-node"] for each in model.of("a") if "data-node" in each]
    assert evaluation not in leads_to


def test_the_graph_goes_back_and_forth_and_leaves_siblings_to_be_asked_for(visitor: TestClient) -> None:
    def drawn(**query: str | int) -> dict[str, int]:
        answer = visitor.get("/graph.json", params={"node": f"execution:{FIRST}:curation", **query})
        return {node["id"]: node["more"] for node in answer.json()["nodes"]}

    near = drawn()
    assert f"execution:{FIRST}:vanilla_sft" in near and f"execution:{FIRST}:rl" in near
    assert f"execution:{FIRST}:import" not in near
    vanilla = f"execution:{FIRST}:vanilla_sft"
    assert near[vanilla] > 0
    expanded = drawn(expand=vanilla)
    assert expanded[vanilla] == 0 and near.keys() < expanded.keys()
    assert f"execution:{FIRST}:import" in drawn(hops=4)
    assert drawn(hops=999) and drawn(hops="x", expand="no:such:node").keys() == near.keys()
    assert visitor.get("/graph.json", params={"node": "no:such:node"}).status_code == 404


def test_too_many_nodes_are_cut_and_counted(tmp_path: Path) -> None:
    history = History()
    first = history.add_run("run-000")
    for number in range(1, 130):
        history.add_run(f"run-{number:03d}", minutes=number, reuse={"data": first["data"], "import": first["import"]})
    site = empty_site(tmp_path, history)
    data = first["data"].outputs["data"].digest
    answer = client(site).get("/graph.json", params={"node": f"artifact:{data}"}).json()
    assert answer["cut"] > 0 and len(answer["nodes"]) < 200
    assert "more are not listed" in client(site).get(link_to(f"artifact:{data}")).text


PANELS = {
    f"execution:{FIRST}:rl": ["own.tau 0.1", "accuracy 64.0%", "prompts: warned", "python 3.11.7", "loss 0.5"],
    f"execution:{SECOND}:long2short/merge": ["The stage failed ValueError: no luck"],
    f"gate:{FIRST}:rl:0": ["no row is empty", "2 rows broke it", "row-3: nothing"],
    f"run:{SECOND}": ["Comes from 7", "Open the run"],
    "tag:production": ["someone", "it is the best"],
}


@pytest.mark.parametrize(("node", "words"), PANELS.items())
def test_the_panel_tells_all_about_a_node(visitor: TestClient, node: str, words: list[str]) -> None:
    outline = Outline(visitor.get(link_to(node)).text)
    for word in words:
        assert word in outline.text


def test_the_panel_lists_an_artifacts_files_by_its_manifest(site: Site, visitor: TestClient) -> None:
    model = site.index.tags()[0].model
    assert model is not None
    page = visitor.get(link_to(f"artifact:{model.digest}")).text
    manifest = site.store.manifest(model.digest)
    for entry in manifest.files:
        assert entry.path in page and entry.sha256 in page
    nowhere = next(row.id for row in site.index.models().rows if row.digest != model.digest)
    assert "has no folder" in visitor.get(link_to(nowhere)).text


DAMAGE: dict[str, Callable[[Path], object]] = {
    "cut short": lambda file: file.write_bytes(file.read_bytes()[:100]),
    "overwritten": lambda file: file.write_bytes(file.read_bytes()[:50] + bytes(400) + file.read_bytes()[450:]),
    "lost": lambda file: file.unlink(),
    "lost with its folder": lambda file: shutil.rmtree(file.parent),
    "lost with its manifest": lambda file: shutil.rmtree(file.parent.parent),
}


@pytest.mark.parametrize("seen", [False, True], ids=["never seen", "seen before"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_the_panel_tells_what_is_known_of_samples_that_cannot_be_read(tmp_path: Path, damage: str, seen: bool) -> None:
    site = made_up_site(tmp_path)
    visitor = client(site)
    row = next(row for row in site.index.data().rows if row.kind == "samples")
    if seen:
        assert "What is 0 + 2?" in visitor.get(link_to(row.id)).text
    content = Path(site.store.backend.address) / object_prefix(row.digest) / "content"
    for each in (content.parent, content, content / "samples.parquet"):
        each.chmod(0o755)
    DAMAGE[damage](content / "samples.parquet")
    answer = visitor.get(link_to(row.id))
    outline = Outline(answer.text)
    assert answer.status_code == 200 and "What is 0 + 2?" not in outline.text
    (problem,) = [text for text in outline.texts if str(tmp_path) in text or "cannot be read" in text]
    assert row.digest[:12] in problem
    for words in ("own.tau 0.1", "accuracy 64.0%", "prompts: warned", "Comes from 1", FIRST):
        assert words in outline.text
    # The manifest tells of the files, whatever became of them.
    assert ("samples.parquet" in outline.texts) == ("manifest" not in damage)
    assert "run the stage that made it again" in visitor.get(link_to(row.id)).text


def test_neighbours_are_links_that_lead_there_without_scripts(visitor: TestClient) -> None:
    outline = Outline(visitor.get(link_to(f"execution:{FIRST}:rl")).text)
    links = [each for each in outline.of("a") if "data-node" in each]
    assert len(links) >= 6
    for each in links:
        there = visitor.get(each["href"])
        assert there.status_code == 200 and f'data-selected="{each["data-node"]}"' in there.text


def test_things_are_found_by_name(visitor: TestClient) -> None:
    for name, node in {
        "production": "tag:production",
        f"{FIRST}:rl": f"execution:{FIRST}:rl",
        SECOND: f"run:{SECOND}",
    }.items():
        assert visitor.get("/graph", params={"find": name}).headers["location"] == link_to(node)
    unknown = visitor.get("/graph", params={"find": "nothing"})
    assert unknown.status_code == 404 and "nothing in the lineage is called" in Outline(unknown.text).text


@pytest.mark.parametrize(
    ("command", "again"),
    [
        (["run", "--set", "a=b c"], "longhaul run --set 'a=b c' --from rl"),
        (["run", "--only", "rl"], ""),
        (["run", "--select", "state:modified+"], ""),
        (["run", "--reuse=first", "--select", "rl+"], ""),
        (["evaluate", "rl"], ""),
    ],
)
def test_a_run_of_a_part_has_no_command_that_would_be_refused(command: list[str], again: str) -> None:
    assert rerun_command(command, "rl") == again
