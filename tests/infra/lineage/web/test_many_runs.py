"""Many runs in tables and curves, gates over time, benchmarks and schedules, for a reader without scripts."""

import csv
import io
import re
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from infra.lineage.web.site import Site
from tests.infra.lineage.records import EVALUATION, History
from tests.infra.lineage.web.page_site import FIRST, RUNNING, SECOND, Outline, client, empty_site


@pytest.fixture
def visitor(site: Site) -> TestClient:
    return client(site)


def runs_in(text: str) -> list[str]:
    return list(dict.fromkeys(re.findall(r"2026010\d-000000-nano", text[text.index("Chosen for curves") :])))


def test_a_table_has_the_chosen_columns_sorted_and_filtered(visitor: TestClient) -> None:
    text = Outline(visitor.get("/runs?column=rl:loss;+name&sort=-rl:loss&where=stages>=7;seed=0").text).text
    assert "2 runs where stages>=7 and seed=0" in text and runs_in(text) == [SECOND, FIRST]
    assert re.search(rf"{FIRST} {FIRST} succeeded made-up .* 0.5 made-up", text)
    assert runs_in(Outline(visitor.get("/runs?where=status=running").text).text) == [RUNNING]
    assert "is not a condition" in visitor.get("/runs?where=rl.tau").text
    assert "rl:loss" in text and "long_cot_sft:accuracy" in text, "among the columns that there are"


def test_the_table_is_had_as_json_and_csv(visitor: TestClient) -> None:
    query = "column=rl:loss&sort=run"
    data = visitor.get(f"/runs.json?{query}").json()
    assert data["total"] == 3 and [row["run"] for row in data["runs"]] == [FIRST, SECOND, RUNNING]
    assert data["runs"][0]["columns"] == {"rl:loss": 0.5}
    answer = visitor.get(f"/runs.csv?{query}")
    rows = list(csv.reader(io.StringIO(answer.text)))
    assert rows[0][0] == "run" and rows[0][-1] == "rl:loss" and rows[1][0] == FIRST and rows[1][-1] == "0.5"
    assert "attachment" in answer.headers["content-disposition"]
    assert visitor.get("/runs.csv?where=nonsense").status_code == 404


def test_curves_of_several_runs_are_in_one_plot(visitor: TestClient) -> None:
    names = [FIRST, SECOND, RUNNING]
    outline = Outline(visitor.get("/curves", params={"run": names}).text)
    assert "Curves of 3 runs" in outline.text and outline.of("section")[-1]["data-curves"].startswith(
        "/curves.json?run="
    )
    answer = visitor.get("/curves.json", params={"run": names, "stage": "rl"}).json()
    assert answer["runs"] == names and len(answer["metrics"]["rl/accuracy"]["series"]) == 3
    assert "No run is chosen" in visitor.get("/curves").text
    assert visitor.get("/curves?run=no-such-run").status_code == 404
    assert len(visitor.get("/curves.json", params={"run": [FIRST] * 20}).json()["runs"]) == 1


def test_runs_are_grouped_by_seed_with_intervals_and_paired_differences(tmp_path: Path) -> None:
    history = History()
    accuracies = {"a": (0.50, 0.52, 0.54), "b": (0.61, 0.62, 0.63)}
    for rate, values in accuracies.items():
        for seed, accuracy in enumerate(values):
            history.add_run(
                f"{rate}-{seed}",
                minutes=60 * len(history.records),
                seed=seed,
                evaluated=False,
                evaluation=EVALUATION | {"accuracy": accuracy},
                config={"own": {"rate": rate}},
                history=[{"rl/accuracy": accuracy * step} for step in range(3 + seed)],
            )
    visitor = client(empty_site(tmp_path, history))
    names = [f"{rate}-{seed}" for rate in accuracies for seed in range(3)]
    text = Outline(visitor.get("/groups", params={"run": names}).text).text
    assert "6 runs, grouped by all but the seed" in text and "0: a-0 , 1: a-1 , 2: a-2" in text
    # The differences are 0.11, 0.10 and 0.09: 0.1 ± 4.303 · 0.01 / √3.
    assert re.search(r"rl:accuracy made-up \(as b-0\) 3 62.0% \[59.5%, 64.5%\] \+10.0% \[\+7.5%, \+12.5%\]", text)
    (first, second) = visitor.get("/groups.json", params={"run": names}).json()["groups"]
    assert first["figures"]["rl:accuracy"]["difference"] is None
    assert second["figures"]["rl:accuracy"]["difference"]["mean"] == pytest.approx(0.1)
    points = visitor.get("/groups/curves.json", params={"run": names, "stage": "rl"}).json()["metrics"]["rl/accuracy"]
    assert points["series"][0] == pytest.approx([0, 0.52, 1.04]), "the steps that all seeds have"
    assert "No run is chosen" in visitor.get("/groups").text
    assert visitor.get("/groups?run=no-such-run").status_code == 404


def test_a_gate_has_its_figures_over_all_runs(visitor: TestClient) -> None:
    outline = Outline(visitor.get("/gates?stage=rl&gate=prompts").text)
    assert "2 executions, newest first" in outline.text
    history = outline.text[outline.text.index("Figures of the gate") :]
    assert history.index(SECOND) < history.index(FIRST) and "no row is empty: rows that broke it" in history
    points = visitor.get("/gates.json?stage=rl&gate=prompts").json()["metrics"]["rows"]
    assert points == {"steps": [1, 2], "series": [[100.0, 100.0]], "of": "execution"}
    assert visitor.get("/gates?stage=nothing&gate=<b>").status_code == 200
    assert "data rows" in Outline(visitor.get("/gates").text).text


def test_models_are_compared_by_benchmark(visitor: TestClient) -> None:
    text = Outline(visitor.get("/benchmarks").text).text
    assert re.search(
        rf"evaluate/rl {FIRST} .* 64.0% \(the best\) 58.0% to 66.0% 1,319 problems × 4, pass@4 75.0%", text
    )
    assert re.search(rf"rl {SECOND} .* 60.0%", text)


def test_schedules_have_next_times_history_and_what_each_started(visitor: TestClient) -> None:
    outline = Outline(visitor.get("/schedules").text)
    assert "No scheduler is running" in outline.text and "Mon 2026-01-05 03:00 +0100" in outline.text
    assert re.search(rf"failed ValueError: no luck time {SECOND} .* 10 min 00 s", outline.text)
    assert "none: it is paused" in outline.text and f"/runs/{SECOND}" in [each.get("href") for each in outline.of("a")]
    assert not [each for each in outline.of("a") if "/actions" in each.get("href", "")]


def test_a_history_of_one_run_draws_no_curve(visitor: TestClient) -> None:
    assert "data-curves" not in visitor.get("/gates?stage=data&gate=data+rows").text
