"""Settings of RL that cannot work are refused when they are read."""

from typing import Any

import pytest
from pydantic import ValidationError

from steps.configs.rl import RlConfig

GOOD: dict[str, Any] = {"iterations": 5, "learning_rate": 1e-4, "final_learning_rate": 2e-5}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"responses": 1}, "responses: 1 leaves nothing to compare with"),
        ({"updates": 9, "groups": 8}, "updates: 9 steps need at least as many groups, and groups is 8"),
        ({"tau": 0}, "tau"),
        ({"baseline": "median"}, "'mean' or 'log_z'"),
        ({"segments": "current"}, "'all' or 'current_only'"),
        ({"temperature": 0}, "temperature"),
        ({"length_reward": {"weigth": 1}}, "length_reward.weigth"),
    ],
)
def test_settings_that_cannot_work_are_refused_by_name(settings: dict[str, Any], message: str) -> None:
    assert RlConfig.model_validate(GOOD).responses == 8
    with pytest.raises(ValidationError, match=message):
        RlConfig.model_validate(GOOD | settings)


def test_the_rate_falls_in_a_line_from_the_first_iteration_to_the_last() -> None:
    rates = [RlConfig.model_validate(GOOD).rate_at(iteration) for iteration in range(5)]
    assert rates == pytest.approx([1e-4, 8e-5, 6e-5, 4e-5, 2e-5])
    assert RlConfig.model_validate(GOOD | {"iterations": 1}).rate_at(0) == 1e-4
