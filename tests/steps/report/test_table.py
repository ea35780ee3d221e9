"""The report's table, from made-up records."""

import json

import pytest
from made_up_run import STAGES, digest, record, ref
from outline import Outline

from infra.stages import StageRecord
from steps.report import figures
from steps.report.page import render_report
from steps.report.table import report_rows


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


def test_curation_shows_the_model_that_it_was_given_and_its_own_seconds() -> None:
    sft, curation = record("vanilla_sft"), record("curation", seconds=9.5)
    first, second = report_rows([sft, curation])
    for key in ("model", "accuracy", "mean_tokens", "p99_tokens"):
        assert second[key] == first[key] is not None
    assert second["seconds"] == 9.5


def test_curation_borrows_no_figures_from_a_model_that_it_was_not_given() -> None:
    other = record("vanilla_sft", outputs={"model": ref("model", "another")})
    row = report_rows([other, record("curation")])[1]
    assert row["model"] == digest("vanilla_sft")[:12]
    assert row["accuracy"] is row["mean_tokens"] is row["p99_tokens"] is None


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
