import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from flows.cli.lineage import lineage
from tests.infra.lineage.records import History, digest, stage_record, write_history

HOSTILE = "data/[bold]\x1b[31m\u202enasty.jsonl"


class Asking:
    """Calls `longhaul lineage` on a store and an index of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = folder / "store"

    def __call__(self, *arguments: str) -> Result:
        options = ["--store", str(self.store), "--index", f"sqlite:///{self.folder / 'index.sqlite'}"]
        return CliRunner(env={"COLUMNS": "200"}).invoke(lineage, [arguments[0], *options, *arguments[1:]])

    def json(self, *arguments: str) -> Any:
        result = self(*arguments, "--json")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)


@pytest.fixture
def ask(tmp_path: Path) -> Asking:
    history = History()
    sources = {"data": {"data/train.jsonl": digest("train"), HOSTILE: digest("nasty")}}
    first = history.add_run("first", sources=sources)
    reuse = {stage: first[stage] for stage in ("data", "import", "vanilla_sft", "curation")}
    history.add_run("second", minutes=60, reuse=reuse, config={"own": {"learning_rate": 2e-4}})
    history.set_tag("production", first["rl"], 100)
    asking = Asking(tmp_path)
    write_history(asking.store, history.records)
    return asking


def test_upstream_is_a_tree_down_to_the_files(ask: Asking) -> None:
    result = ask("upstream", "production")
    assert result.exit_code == 0
    assert result.stdout.startswith("tag production")
    assert "source data/train.jsonl" in result.stdout
    assert "execution rl  first" in result.stdout
    assert "second" not in result.stdout
    assert "\x1b" not in result.stdout
    assert "\u202e" not in result.stdout
    assert "[bold]" in result.stdout
    actual = ask.json("upstream", "production", "--depth", "1")
    assert [node["kind"] for node in actual["nodes"]] == ["tag", "artifact"]


def test_downstream_of_a_file_reaches_runs_and_tags(ask: Asking) -> None:
    actual = ask.json("downstream", "train.jsonl")
    labels = {(node["kind"], node["label"]) for node in actual["nodes"]}
    assert {("run", "first"), ("run", "second"), ("tag", "production")} <= labels
    assert "nodes downstream" in ask("downstream", "train.jsonl").stdout


def test_models_that_saw_a_file_are_listed(ask: Asking) -> None:
    actual = ask.json("saw", "train.jsonl")
    assert len(actual["models"]) == 8 + 6
    assert "production" in ask("saw", "train.jsonl").stdout
    last = actual["models"][0]["digest"]
    assert "no model saw" in ask("saw", last).stdout


def test_what_is_called_nothing_is_taken_for_a_prompt(ask: Asking) -> None:
    result = ask("saw", "Start with 4. Add 3.")
    assert result.exit_code == 1
    assert "no stage has sampled it as a prompt" in result.stderr


def test_differences_of_two_models_are_a_table(ask: Asking) -> None:
    actual = ask.json("diff", "first:rl", "second:rl")
    by_stage = {stage["stage"]: stage for stage in actual["stages"]}
    change = next(each for each in by_stage["rl"]["changes"] if each["what"] == "config")
    assert (change["name"], change["before"], change["after"]) == ("engine.dtype", "float32", None)
    displayed = ask("diff", "first:rl", "second:rl").stdout
    assert "own.learning_rate" in displayed
    assert "the same execution" in displayed


def test_what_would_rerun_is_listed_with_its_reason_and_time(ask: Asking) -> None:
    actual = ask.json("rerun", "train.jsonl")
    assert actual["run"] == "second"
    assert len(actual["stages"]) == 10 + 8  # the stages and the evaluations of their models
    assert actual["seconds"] == 18 * 30
    displayed = ask("rerun", "train.jsonl", "--run", "first").stdout
    assert "18 stages would rerun, about 9 min 00 s" in displayed
    assert "model from rl" in displayed


def test_the_index_tells_what_it_added_and_how_fast(ask: Asking) -> None:
    first = ask.json("index")
    assert first["new"] == first["total"] > 20
    assert "0 records added" in ask("index").stdout
    assert f"{first['total']} records added" in ask("index", "--rebuild").stdout


def test_a_corrupted_record_is_reported_and_the_rest_answered(ask: Asking) -> None:
    broken = next((ask.store / "records" / "runs" / "second").glob("*.json"))
    broken.write_text("{")
    result = ask("upstream", "production")
    assert result.exit_code == 0
    assert f"skipped: {ask.store}" in result.stderr
    assert broken.name in result.stderr


@pytest.mark.parametrize("form", ["openlineage", "mermaid", "json"])
def test_exports_are_written_to_a_file_or_shown(ask: Asking, form: str, tmp_path: Path) -> None:
    displayed = ask("export", "--format", form, "--run", "first")
    assert displayed.exit_code == 0, displayed.output
    out = tmp_path / "out" / "lineage.txt"
    assert ask("export", "--format", form, "--run", "first", "--out", str(out)).exit_code == 0
    assert out.read_text() == displayed.stdout
    if form == "openlineage":
        assert {json.loads(line)["eventType"] for line in displayed.stdout.splitlines()} == {"START", "COMPLETE"}
    elif form == "mermaid":
        assert displayed.stdout.startswith("flowchart LR")
    else:
        assert len(json.loads(displayed.stdout)["nodes"]) > 20


def test_parts_of_an_export_exclude_each_other(ask: Asking) -> None:
    result = ask("export", "--format", "json", "--run", "first", "--upstream-of", "rl")
    assert result.exit_code == 1
    assert "exclude each other" in result.stderr
    everything = json.loads(ask("export", "--format", "json").stdout)
    part = json.loads(ask("export", "--format", "json", "--downstream-of", "production").stdout)
    assert len(part["nodes"]) == 1 < len(everything["nodes"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("upstream", "nothing-like-it"),
            "nothing in the lineage is called 'nothing-like-it'. The newest run is",
        ),
        (("diff", "first", "rl"), "give a model's tag, RUN:STAGE or digest"),
        (("rerun", "train.jsonl", "--run", "x"), "nothing has read 'train.jsonl' in run 'x'"),
        (("export", "--format", "json", "--run", "x"), "there is no run 'x'"),
    ],
)
def test_what_cannot_be_answered_is_one_message(ask: Asking, arguments: tuple[str, ...], message: str) -> None:
    result = ask(*arguments)
    assert result.exit_code == 1
    assert message in result.stderr
    assert "Traceback" not in result.output


def test_an_index_that_cannot_be_used_is_named(ask: Asking, tmp_path: Path) -> None:
    (tmp_path / "index.sqlite").write_text("no database " * 200)
    result = ask("index")
    assert result.exit_code == 1
    assert "index.sqlite cannot be used" in result.stderr


def test_names_of_others_cannot_drive_the_terminal(tmp_path: Path) -> None:
    ask = Asking(tmp_path)
    nasty = stage_record("\x1b]0;x\x07[red]rl", "first", sources={HOSTILE: digest(1)}, config={"\x1b[2J": "\x1b[2J"})
    other = nasty.model_copy(update={"run": "second", "config": {}, "key": digest("other")})
    write_history(ask.store, [("stage-runs/first", nasty), ("stage-runs/second", other)])
    for arguments in (
        ("upstream", "first"),
        ("saw", "nasty.jsonl"),
        ("diff", f"first:{nasty.stage}", f"second:{nasty.stage}"),
        ("rerun", "nasty.jsonl"),
        ("export", "--format", "mermaid"),
        ("upstream", "\x1b[2J"),
    ):
        result = ask(*arguments)
        assert "\x1b" not in result.output
        assert "\x07" not in result.output
