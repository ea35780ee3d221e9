"""Samples, prompts and configurations on the lineage page: searched and filtered without scripts."""

import re
from pathlib import Path

import pytest
import yaml
from starlette.testclient import TestClient

from infra.lineage.web.config_tree import as_yaml, config_tree, in_flow
from infra.lineage.web.site import Site
from tests.infra.lineage.web.page_site import FIRST, PROMPT, SECOND, Outline, client


@pytest.fixture
def visitor(site: Site) -> TestClient:
    return client(site)


@pytest.fixture
def samples(site: Site) -> str:
    return next(f"/samples/{row.digest}" for row in site.index.data().rows if row.kind == "samples")


FILTERS = {
    "": 48,
    "iteration=3": 12,
    "reward_to=0": 24,
    "reward_from=0.5": 24,
    "iteration=3&reward_to=0": 6,
    "tokens_from=50": 12,
    "tokens_to=50": 36,
    "stop=length": 12,
    "outcome=stale": 0,
    "behaviour=reflection": 4,
    "behaviour=unknown": 48,
    "text=WHAT+IS+11": 4,
    "text=2/11": 1,
    "text=%27%3B+DROP+TABLE+samples": 0,
    "iteration=x&reward_from=nan&tokens_from=-1&sort=nonsense&rows=0&from=y": 48,
}


@pytest.mark.parametrize(("query", "total"), FILTERS.items())
def test_samples_are_filtered_by_what_they_are_and_say(
    visitor: TestClient, samples: str, query: str, total: int
) -> None:
    outline = Outline(visitor.get(f"{samples}?{query}").text)
    assert f"{total} of 48 responses" in outline.text


def test_samples_are_paged_and_the_filter_stays(visitor: TestClient, samples: str) -> None:
    outline = Outline(visitor.get(f"{samples}?text=what&rows=20").text)
    assert "48 of 48 responses, 1 to 20 shown" in outline.text
    following = next(each["href"] for each in outline.of("a") if each.get("rel") == "next")
    second = Outline(visitor.get(following).text)
    assert "21 to 40 shown" in second.text
    assert next(each["value"] for each in second.of("input") if each["name"] == "text") == "what"
    longest = Outline(visitor.get(f"{samples}?sort=-tokens&rows=1").text)
    assert "70 tokens" in longest.text and "7 tokens" not in longest.text.replace("70 tokens", "")


def test_what_holds_no_samples_is_not_found(visitor: TestClient, site: Site) -> None:
    model = site.index.models().rows[0].digest
    for digest in ("0" * 64, model, "x"):
        assert visitor.get(f"/samples/{digest}").status_code == 404


def test_prompts_are_found_by_their_words_and_lead_to_all_answers(visitor: TestClient) -> None:
    outline = Outline(visitor.get("/prompts?search=is+4").text)
    assert "1 prompt; searched the newest 1 of 1 sets" in outline.text and f"rl of {FIRST}" in outline.text
    assert f"/prompts/{PROMPT}" in [each.get("href") for each in outline.of("a")]
    assert "Nothing matches" in visitor.get("/prompts?search=nowhere").text
    assert visitor.get("/prompts", params={"text": " What is 4 + 2?\n"}).headers["location"] == f"/prompts/{PROMPT}"
    assert visitor.get(f"/prompts?search={PROMPT}").headers["location"] == f"/prompts/{PROMPT}"


def test_a_prompt_has_its_data_file_and_two_models_answers_side_by_side(visitor: TestClient, site: Site) -> None:
    outline = Outline(visitor.get(f"/prompts/{PROMPT}").text)
    assert "What is 4 + 2?" in outline.text and "/data/train.jsonl" in outline.text
    assert f"Left: rl of {FIRST}" in outline.text and "iteration 3, stopped by eos" in outline.text
    source = next(row.id for row in site.index.data().rows if row.source)
    assert [each for each in outline.of("a") if source.replace(":", "%3A").replace("/", "%2F") in each.get("href", "")]
    evaluation = f"execution:{SECOND}:rl"
    other = Outline(visitor.get(f"/prompts/{PROMPT}", params={"b": evaluation}).text)
    assert f"Right: rl of {SECOND}" in other.text and "1 of its evaluation" in other.text
    alone = Outline(visitor.get(f"/prompts/{PROMPT}", params={"a": evaluation}).text)
    assert f"Left: rl of {SECOND}" in alone.text and f"Right: rl of {SECOND}" not in alone.text
    assert f"Models trained on it rl of {FIRST}" in outline.text
    for missing in ("0" * 64, "x"):
        assert visitor.get(f"/prompts/{missing}").status_code == 404
    assert visitor.get(f"/prompts/{PROMPT}", params={"a": "nonsense", "b": "'"}).status_code == 200


