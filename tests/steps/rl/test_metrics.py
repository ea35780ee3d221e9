"""RL's metrics: their names, and histories that other versions wrote."""

import math
from typing import Any

import pytest

from steps.rl.checkpoint import RlState
from steps.rl.metrics import (
    HandoverMetrics,
    IterationMetrics,
    RolloutMetrics,
    TrainingMetrics,
    key,
    stage_metrics,
)


def metrics(iteration: int = 0, **changes: float) -> IterationMetrics:
    """An iteration in which no group was done."""
    rollout = RolloutMetrics(
        rollout_tokens=128,
        rollout_seconds=2,
        reread_tokens=64,
        computed_tokens=256,
        groups_done=0,
        groups_in_buffer=4,
        groups_dropped=0,
        groups_failed=0,
        batch_fill=0,
        repetition_stops=0,
        repetition_tokens_saved=0,
        length_stops=0,
        failed_judgements=0,
    )
    training = TrainingMetrics(no_signal_share=0, training_seconds=1)
    handover = HandoverMetrics.of({"update": 0.5, "onload": 0.25})
    return IterationMetrics.join(iteration, rollout, training, handover).model_copy(update=changes)


def test_a_figure_without_a_value_is_not_logged_and_the_iteration_is_not_a_figure() -> None:
    logged = metrics(3, accuracy=0.5).logged()
    assert logged["rl/accuracy"] == 0.5
    assert "rl/response_tokens" not in logged and "rl/iteration" not in logged
    assert (logged["rl/update_seconds"], logged["rl/handover_seconds"]) == (0.5, 0.75)


def test_the_report_cannot_ask_for_a_figure_that_no_iteration_reports() -> None:
    assert key("accuracy") == "rl/accuracy"
    with pytest.raises(ValueError, match=r"RL reports no 'acuracy'; it reports .*accuracy"):
        key("acuracy")


def test_the_stages_figures_are_the_last_iterations_and_totals() -> None:
    reported = stage_metrics([metrics(0, accuracy=0.25), metrics(1, rollout_tokens=72.0, accuracy=0.5)])
    assert (reported["accuracy"], reported["iterations"], reported["tokens"]) == (0.5, 2, 200)
    assert reported["handover_share"] == pytest.approx(0.75 / 3.75)
    assert (reported["reread_tokens"], reported["reread_share"]) == (128, 0.25)
    assert "iteration" not in reported and "staleness" not in reported


OLD: dict[str, Any] = {
    "iteration": 0,
    "rollout_tokens": 96.0,
    "rollout_seconds": 1.5,
    "groups_done": 0.0,
    "groups_in_buffer": 2.0,
    "groups_dropped": 0.0,
    "groups_failed": 0.0,
    "batch_fill": 0.0,
    "repetition_stops": 0.0,
    "repetition_tokens_saved": 0.0,
    "length_stops": 0.0,
    "failed_judgements": 0.0,
    "update_seconds": 0.02,
    "handover_seconds": 0.02,
    "no_signal_share": 0.0,
    "log_ratio_max": math.inf,
    "training_seconds": 0.1,
    "a_figure_of_another_version": 7.0,
}
"""A row as earlier versions wrote it: a mapping, in which figures without a value are missing."""


def test_a_state_of_a_version_without_these_types_is_read() -> None:
    old = {"next_iteration": 1, "sampler": {"success": {}, "random": [3, [1, 2], None]}, "groups": [], "ledger": []}
    state = RlState.model_validate(old | {"history": [OLD]})
    assert RlState.model_validate_json(state.model_dump_json()) == state
    assert state.history[0].values() == {
        **{name: value for name, value in OLD.items() if name not in ("iteration", "a_figure_of_another_version")},
        **dict.fromkeys(("offload_seconds", "release_seconds", "onload_seconds"), 0.0),
    }
