"""Evaluating finished models: what is evaluated, what is reused, what it is compared with, and what is reported."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from flows.cli.evaluate import evaluate
from flows.evaluation import Evaluated, compare, evaluate_model, newest_model
from flows.models import ModelNotFound, find_model_record, import_of
from flows.topology import STAGES
from infra.stages.contract import StageContext, StageOutput
from infra.store import records
from infra.store.open import open_store
from infra.store.records import StageRecord, TagRecord
from steps.configs.import_checkpoint import ImportConfig
from steps.promotion import PromotionRules
from steps.report.evaluation_page import render_evaluation
from tests.flows.home import in_home
from tests.flows.made_up_chain import chain, evaluation, finish, made_record, recipe

ROOT = Path(__file__).parents[2]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for module in ("flows.chain", "flows.home", "flows.evaluation", "flows.cli.evaluate"):
        monkeypatch.setattr(f"{module}.HOME", tmp_path / "home")
    # It would start pytest again.
    monkeypatch.setattr("flows.cli.evaluate.enter_engine_environment", lambda: None)
    return tmp_path / "home"


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """In the engine's place: a model's accuracy is what its file says. Returns the models that were evaluated."""
    evaluated: list[str] = []

    def body(context: StageContext, settings: Any) -> StageOutput:
        text = (context.inputs["model"] / "content.json").read_text()
        evaluated.append(text)
        assert (context.inputs["data"] / "test.jsonl").exists()
        return StageOutput({}, {}, evaluation(json.loads(text)["accuracy"]))

    monkeypatch.setattr("steps.stages.evaluate.run", body)
    return evaluated


def add_model(store: Path, folder: Path, run: str, accuracy: float, stage: str = "rl") -> StageRecord:
    """Record a finished model in a run."""
    made = chain(store, run=run)
    place = folder / run
    place.mkdir(parents=True, exist_ok=True)
    (place / "content.json").write_text(json.dumps({"accuracy": accuracy, "run": run}))
    parts = made.parts(stage, dict.fromkeys(STAGES))
    outputs = {"model": made.store.put(place, "model")}
    record = made_record(parts, run, stage, outputs, key=f"{run}-{stage.replace('/', '-')}", upstream={})
    records.write(made.store, f"stages/{record.key}", record)
    records.write(made.store, f"stage-runs/{run}", record)
    return record


def tag(store: Path, record: StageRecord, name: str = "production") -> None:
    set_to = TagRecord(
        tag=name, model=record.outputs["model"], stage=record.stage, run=record.run, time="2026-01-01", by="tester"
    )
    records.write(open_store(store), f"tags/{name}", set_to)


def longhaul_evaluate(store: Path, *arguments: str) -> Result:
    settings = ["--set", f"store={store}", "--set", "tracking.mode=disabled"]
    return CliRunner().invoke(evaluate, ["--config", "configs/smoke.yaml", *settings, *arguments])


def test_a_limit_without_a_benchmark_is_refused_and_not_ignored(home: Path, tmp_path: Path) -> None:
    result = longhaul_evaluate(tmp_path / "store", "--limit", "3")
    assert result.exit_code == 1 and "--limit is for benchmarks, and there is none: name one with" in result.output


def test_the_newest_finished_model_is_that_of_the_newest_run_that_got_so_far(tmp_path: Path) -> None:
    store = tmp_path / "store"
    with pytest.raises(ModelNotFound, match="no finished model"):
        newest_model(open_store(store))
    add_model(store, tmp_path / "made", "run-1", 0.5)
    add_model(store, tmp_path / "made", "run-2", 0.5)
    add_model(store, tmp_path / "made", "run-2", 0.5, stage="long2short/merge")
    add_model(store, tmp_path / "made", "run-3", 0.5, stage="vanilla_sft")
    model, record = newest_model(open_store(store))
    assert (record.run, record.stage) == ("run-2", "long2short/merge")
    assert model == record.outputs["model"]


def test_a_model_is_compared_with_the_tagged_one_and_both_are_evaluated_alike(
    home: Path, engine: list[str], tmp_path: Path
) -> None:
    store = tmp_path / "store"
    tag(store, add_model(store, tmp_path / "made", "run-1", 0.6))
    add_model(store, tmp_path / "made", "run-2", 0.5)
    done = longhaul_evaluate(store, "--json")
    assert done.exit_code == 0, done.output
    reported = json.loads(done.stdout)
    assert (reported["model"]["run"], reported["tagged"]["run"]) == ("run-2", "run-1")
    assert reported["verdict"] == "may not take production: accuracy 50.0%, the tagged model has 60.0%"
    assert [check["passed"] for check in reported["checks"]] == [False]
    assert len(engine) == 2
    page = Path(reported["report"]).read_text()
    assert "may not take production" in page and "-10.0 points" in page
    assert (
        json.loads(Path(reported["report"]).with_name("evaluation.json").read_text())["verdict"] == reported["verdict"]
    )
    allowed = longhaul_evaluate(store, "--json", "--accuracy-drop", "0.1")
    assert json.loads(allowed.stdout)["verdict"].startswith("may take production")
    assert len(engine) == 2, "an evaluation of the same model, data and settings must be used again"


def test_evaluations_leave_the_newest_finished_model_what_it_was(home: Path, engine: list[str], tmp_path: Path) -> None:
    store = tmp_path / "store"
    add_model(store, tmp_path / "made", "run-1", 0.6)
    for _ in range(2):
        done = longhaul_evaluate(store)
        assert done.exit_code == 0, done.output
        assert "no model is tagged production" in done.output
    assert newest_model(open_store(store))[1].run == "run-1"


def test_other_evaluation_settings_evaluate_again(home: Path, engine: list[str], tmp_path: Path) -> None:
    store = tmp_path / "store"
    add_model(store, tmp_path / "made", "run-1", 0.6)
    assert longhaul_evaluate(store).exit_code == 0
    assert longhaul_evaluate(store, "--set", "trainer.ranks=2").exit_code == 0
    assert len(engine) == 1, "how training is configured is not part of an evaluation"
    assert longhaul_evaluate(store, "--set", "evaluation.samples=3").exit_code == 0
    assert len(engine) == 2


def test_the_evaluation_is_a_run_that_lineage_leads_to_from_the_model(
    home: Path, engine: list[str], tmp_path: Path
) -> None:
    from infra.lineage.index import LineageIndex

    store = tmp_path / "store"
    made = add_model(store, tmp_path / "made", "run-1", 0.6)
    evaluated = evaluate_model(recipe(store), "evaluation-1", "run-1:rl", ["evaluate"])
    assert evaluated.record.upstream["model"] == made.outputs["model"].digest
    index = LineageIndex.of(open_store(store), home)
    index.sync(open_store(store))
    assert index.run("evaluation-1").row.status == "succeeded"
    leads_to = index.downstream(f"artifact:{made.outputs['model'].digest}")
    assert "execution:evaluation-1:evaluate" in {node.id for node in leads_to.nodes}
    index.close()


def test_a_failure_is_recorded_in_a_line_and_logged_whole(
    home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def body(context: StageContext, settings: Any) -> StageOutput:
        raise RuntimeError("the engine\x1b[31m broke")

    monkeypatch.setattr("steps.stages.evaluate.run", body)
    store = tmp_path / "store"
    add_model(store, tmp_path / "made", "run-1", 0.6)
    done = longhaul_evaluate(store)
    assert done.exit_code == 1
    assert "RuntimeError: the engine" in done.output and "Traceback" not in done.output
    (log,) = home.glob("runs/*-smoke-evaluate*/error.log")
    assert "Traceback" in log.read_text()
    ends = [r for r in open_store(store).read_records("runs") if r["event"] == "ended"]
    assert ends[-1]["status"] == "failed"
    refused = longhaul_evaluate(store, "no_such_model")
    assert refused.exit_code == 1 and "not a folder, stage, RUN:STAGE" in refused.output


def test_a_checkpoint_outside_the_store_is_imported_and_evaluated(
    home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, base: Path
) -> None:
    def body(context: StageContext, settings: Any) -> StageOutput:
        assert (context.inputs["model"] / "model.safetensors").exists()
        return StageOutput({}, {}, evaluation(0.5))

    monkeypatch.setattr("steps.stages.evaluate.run", body)
    store = tmp_path / "store"
    made = add_model(store, tmp_path / "made", "run-1", 0.6)
    done = longhaul_evaluate(store, str(base), "--json")
    assert done.exit_code == 0, done.output
    reported = json.loads(done.stdout)["model"]
    assert reported["stage"] == "import" and reported["evaluation"]["accuracy"] == 0.5
    again = longhaul_evaluate(store, str(base), "--json")
    assert json.loads(again.stdout)["model"]["evaluated_in"] == reported["evaluated_in"]
    # What was evaluated beside the chain is not the chain's newest run.
    assert find_model_record(open_store(store), "rl")[1].key == made.key

    broken = tmp_path / "broken"
    broken.mkdir()
    refused = longhaul_evaluate(store, str(broken))
    assert (
        refused.exit_code == 1 and "neither model.safetensors" in refused.output and "Traceback" not in refused.output
    )


def test_names_of_checkpoints_outside_the_store_differ_from_those_of_models_in_it(home: Path, tmp_path: Path) -> None:
    assert import_of("Qwen/Qwen2.5-0.5B@main") == ImportConfig(checkpoint="Qwen/Qwen2.5-0.5B", revision="main")
    assert import_of("s3://bucket/model@2") == ImportConfig(checkpoint="s3://bucket/model@2")
    store = tmp_path / "store"
    add_model(store, tmp_path / "made", "run-1", 0.6, "long2short/rl")
    missing = longhaul_evaluate(store, "long2short/dpo")
    assert missing.exit_code == 1 and "long2short/rl" in missing.output and "an s3:// address" in missing.output


def test_what_models_write_cannot_get_out_of_the_page() -> None:
    hostile = "</pre><script>alert(1)</script>\u202e\x1b[2J"
    displayed = {"problem_id": hostile, "domain": hostile, "prompt": hostile, "response": hostile, "reason": hostile}
    figures = evaluation(0.5).model_dump() | {"examples": [displayed | {"reward": 1.0, "tokens": 3}]}
    model = {"digest": "a" * 64, "stage": hostile, "run": hostile, "evaluation": figures, "evaluated_in": hostile}
    page = render_evaluation(
        "nano", {"model": model, "tag": hostile, "tagged": model, "checks": [], "verdict": hostile}
    )
    assert "<script" not in page and "\u202e" not in page and "\x1b" not in page
    assert not re.search(r'(src|href)="https?:', page)


def test_a_model_that_has_the_tag_is_not_compared_with_itself(tmp_path: Path) -> None:
    made = finish(chain(tmp_path / "store"), tmp_path / "made")["rl"]
    one = Evaluated(made.outputs["model"], "rl", "run-1", made)
    reported = compare(one, "production", one, PromotionRules())
    assert (reported.checks, reported.verdict) == ([], "this is the model that is tagged production")


@pytest.mark.slow
def test_the_flow_evaluates_with_the_real_engine_and_the_command_uses_that_again(base: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    made = add_model(store, tmp_path / "made", "run-1", 0.0)
    real = made.model_copy(
        update={"key": "real", "run": "run-2", "outputs": {"model": open_store(store).put(base, "model")}}
    )
    records.write(open_store(store), "stage-runs/run-2", real)
    records.write(open_store(store), "stages/real", real)
    tag(store, real)
    config = tmp_path / "recipe.yaml"
    text = (ROOT / "configs" / "smoke.yaml").read_text().replace("seed: 0", f"seed: 0\nstore: {store}", 1)
    config.write_text(f"{text}\ntracking: {{mode: disabled}}\nschedule: {{cron: '0 3 * * 1', what: evaluate}}\n")
    environment = {**in_home(tmp_path / "home"), "METAFLOW_USER": "tester"}

    def call(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
        )

    flow = call("flows/evaluate.py", "--no-pylint", "--config", "config", str(config), "run")
    assert flow.returncode == 0, flow.stdout[-3000:] + flow.stderr[-3000:]
    assert "this is the model that is tagged production" in flow.stdout
    (page,) = (tmp_path / "home").glob("runs/*/report.html")
    assert "Accuracy by domain" in page.read_text()
    command = call("-m", "flows.cli.evaluate", "run-2:rl", "--config", str(config), "--json")
    assert command.returncode == 0, command.stderr[-3000:]
    assert "evaluate: reused from run" in command.stderr
    reported = json.loads(command.stdout)["model"]["evaluation"]
    assert reported["problems"] == 12 and reported["mean_tokens"] > 0


def test_a_flow_has_the_recipes_schedule_where_that_is_for_it(tmp_path: Path) -> None:
    flow = tmp_path / "some_flow.py"
    flow.write_text(
        "from metaflow import Config, FlowSpec, Parameter, step\nfrom metaflow.flowspec import FlowStateItems\n"
        "from flows.flow_config import read_config, scheduled\n"
        "@scheduled('full', 'rl')\nclass SomeFlow(FlowSpec):\n"
        "    config = Config('config', parser=read_config)\n"
        "    until = Parameter('until', default='')\n"
        "    @step\n    def start(self):\n        self.next(self.end)\n"
        "    @step\n    def end(self):\n        pass\n"
        "try:\n    SomeFlow()\nfinally:\n"
        "    found = SomeFlow._flow_state[FlowStateItems.FLOW_DECORATORS].get('schedule', [])\n"
        "    shown = [(one.attributes['cron'], one.attributes['timezone']) for one in found]\n"
        "    print(shown, repr(dict(SomeFlow._get_parameters())['until'].kwargs['default']))\n"
    )
    smoke = (ROOT / "configs" / "smoke.yaml").read_text()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "METAFLOW_USER": "tester"}
    reported = {}
    for what, place in (("rl", "1"), ("rl", ""), ("evaluate", "")):
        config = tmp_path / f"{what}.yaml"
        config.write_text(f"{smoke}\nschedule: {{cron: '0 3 * * 1', timezone: Europe/Berlin, what: {what}}}\n")
        done = subprocess.run(
            [sys.executable, str(flow), "--no-pylint", "--config", "config", str(config), "show"],
            cwd=tmp_path,
            env=environment | ({"LONGHAUL_CLUSTER": place} if place else {}),
            capture_output=True,
            text=True,
            timeout=120,
        )
        reported[what, place] = done.stdout.splitlines()[-1]
    monday = "[('0 3 * * 1', 'Europe/Berlin')]"
    expected = {("rl", "1"): f"{monday} 'rl'", ("rl", ""): f"{monday} ''", ("evaluate", ""): "[] ''"}
    assert reported == expected, done.stderr[-2000:]
