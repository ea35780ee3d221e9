"""What the lineage page tells, as a reader without scripts finds it."""

import json
import re
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

import infra.lineage.web as web
from infra.lineage.web.curves import MAX_POINTS, curves_of
from infra.lineage.web.site import Site
from infra.lineage.web.templating import NONE
from infra.store import records
from infra.store.evaluation import Evaluation
from infra.store.records import Failure, ForkPoint, NoteRecord, OtherBytes, StageRecord
from tests.infra.lineage.records import BEFORE_RL, History, reused, stage_record
from tests.infra.lineage.web.page_site import (
    FIRST,
    HOSTILE,
    RUNNING,
    SECOND,
    Outline,
    client,
    empty_site,
    every_page,
    link_to,
    made_up_site,
    put,
    tell,
)


@pytest.fixture
def visitor(site: Site) -> TestClient:
    return client(site)


def test_runs_are_listed_with_how_they_went(visitor: TestClient) -> None:
    outline = Outline(visitor.get("/runs").text)
    assert "3 runs" in outline.text
    for words in (f"{FIRST} succeeded made-up", f"{SECOND} failed at long2short/merge", f"{RUNNING} running"):
        assert words in outline.text


def test_a_search_leaves_what_matches_and_says_how_many(visitor: TestClient) -> None:
    outline = Outline(visitor.get(f"/runs?search={FIRST}").text)
    assert f"1 run match “{FIRST}”" in outline.text and SECOND not in outline.text
    assert "Nothing matches" in visitor.get("/models?search=no-such-thing").text


def test_tables_are_searched_sorted_and_paged_without_scripts(tmp_path: Path) -> None:
    history = History()
    for number in range(60):
        history.add_run(f"run-{number:02d}", minutes=number, seed=number)
    visitor = client(empty_site(tmp_path, history))
    first = Outline(visitor.get("/runs?sort=seed").text)
    assert "60 runs, 1 to 50 shown" in first.text
    assert [head["aria-sort"] for head in first.of("th") if "aria-sort" in head].count("ascending") == 1
    form = next(form for form in first.of("form") if form["action"] == "/runs")
    assert form["method"] == "get" and any(
        {"name": "sort", "value": "seed"}.items() <= each.items() for each in first.of("input")
    )
    following = next(each["href"] for each in first.of("a") if each.get("rel") == "next")
    second = Outline(visitor.get(following).text)
    assert "60 runs, 51 to 60 shown" in second.text and "run-59" in second.text and "run-49" not in second.text
    back = next(each["href"] for each in second.of("a") if each.get("rel") == "prev")
    assert "run-00" in visitor.get(back).text
    again = next(each["href"] for each in first.of("a") if "sort=-seed" in each["href"])
    assert re.findall(r"run-\d\d", Outline(visitor.get(again).text).text)[0] == "run-59"


@pytest.mark.parametrize("query", ["sort=nonsense", "sort=-", "offset=-3", "offset=x", "offset=99999999999999999999"])
def test_nonsense_in_an_address_breaks_no_table(visitor: TestClient, query: str) -> None:
    for table in ("runs", "models", "data"):
        assert visitor.get(f"/{table}?{query}").status_code == 200


@pytest.mark.parametrize("page", ["/runs", "/models", "/data", "/tags", "/graph", "/compare"])
def test_an_empty_store_says_what_to_run(tmp_path: Path, page: str) -> None:
    answer = client(empty_site(tmp_path)).get(page)
    assert answer.status_code == 200 and "longhaul " in Outline(answer.text).text


def test_a_run_tells_its_stages_where_they_come_from_and_why_it_failed(visitor: TestClient) -> None:
    outline = Outline(visitor.get(f"/runs/{SECOND}").text)
    assert "ValueError: no luck" in outline.text
    assert f"data reused from {FIRST}" in outline.text
    stages = ["data", "import", "vanilla_sft", "curation", "long_cot_sft", "rl", "long2short/merge"]
    places = [outline.text.index(f" {stage} ", outline.text.index("Outputs")) for stage in stages]
    assert places == sorted(places)
    assert "Report" not in outline.text and "Report" in Outline(visitor.get(f"/runs/{FIRST}").text).text
    assert visitor.get("/runs/no-such-run").status_code == 404


