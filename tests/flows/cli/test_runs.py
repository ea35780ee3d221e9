"""The commands that plan, list, show and compare runs and that tag models, on recorded runs."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from flows.cli.main import main
from infra.store import records
from infra.store.open import open_store
from infra.store.records import StageRecord
from tests.flows.made_up_chain import chain, finish


class Commands:
    """`longhaul` in a home of its own, with two runs: the second changed rl.tau and did better."""

    def __init__(self, folder: Path) -> None:
        self.store = folder / "store"
        finish(chain(self.store), folder / "made", accuracy=0.5)
        finish(chain(self.store, "rl.tau=0.25", run="run-2"), folder / "made", accuracy=0.6)

    def __call__(self, *arguments: str) -> Result:
        return CliRunner().invoke(main, [*arguments, "--store", str(self.store)], env={"COLUMNS": "160"})

    def of_recipe(self, command: str, *arguments: str) -> Result:
        settings = ["--set", f"store={self.store}", "--set", "tracking.mode=disabled"]
        return CliRunner().invoke(
            main, [command, "--config", "configs/smoke.yaml", *settings, *arguments], env={"COLUMNS": "160"}
        )


@pytest.fixture
def longhaul(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    for module in ("flows.chain", "flows.home", "flows.staleness", "flows.cli.run", "flows.cli.report"):
        monkeypatch.setattr(f"{module}.HOME", tmp_path / "home")
    return Commands(tmp_path)


def test_the_plan_is_printed_as_json_and_as_a_table(longhaul: Commands) -> None:
    reported = json.loads(longhaul.of_recipe("plan", "--set", "rl.tau=0.5", "--json").output)
    rl = next(one for one in reported["stages"] if one["stage"] == "rl")
    assert (rl["action"], rl["reason"]) == ("run", "rl.tau changed: 0.25 → 0.5")
    assert [one["action"] for one in reported["stages"]].count("reuse") == 8
    table = longhaul.of_recipe("plan", "--set", "rl.tau=0.5").output
    assert "rl.tau changed: 0.25 → 0.5" in table
    assert "10 of 18 stages run, about 10 min 00 s by earlier runs" in table


def test_a_plan_against_a_run_gives_the_differences_from_that_run(longhaul: Commands) -> None:
    options = ("--set", "rl.tau=0.5", "--select", "rl", "--json")
    for run, before in (("run-1", 0.1), ("run-2", 0.25)):
        planned = json.loads(longhaul.of_recipe("plan", "--against", run, *options).output)["stages"]
        (rl,) = (one for one in planned if one["stage"] == "rl")
        assert rl["reason"] == f"rl.tau changed: {before} → 0.5"
    refused = longhaul.of_recipe("run", "--against", "run-1")
    assert refused.exit_code == 1 and "--against is what `--select state:modified` compares with" in refused.stderr
    refused = longhaul.of_recipe("plan", "--against", "run-9")
    assert refused.exit_code == 1 and "there is no run run-9; the newest is run-2" in refused.stderr


def test_a_teachers_key_that_is_missing_is_refused_before_anything_runs(
    longhaul: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TEACHER_KEY", raising=False)
    endpoint = "{url: https://host.example/v1, model: m, key_variable: TEACHER_KEY}"
    teacher = ("--set", f"long_cot_paths={{teacher: {{endpoint: {endpoint}}}, max_response_tokens: 96}}")
    for command in ("plan", "run"):
        refused = longhaul.of_recipe(command, *teacher)
        assert refused.exit_code == 1
        assert "long_cot_paths.teacher.endpoint.key_variable names TEACHER_KEY, and no environment" in refused.stderr
    assert not (tmp_path / "home" / "runs").exists()
    assert longhaul.of_recipe("plan", *teacher, "--only", "data").exit_code == 0, "the teacher is not asked"
    assert longhaul.of_recipe("plan", *teacher, "--set", "cluster={}").exit_code == 0, "pods get it from a secret"
    monkeypatch.setenv("TEACHER_KEY", "sk-7")
    assert longhaul.of_recipe("plan", *teacher).exit_code == 0


def test_an_estimate_is_part_of_planning_and_says_where_it_cannot_fit(longhaul: Commands) -> None:
    estimated = longhaul.of_recipe("plan", "--estimate", "--json")
    assert estimated.exit_code == 0, estimated.output
    assert json.loads(estimated.output)["stages"]
    large = ["--config", "configs/report.yaml", "--set", "trainer.sequence_parallel=1", "--gpu", "l40s"]
    refused = CliRunner().invoke(main, ["plan", "--estimate", *large])
    assert refused.exit_code == 1
    assert "cannot run: " in refused.stderr


def test_a_plan_that_cannot_be_is_one_clear_line(longhaul: Commands) -> None:
    refused = longhaul.of_recipe("plan", "--set", "long_cot_sft.paths=61", "--only", "rl")
    assert refused.exit_code == 1
    assert "stage 'long_cot_sft' is needed" in refused.output and "Traceback" not in refused.output


def test_a_run_in_which_nothing_changed_starts_no_workflow_and_reports(longhaul: Commands, tmp_path: Path) -> None:
    done = longhaul.of_recipe("run", "--json")
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)["stages"]
    assert [row["stage"] for row in rows][:3] == ["import", "vanilla_sft", "curation"]
    assert "rl: reused from run run-1" in done.stderr
    (folder,) = (tmp_path / "home" / "runs").iterdir()
    assert (folder / "report.html").exists()
    assert not (folder / "metaflow.log").exists()
    listed = {one["run"]: one for one in json.loads(longhaul("runs", "--json").output)["runs"]}
    run = listed[folder.name]
    assert (run["status"], run["stages"], run["reused"]) == ("succeeded", 10, 10)


def test_runs_are_listed_and_shown(longhaul: Commands) -> None:
    assert [line.split()[:2] for line in longhaul("runs").output.splitlines() if "run-" in line] == [
        ["run-2", "succeeded"],
        ["run-1", "succeeded"],
    ]
    displayed = longhaul("show", "run-2").output
    assert "long2short/dpo" in displayed and "60.0%" in displayed
    missing = longhaul("show", "run-9")
    assert (
        missing.exit_code == 1 and "nothing in the lineage is called 'run-9'. The newest run is run-2" in missing.output
    )


def test_what_is_shown_says_whether_it_is_current_and_how_to_bring_it_up_to_date(longhaul: Commands) -> None:
    from flows.runs import start_run

    store = open_store(longhaul.store)
    command = ["run", "--config", "configs/smoke.yaml", "--set", "tracking.mode=disabled", "--set", "rl.tau=0.25"]
    start_run(store, "run-2", {}, [*command, "--seed", "0"])
    longhaul("tag", "run-2:rl", "production")
    displayed = longhaul("show", "run-2").output
    assert "current" in displayed and "stale" not in displayed and "to bring it up to date" not in displayed
    start_run(store, "run-2", {}, [*command, "--seed", "7"])
    update = f"longhaul {' '.join(command)} --seed 7"
    displayed = longhaul("show", "run-2").output
    assert "data is stale: seed changed: 0 → 7" in displayed
    assert f"to bring it up to date: {update}\n" in displayed
    for name in ("rl", "run-2:rl", "production"):
        displayed = longhaul("show", name).output
        assert displayed.startswith("rl of run run-2: stale\n  seed changed: 0 → 7; ".partition(";")[0]), name
        assert f"to bring it up to date: {update} --until rl\n" in displayed
    state = json.loads(longhaul("show", "production", "--json").output)["staleness"]
    assert (state["state"], state["command"]) == ("stale", f"{update} --until rl")
    refused = longhaul("show", "checkpoint")
    assert refused.exit_code == 1 and "was made by no stage" in refused.stderr


def test_two_runs_are_compared_by_what_went_in_and_came_out(longhaul: Commands) -> None:
    reported = json.loads(longhaul("diff", "run-1", "run-2", "--json").output)
    changed = {one["stage"]: one["differences"] for one in reported["stages"] if one["differences"]}
    stages = ["rl", "long2short/merge", "long2short/shortest", "long2short/dpo", "long2short/rl"]
    assert list(changed) == [each for stage in stages for each in (stage, f"evaluate/{stage}")]
    assert changed["rl"] == [{"kind": "config", "name": "rl.tau", "before": 0.1, "after": 0.25}]
    rl = next(one for one in reported["stages"] if one["stage"] == "rl")
    assert [figures["accuracy"] for figures in rl["figures"]] == [0.5, 0.6]
    table = longhaul("diff", "run-1", "run-2").output
    assert "rl.tau" in table and "+0.1" in table


def test_accuracy_in_training_is_not_taken_for_that_of_the_evaluation(longhaul: Commands) -> None:
    store = open_store(longhaul.store)
    for run, accuracy in (("run-1", 0.1), ("run-2", 0.9)):
        (rl,) = (each for each in records.read(store, StageRecord, f"stage-runs/{run}") if each.stage == "rl")
        records.write(store, f"stage-runs/{run}", rl.model_copy(update={"metrics": {"accuracy": accuracy}}))
    reported = json.loads(longhaul("diff", "run-1", "run-2", "--json").output)
    rl_figures = next(one["figures"] for one in reported["stages"] if one["stage"] == "rl")
    assert [one["accuracy"] for one in rl_figures] == [0.5, 0.6]
    assert [one["training accuracy"] for one in rl_figures] == [0.1, 0.9]


def test_evaluations_stand_with_the_stage_whose_model_they_evaluate(longhaul: Commands) -> None:
    table = longhaul("diff", "run-1", "run-2").output
    assert "evaluate/" not in table
    assert sum(line.split()[:2] == ["rl", "accuracy"] for line in table.splitlines()) == 1


def test_a_tag_moves_only_to_a_model_that_is_not_worse(longhaul: Commands) -> None:
    assert longhaul("tag", "run-1:rl", "production").exit_code == 0
    assert longhaul("tag", "run-2:rl", "production").exit_code == 0
    refused = longhaul("tag", "run-1:rl", "production")
    assert refused.exit_code == 1
    assert "production stays where it is: accuracy 50.0%, the tagged model has 60.0%" in refused.output
    assert longhaul("tag", "run-1:rl", "production", "--force").exit_code == 1, "why must be said"
    assert longhaul("tag", "run-1:rl", "production", "--force", "--reason", "demo").exit_code == 0
    history = json.loads(longhaul("tag", "--history", "production", "--json").output)["tags"]
    assert [(one["run"], one["reason"]) for one in history] == [("run-1", ""), ("run-2", ""), ("run-1", "demo")]
    assert history[2]["gates"][0]["passed"] is False
    assert longhaul("tag", "run-1:long2short/dpo", "production", "--token-growth", "0").exit_code == 0


def test_a_tag_is_a_models_name_until_it_is_taken_away(longhaul: Commands) -> None:
    longhaul("tag", "run-2:rl", "production")
    assert "run-2" in longhaul("tag").output
    from flows.models import ModelNotFound, find_model_record

    assert find_model_record(open_store(longhaul.store), "production")[1].run == "run-2"
    assert longhaul("tag", "--remove", "production").exit_code == 0
    assert "no model is tagged yet" in longhaul("tag").output
    with pytest.raises(ModelNotFound, match="not a folder, stage, RUN:STAGE, tag or digest"):
        find_model_record(open_store(longhaul.store), "production")
    assert longhaul("tag", "--remove", "production").exit_code == 1
    assert longhaul("tag", "run-2:rl", "Production!").exit_code == 1


@pytest.mark.parametrize("command", [["show", "run-1"], ["diff", "run-1", "run-2"]])
def test_a_stage_whose_name_looks_like_markup_is_shown_as_it_is(longhaul: Commands, command: list[str]) -> None:
    store = open_store(longhaul.store)
    record = next(one for one in records.read(store, StageRecord, "stage-runs/run-1") if one.stage == "evaluate/rl")
    for name in ("[/red]x", "evaluate/[/red]x"):
        records.write(store, "stage-runs/run-1", record.model_copy(update={"stage": name}))
    done = longhaul(*command)
    assert done.exit_code == 0, done.output
    assert "[/red]x" in done.output
