"""How old the newest model is, against times worked out by hand."""

from datetime import UTC, datetime, timedelta

import pytest

from flows.freshness import Freshness, check_freshness
from infra.lineage.rows import ModelRow

NOW = datetime(2026, 1, 15, 12, tzinfo=UTC)


def model(started: str | None, stage: str = "rl") -> ModelRow:
    return ModelRow("artifact:ab", "ab" * 32, "model", stage, "run-1", started, None, None, None, "", ())


@pytest.mark.parametrize(
    ("started", "passed", "summary"),
    [
        ("2026-01-01T12:00:00+00:00", True, "is 14.0 days old, and a new one is expected every 14 days"),
        (
            "2026-01-01T11:59:59+00:00",
            False,
            "no new model for 14.0 days: the newest is abababababab (rl of run run-1)",
        ),
        ("2026-01-14T00:00:00", True, "is 1.5 days old"),
        ("2026-01-15T14:00:00+00:00", True, "is -0.1 days old"),
        ("yesterday", False, "was made is unknown"),
        (None, False, "was made is unknown"),
    ],
)
def test_a_model_is_fresh_up_to_the_limit_and_not_beyond(started: str | None, passed: bool, summary: str) -> None:
    rows = [model("2026-01-15T00:00:00+00:00", "import"), model(started)]
    result = check_freshness(rows, timedelta(days=14), None, NOW)
    assert (result.passed, summary in result.summary) == (passed, True), result.summary


def test_models_of_other_stages_do_not_count_where_one_is_named() -> None:
    rows = [model("2026-01-15T00:00:00+00:00", "long2short/dpo"), model("2025-01-15T00:00:00+00:00")]
    assert [check_freshness(rows, timedelta(days=14), stage, NOW).passed for stage in (None, "rl")] == [True, False]
    nothing = check_freshness(rows, timedelta(days=14), "vanilla_sft", NOW)
    assert nothing == Freshness(None, None, timedelta(days=14), "vanilla_sft") and not nothing.passed
    assert nothing.summary.startswith("there is no model of stage 'vanilla_sft', and a new one")