def test_a_run_tells_gates_evaluations_curves_and_configuration(visitor: TestClient) -> None:
    tabs = {
        tab: Outline(visitor.get(f"/runs/{FIRST}?tab={tab}").text).text
        for tab in ("gates", "evaluation", "curves", "configuration")
    }
    assert "no row is empty no, warns 2 rows broke it row-3: nothing" in tabs["gates"]
    assert "rl 64.0% 1.0% 70.5 320 64.0% 30.0 s" in tabs["evaluation"]
    assert "2 + 2" in tabs["evaluation"]
    assert "rl/accuracy 0.5 0.69 0.5 0.69 20" in tabs["curves"]
    assert "tau : 0.1" in tabs["configuration"]


def test_a_running_stage_is_shown_while_it_runs_and_no_longer(tmp_path: Path) -> None:
    site = made_up_site(tmp_path)
    visitor = client(site)
    page = visitor.get(f"/runs/{RUNNING}").text
    assert 'hx-trigger="every 1s"' in page and "Now running" not in page
    tell(site, RUNNING, kind="stage")
    tell(site, RUNNING, kind="task", task="rollout", total=200, unit="tokens")
    tell(site, RUNNING, kind="update", task="rollout", done=50, total=200, unit="tokens", note="<b>fast</b>")
    outline = Outline(visitor.get(f"/runs/{RUNNING}").text)
    assert "rollout <b>fast</b> 50 of 200 tokens" in outline.text
    assert outline.of("progress")[0]["value"] == "50.0" and outline.of("progress")[0]["aria-label"] == "rl: rollout"
    tell(site, RUNNING, kind="update", task="rollout", done=150, total=200, unit="tokens")
    assert "150 of 200 tokens" in Outline(visitor.get(f"/runs/{RUNNING}").text).text
    tell(site, RUNNING, kind="task_done", task="rollout", done=200, total=200, unit="tokens")
    tell(site, RUNNING, kind="say", note="a message")
    tell(site, RUNNING, kind="stage_done")
    assert "Now running" not in visitor.get(f"/runs/{RUNNING}").text
    assert "every 1s" not in visitor.get(f"/runs/{FIRST}").text


def test_a_run_that_was_killed_is_called_silent(tmp_path: Path) -> None:
    site = made_up_site(tmp_path)
    tell(site, RUNNING, kind="stage", time=time.time() - 3600)
    assert "no progress for 1 h 00 min" in Outline(client(site).get(f"/runs/{RUNNING}").text).text


def test_two_runs_are_compared_by_settings_code_and_results(visitor: TestClient) -> None:
    outline = Outline(visitor.get(f"/compare?a={FIRST}&b={SECOND}").text)
    assert "data nothing: the same key" in outline.text
    assert "rl 2 settings 64.0% 60.0% −4.0 points" in outline.text
    assert "own.tau 0.1 0.2" in outline.text
    assert "long2short/merge what came before, failed in the second run" in outline.text
    assert "only in the first run" in outline.text
    assert visitor.get(f"/compare?a={FIRST}&b=nothing").status_code == 404
    assert FIRST in visitor.get("/compare").text


def test_other_bytes_of_the_same_key_are_a_warning_wherever_the_stage_is_shown(tmp_path: Path) -> None:
    history = History()
    first = history.add_run(FIRST)["rl"]
    second = history.add_run(SECOND, minutes=1440)["rl"]
    other = {
        "key": first.key,
        "environment": {"processor": "another", "threads": "1"},
        "other_bytes": OtherBytes(run=FIRST, outputs=["model"]),
    }
    changed = second.model_copy(update=other)
    history.records = [(name, changed if record == second else record) for name, record in history.records]
    visitor = client(empty_site(tmp_path, history))
    words = f"same key, other bytes than run {FIRST} : model"
    for page in (f"/runs/{SECOND}", link_to(f"execution:{SECOND}:rl")):
        assert words in Outline(visitor.get(page).text).text, page
    assert "threads 1" in Outline(visitor.get(link_to(f"execution:{SECOND}:rl")).text).text
    compared = Outline(visitor.get(f"/compare?a={FIRST}&b={SECOND}").text).text
    assert "same key, other bytes : both runs ran this stage with the same key" in compared
    assert "Environment of rl First Second processor – another threads – 1" in compared
    assert second.outputs["model"].digest[:12] in compared