def test_an_evaluations_response_leads_to_its_prompt(visitor: TestClient) -> None:
    outline = Outline(visitor.get(f"/runs/{FIRST}?tab=evaluation").text)
    assert f"/prompts/{PROMPT}" in [each.get("href") for each in outline.of("a")]


def test_settings_are_searched_by_key_and_value_and_fold(visitor: TestClient) -> None:
    tab = f"/runs/{FIRST}?tab=configuration"
    folded = Outline(visitor.get(tab).text)
    opened = Outline(visitor.get(f"{tab}&unfold=1").text)
    assert len(folded.of("details")) == len(opened.of("details"))
    assert sum("open" in each for each in folded.of("details")) < sum("open" in each for each in opened.of("details"))
    match = Outline(visitor.get(f"{tab}&search=own+TAU").text)
    assert "tau : 0.1" in match.text and "dtype" not in match.text and "learning_rate" not in match.text
    assert "No setting has “nowhere”" in Outline(visitor.get(f"{tab}&search=nowhere").text).text


def test_a_recipe_is_had_as_yaml(visitor: TestClient) -> None:
    answer = visitor.get(f"/runs/{FIRST}/recipe.yaml")
    assert answer.headers["content-type"].startswith("text/plain")
    assert yaml.safe_load(answer.text) == {"name": "made-up", "seed": 0, "store": "/store"}
    assert visitor.get("/runs/no-such-run/recipe.yaml").status_code == 404


@pytest.mark.parametrize(
    "value", [None, True, 3, 1e-5, 0.1, "text", "true", "1e5", "a: b", "- x", "", [1, "a"], {}, "é\n"]
)
def test_a_value_in_the_tree_is_yaml_for_itself(value: object) -> None:
    assert yaml.safe_load(in_flow(value)) == value


def test_a_tree_has_every_setting_and_a_file_reads_back() -> None:
    config = {"a": {"b": {"c": 1, "d": [1, 2]}, "e": {}}, "no": "yes"}
    tree = config_tree(config)
    assert sum(node.settings for node in tree) == 4 and yaml.safe_load(as_yaml(config)) == config
    assert [node.name for node in config_tree(config, "b.c")] == ["a"]


def test_a_reused_stage_has_its_own_time(visitor: TestClient) -> None:
    text = Outline(visitor.get(f"/runs/{SECOND}").text).text
    assert re.search(r"reused 01 Jan 1970, 00:00 UTC first run took 30.0 s", text)
    assert not re.search(r"first run took", Outline(visitor.get(f"/runs/{FIRST}").text).text)


def test_failures_come_first(visitor: TestClient) -> None:
    text = Outline(visitor.get(f"/runs/{SECOND}").text).text
    assert text.index("long2short/merge failed ValueError: no luck") < text.index(
        "Parts of the run" if "Parts of" in text else "Stages Curves"
    )
    gates = Outline(visitor.get(f"/runs/{FIRST}?tab=gates").text).text
    assert gates.index("rl: prompts") < gates.index("data: data rows")
    assert gates.index("no row is empty") < gates.index("no two rows share an id")


def test_times_have_their_zone_and_rows_of_one_name_differ(visitor: TestClient) -> None:
    text = Outline(visitor.get("/data").text).text
    assert re.search(r"\d\d:\d\d UTC", text) and "rl · samples" in text
    names = re.findall(r"rl · samples of (\S+), ([0-9a-f]{12})", text)
    assert len(names) == len(set(names)) >= 1


def test_production_is_of_one_run_in_tags_and_models(tmp_path: Path) -> None:
    """A tag set by the name of a run that reused the model is shown with the run that made it, as models are."""
    from infra.lineage.index import LineageIndex
    from infra.store.open import open_store
    from tests.infra.lineage.records import BEFORE_RL, History, reused, write_history

    history = History()
    made = history.add_run("first")
    again = history.add_run("second", minutes=60, reuse=reused(made, *BEFORE_RL, "rl"))
    history.set_tag("production", again["rl"], minutes=90)
    write_history(tmp_path / "store", history.records)
    store = open_store(tmp_path / "store")
    index = LineageIndex.of(store, tmp_path / "home")
    index.sync(store)
    visitor = client(Site.of(store, index, tmp_path / "home"))
    tags, models = (Outline(visitor.get(f"/{table}").text).text for table in ("tags", "models?search=production"))
    assert re.search(r"production rl [0-9a-f]{12} first reused by second", tags)
    assert re.search(r"rl [0-9a-f]{12} first ", models)
    index.close()
