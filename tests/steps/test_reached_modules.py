"""What each part of the recipe reaches by its imports, and so what an edit puts into the keys of which stages."""

import pytest

from infra.stages.code_digest import reached_modules

METHODS = {"merge", "shortest", "dpo"}
SHARED_SETTINGS = {"phase", "responses", "judging"}
"""Settings that several stages have, or that a stored model brings along."""


def below(package: str, module: str) -> set[str]:
    """The modules of a package that a module reaches, by their names in it."""
    return {name.removeprefix(f"{package}.") for name in reached_modules(module) if name.startswith(f"{package}.")}


@pytest.mark.parametrize("method", sorted(METHODS))
def test_an_edit_to_one_long2short_method_does_not_reach_another(method: str) -> None:
    assert below("steps.long2short", f"steps.long2short.{method}") & METHODS == {method}


@pytest.mark.parametrize(
    ("module", "own"),
    [
        ("steps.sft", "sft"),
        ("steps.curation", "curation"),
        ("steps.long_cot", "long_cot"),
        ("steps.reward_models", "reward_models"),
        ("steps.rl.iteration", "rl"),
        ("steps.long2short.shortest", "shortest"),
        ("steps.long2short.dpo", "dpo"),
        ("steps.import_checkpoint", "import_checkpoint"),
        ("steps.evaluation", "evaluation"),
        ("steps.nano_world.world", "data"),
    ],
)
def test_a_stage_reaches_its_own_settings_and_no_others(module: str, own: str) -> None:
    assert below("steps.configs", module) - SHARED_SETTINGS == {own}


@pytest.mark.parametrize(
    "module",
    ["steps.sft", "steps.curation", "steps.long_cot", "steps.reward_models", "steps.evaluation", "steps.workbench"],
)
def test_an_edit_to_rl_reaches_no_stage_but_rl(module: str) -> None:
    assert below("steps.rl", module) == set()


@pytest.mark.parametrize("module", ["steps.sft", "steps.curation", "steps.long_cot", "steps.rl.iteration"])
def test_the_nano_world_is_reached_by_its_own_stages_alone(module: str) -> None:
    assert below("steps.nano_world", module) == set()


def test_rl_reaches_how_reward_models_judge_and_not_how_they_are_trained() -> None:
    reached = below("steps.rewards", "steps.rewards.load")
    assert {"classic_rm", "cot_rm"} <= reached and "classic_rm_training" not in reached
    assert "steps.supervised" not in reached_modules("steps.rewards.load")