def test_a_stage_that_was_reused_despite_another_environment_says_so(tmp_path: Path) -> None:
    history = History()
    first = history.add_run(FIRST)
    history.add_run(SECOND, minutes=1440, reuse=reused(first, *BEFORE_RL))
    text = "processor: EPYC → Xeon"
    history.records = [
        (name, record.model_copy(update={"reused_despite": [text]}))
        if isinstance(record, StageRecord) and (record.run, record.stage) == (SECOND, "vanilla_sft")
        else (name, record)
        for name, record in history.records
    ]
    visitor = client(empty_site(tmp_path, history))
    assert f"despite another environment: {text}" in Outline(visitor.get(f"/runs/{SECOND}").text).text
    assert "despite another environment" not in visitor.get(f"/runs/{FIRST}").text


def test_a_fork_says_where_it_continued_in_its_row_its_curves_and_its_panel(tmp_path: Path) -> None:
    history = History()
    first = history.add_run(FIRST)
    history.add_run(SECOND, minutes=1440, reuse=reused(first, *BEFORE_RL))
    point = ForkPoint(run=FIRST, stage="rl", iteration=20)
    history.records = [
        (name, record.model_copy(update={"forked_from": point}))
        if isinstance(record, StageRecord) and (record.run, record.stage) == (SECOND, "rl")
        else (name, record)
        for name, record in history.records
    ]
    visitor = client(empty_site(tmp_path, history))
    assert f"continued from iteration 20 of {FIRST}" in Outline(visitor.get(f"/runs/{SECOND}").text).text
    curves = Outline(visitor.get(f"/runs/{SECOND}", params={"tab": "curves"}).text).text
    assert f"It continued from iteration 20 of {FIRST} : the steps up to there are that run's." in curves
    assert f"forked from {FIRST}:rl@20" in Outline(visitor.get(link_to(f"execution:{SECOND}:rl")).text).text
    assert "continued from" not in visitor.get(f"/runs/{FIRST}").text


def test_a_failed_evaluation_is_part_of_its_stages_row(tmp_path: Path) -> None:
    history = History()
    run = history.add_run(FIRST)
    failed = run["evaluate/rl"].model_copy(update={"evaluation": None, "failure": Failure(error="OSError: full")})
    history.records = [
        (name, failed if record == run["evaluate/rl"] else record)
        for name, record in history.records
        if name != f"stages/{failed.key}"
    ]
    visitor = client(empty_site(tmp_path, history))
    outline = Outline(visitor.get(f"/runs/{FIRST}").text)
    assert "rl succeeded 1 of 1 held evaluation failed" in outline.text
    assert "evaluate/" not in outline.text
    assert "OSError: full" in visitor.get(link_to(f"execution:{FIRST}:evaluate/rl")).text


def test_curves_of_two_runs_are_of_one_length(visitor: TestClient) -> None:
    answer = visitor.get("/curves.json", params={"run": [FIRST, SECOND], "stage": "rl"}).json()
    points = answer["metrics"]["rl/accuracy"]
    assert answer["runs"] == [FIRST, SECOND] and points["steps"] == list(range(1, 21))
    assert [len(series) for series in points["series"]] == [20, 20]
    assert points["series"][1][0] == pytest.approx(0.45)


def test_curves_begin_at_the_first_logged_step_and_are_thinned_out_to_the_last() -> None:
    history = [{"other": 1.0}] * 10 + [{"loss": float(step), "other": 2.0} for step in range(3 * MAX_POINTS)]
    curves = {curve.metric: curve for curve in curves_of([stage_record("rl", "run", history=history), None])}
    points = curves["loss"].points
    assert points["steps"][0] == 11 and points["steps"][-1] == 10 + 3 * MAX_POINTS
    assert len(points["steps"]) <= MAX_POINTS + 1 and points["series"][0][-1] == 3.0 * MAX_POINTS - 1
    assert set(points["series"][1]) == {None}


