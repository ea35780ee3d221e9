"""The report's table, from made-up records."""

import json

import pytest

from infra.store.records import StageRecord
from steps.report import figures
from steps.report.page import render_report
from steps.report.table import report_rows, reward_model_rows
from tests.steps.report.made_up_run import STAGES, digest, evaluation, record, ref
from tests.steps.report.outline import Outline


def test_rows_stand_in_the_order_of_the_chain_with_exactly_the_promised_keys(run: list[StageRecord]) -> None:
    rows = report_rows(run[::-1])
    assert [row["stage"] for row in rows] == STAGES[1:]
    for row in rows:
        assert list(row) == ["stage", "model", "accuracy", "mean_tokens", "p99_tokens", "seconds", "peak_memory_mb"]
    by_name = {row["stage"]: row for row in rows}
    assert by_name["rl"]["model"] == digest("rl")[:12]
    assert (by_name["rl"]["accuracy"], by_name["rl"]["mean_tokens"]) == (0.612, 171.3)
    assert by_name["rl"]["seconds"] == 212.6
    assert json.loads(json.dumps(rows)) == rows


def test_curation_has_a_row_without_the_figures_of_the_model_that_it_samples_from() -> None:
    row = report_rows([record("vanilla_sft"), record("curation", seconds=9.5)])[1]
    assert row["model"] is row["accuracy"] is row["mean_tokens"] is row["p99_tokens"] is None
    assert row["seconds"] == 9.5


def test_an_evaluation_is_part_of_its_stages_row_and_adds_no_seconds() -> None:
    older = report_rows([record("rl")])
    made = record("rl", evaluation=None)
    evaluated = record("evaluate/rl", evaluation=evaluation("rl"), seconds=31.0)
    assert report_rows([made, evaluated]) == report_rows([evaluated, made]) == older
    page = render_report("nano", [made, evaluated])
    assert "150 held-out problems, 4 responses to each, temperature 1.0, at most 320 tokens" in page
    assert "evaluate/rl" in page and "Find the smallest positive x" in page


def test_an_evaluation_of_another_model_does_not_count() -> None:
    other = record("evaluate/rl", evaluation=evaluation("rl"), inputs={"model": ref("model", "another")})
    (row,) = report_rows([record("rl", evaluation=None), other])
    assert row["accuracy"] is None


def test_a_missing_evaluation_is_none_and_not_zero() -> None:
    records = [record("rl", evaluation=None)]
    (row,) = report_rows(records)
    assert row["accuracy"] is row["mean_tokens"] is row["p99_tokens"] is None
    assert row["model"] == digest("rl")[:12]
    assert figures.token_efficiency(records) is None
    texts = " ".join(" ".join(Outline(render_report("nano", records)).texts).split())
    assert f"rl {digest('rl')[:12]} – – – " in texts


def test_data_has_no_row_and_two_records_of_a_stage_are_refused() -> None:
    assert report_rows([record("data")]) == []
    with pytest.raises(ValueError, match="'rl' has two records"):
        report_rows([record("rl"), record("rl")])


def test_reward_models_stand_beside_the_reports_figures_and_have_no_row_of_their_own(run: list[StageRecord]) -> None:
    check = {"answers": 400, "accuracy": 0.9, "reported": 0.844, "no_verdict": 2, "forms": {"plain": 1.0}}
    judges = record(
        "reward_models",
        outputs={"classic_rm": ref("model", "classic"), "cot_rm": ref("model", "cot")},
        metrics={"spot_checks": {"classic_rm": check, "cot_rm": check | {"accuracy": 0.97, "reported": 0.985}}},
        evaluation=None,
    )
    first, second = reward_model_rows([*run, judges])
    assert (first["model"], first["digest"], first["accuracy"]) == ("classic", digest("classic")[:12], 0.9)
    assert (second["accuracy"], second["reported"], second["no_verdict"]) == (0.97, 0.985, 2)
    assert report_rows([*run, judges]) == report_rows(run)
    assert reward_model_rows(run) == []
    texts = " ".join(Outline(render_report("nano", [*run, judges])).texts)
    assert "Reward models" in texts and "98.5%" in texts
    assert "Reward models" not in " ".join(Outline(render_report("nano", run)).texts)
