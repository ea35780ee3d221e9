"""Changing single keys of a configuration."""

import pytest

from flows.cli.overrides import apply_overrides
from steps.recipe import ConfigRefused


def test_a_setting_changes_one_key_and_leaves_the_original_alone() -> None:
    raw = {"rl": {"tau": 0.1, "groups": 4}, "phases": [{"rate": 1}, {"rate": 2}]}
    changed = apply_overrides(raw, ["rl.tau=0.2", "phases.1.rate=3", "seed=7"])
    assert changed == {"rl": {"tau": 0.2, "groups": 4}, "phases": [{"rate": 1}, {"rate": 3}], "seed": 7}
    assert raw["rl"] == {"tau": 0.1, "groups": 4}


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("rl.tau", "expected KEY=VALUE"),
        ("rl.tau=010", "--set rl.tau=010 is refused: line 1: YAML reads 010 as an octal"),
        ("rl.tau=[1", "is not YAML"),
        ("nothing.here=1", "no section 'nothing'"),
        ("phases.5.rate=1", "not an index"),
        ("rl.tau.deep=1", "single value"),
    ],
)
def test_a_setting_that_leads_nowhere_is_refused(setting: str, said: str) -> None:
    with pytest.raises(ConfigRefused, match=said):
        apply_overrides({"rl": {"tau": 0.1}, "phases": [{}]}, [setting])