def test_what_an_evaluation_measured_by_length_is_drawn_over_the_lengths() -> None:
    by_length: list[dict[str, Any]] = [
        {"tokens": length, "tasks": 4, "accuracy": 1 / length, "kinds": {}} for length in (512, 2048)
    ]
    evaluation: dict[str, Any] = {"problems": 1, "samples": 1, "accuracy": 1, "standard_error": 0, "mean_tokens": 9}
    evaluation |= {"median_tokens": 9, "p99_tokens": 9, "limits": [{"tokens": 16, "accuracy": 1}]}
    context = {"lengths": by_length, "threshold": 0.5, "effective_length": 0}
    records = [
        stage_record("evaluate/rl", "run", evaluation=Evaluation.model_validate(each))
        for each in (evaluation | {"context": context}, evaluation | {"limits": [{"tokens": 32, "accuracy": 0.5}]})
    ]
    points = {curve.metric: curve.points for curve in curves_of(records)}
    assert points["accuracy by context"] == {
        "steps": [512, 2048],
        "of": "tokens",
        "series": [[1 / 512, 1 / 2048], [None, None]],
    }
    assert points["accuracy by tokens allowed"]["series"] == [[1, None], [None, 0.5]]


def test_a_tags_history_is_listed_newest_first(visitor: TestClient) -> None:
    text = Outline(visitor.get("/tags/production").text).text
    assert text.index("rl") < text.index("long_cot_sft")
    assert visitor.get("/tags/never-set").status_code == 404


def test_notes_on_a_run_are_on_its_page_as_text(tmp_path: Path) -> None:
    site = made_up_site(tmp_path)
    visitor = client(site)
    assert "Notes" not in Outline(visitor.get(f"/runs/{FIRST}").text).text
    for text in ("the learning rate\nwas too high", HOSTILE):
        note = NoteRecord(run=FIRST, text=text, time="2026-01-05T00:00:00+00:00", by=HOSTILE)
        records.write(site.store, f"notes/{FIRST}", note)
    html = visitor.get(f"/runs/{FIRST}").text
    text = Outline(html).text
    assert "Notes 2 the learning rate was too high" in text and "05 Jan 2026, 00:00 UTC" in text
    assert (
        html.count("&lt;script&gt;") == 3 and "<script>window" not in html and not set("\u202e\u200b\x1b") & set(html)
    )
    assert "Notes" not in Outline(visitor.get(f"/runs/{SECOND}").text).text


def test_runs_that_were_deleted_break_no_page(tmp_path: Path) -> None:
    """First while the index still has them, then without: a tag and a run that reused stages still name the first."""
    site = made_up_site(tmp_path)
    visitor, pages = client(site), every_page(site)
    for record in (tmp_path / "store" / "records").rglob("*.json"):
        if json.loads(record.read_text()).get("run") in (FIRST, SECOND) and "tags" not in record.parts:
            record.unlink()
    shutil.rmtree(tmp_path / "store" / "objects")
    shutil.rmtree(tmp_path / "home" / "runs" / FIRST)
    for page in pages:
        assert visitor.get(page).status_code in (200, 404, 502), page
    assert visitor.get(f"/runs/{FIRST}").status_code == 200 and visitor.get(f"/runs/{FIRST}/report").status_code == 404
    site.index.rebuild(site.store)
    for page in pages:
        assert visitor.get(page).status_code in (200, 404, 502), page
    gone = visitor.get(f"/runs/{SECOND}")
    assert gone.status_code == 404 and SECOND in gone.text
    assert f"data reused from {FIRST}" in Outline(visitor.get(f"/runs/{RUNNING}").text).text
    site.index.close()


def test_records_of_unexpected_shapes_break_no_page(tmp_path: Path) -> None:
    history = History()
    odd: dict[str, Any] = {
        "gates": [
            {},
            {"gate": 3, "checks": 7},
            {"gate": "g", "checks": [4, {"examples": [None, {}], "unexpected": "x"}]},
        ],
        "metrics": {"a": [1, {"b": None}], "c": {}, "d": True},
        "history": [{"x": "text", "y": None}, {"x": 1, "z": [2]}, {"y": True}],
        "config": {"own": None, "list": [{"a": 1}], "": {"": 1}},
    }
    history.add_run(FIRST, **odd)
    history.add_run(SECOND, minutes=10, **odd, evaluation=None)
    for gate in ({}, {"rule": 3, "passed": "yes"}, {"rule": "r", "value": [1], "limit": {}}):
        history.set_tag("odd", None, minutes=len(history.records))
        name, tag = history.records.pop()
        history.records.append((name, tag.model_copy(update={"gates": [gate]})))
    site = empty_site(tmp_path, history)
    visitor = client(site)
    tags = visitor.get("/tags/odd").text
    assert f"3 {NONE} (limit {NONE})" in Outline(tags).text and "status broken" in tags and "status held" not in tags
    tabs = ("stages", "curves", "evaluation", "gates", "configuration")
    pages = [f"/runs/{run}?tab={tab}" for run in (FIRST, SECOND) for tab in tabs] + [f"/compare?a={FIRST}&b={SECOND}"]
    pages += [link_to(f"execution:{FIRST}:rl"), link_to(f"gate:{FIRST}:rl:2"), "/runs", "/models", "/tags"]
    for page in pages:
        assert visitor.get(page).status_code == 200, page


def test_new_records_and_an_unreadable_store_are_announced(tmp_path: Path) -> None:
    site = made_up_site(tmp_path)
    folder = tmp_path / "more"
    ref = put(site.store, folder, {"a": "b"}, "model")
    assert client(site).get(f"/artifacts/{ref.digest}/file?path=a").status_code == 200
    missing = client(site).get(f"/artifacts/{'0' * 64}/file?path=a")
    assert missing.status_code == 502 and "has no folder" in missing.text


def luminance(colour: str) -> float:
    """Relative luminance of #rrggbb (WCAG 2.2)."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """Contrast of two colours, from 1 to 21 (WCAG 2.2)."""
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def test_text_stands_out_from_its_ground_in_light_and_dark() -> None:
    style = (Path(web.__file__).parent / "static" / "style.css").read_text()
    pairs = re.findall(r"--([a-z]+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\)", style)
    assert len(pairs) == len(re.findall(r"light-dark\(", style)) == 20
    for scheme in (1, 2):
        colours = {each[0]: each[scheme] for each in pairs}
        for text in ("ink", "soft", "link", "good", "bad", "warn", "first", "second"):
            for ground in ("page", "card", "raised"):
                assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground, scheme)
        # What stands on a node of its own colour, and shapes and lines, which need 3 to 1.
        for kind in ("execution", "tag", "link"):
            assert contrast(colours["card"], colours[kind]) >= 4.5, (kind, scheme)
        for shape in ("artifact", "execution", "source", "gate", "run", "tag", "edge", "focus"):
            assert contrast(colours[shape], colours["card"]) >= 3, (shape, scheme)


@pytest.mark.parametrize("name", ["page", "tables"])
def test_every_control_has_a_name_and_every_table_heads(visitor: TestClient, site: Site, name: str) -> None:
    for page in every_page(site):
        html = visitor.get(page).text
        outline = Outline(html)
        if name == "tables":
            for head in outline.of("th"):
                assert head.get("scope") in ("col", "row"), page
            assert len(outline.of("caption")) == len(outline.of("table"))
            continue
        assert len(outline.of("h1")) == 1 and len(outline.of("main")) == 1 and "Skip to the content" in outline.text
        ids = [attributes["id"] for _, attributes in outline.tags if "id" in attributes]
        assert len(ids) == len(set(ids)), page
        labelled = {label["for"] for label in outline.of("label")}
        for field in outline.of("input", "select"):
            assert field.get("type") == "hidden" or field["id"] in labelled, page
        for reference in ("aria-labelledby", "aria-describedby"):
            for _, attributes in outline.tags:
                assert attributes.get(reference, ids[0]) in ids, (page, attributes)
        assert all("alt" in image for image in outline.of("img"))
        assert outline.of("html")[0]["lang"] == "en"
