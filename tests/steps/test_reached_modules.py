"""What each part of the recipe reaches by its imports, and so what an edit puts into the keys of which stages."""

from pathlib import Path

import pytest

import steps.stages
from infra.stages.code_digest import reached_modules

METHODS = {"merge", "shortest", "dpo"}
SHARED_SETTINGS = {"phase", "responses", "judging"}
"""Settings that several stages have, or that a stored model brings along."""


def below(package: str, module: str) -> set[str]:
    """The modules of a package that a module reaches, by their names in it."""
    return {name.removeprefix(f"{package}.") for name in reached_modules(module) if name.startswith(f"{package}.")}


@pytest.mark.parametrize("method", sorted(METHODS))
def test_an_edit_to_one_long2short_method_does_not_reach_another(method: str) -> None:
    assert below("steps.long2short", f"steps.stages.{method}") & METHODS == {method}


STAGES = {
    "data": "data",
    "import_checkpoint": "import_checkpoint",
    "vanilla_sft": "sft",
    "curation": "curation",
    "long_cot_sft": "long_cot",
    "reward_models": "reward_models",
    "rl": "rl",
    "merge": "merge",
    "shortest": "shortest",
    "dpo": "dpo",
    "evaluate": "evaluation",
}
"""The module of settings that each stage has of its own."""


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_a_stage_reaches_its_own_settings_and_no_others(stage: str) -> None:
    assert below("steps.configs", f"steps.stages.{stage}") - SHARED_SETTINGS == {STAGES[stage]}


@pytest.mark.parametrize("stage", sorted(STAGES.keys() - {"rl"}))
def test_an_edit_to_rl_reaches_no_stage_but_rl(stage: str) -> None:
    assert below("steps.rl", f"steps.stages.{stage}") == set()


@pytest.mark.parametrize("stage", sorted(STAGES.keys() - {"data", "reward_models"}))
def test_the_nano_world_reaches_only_the_stages_that_need_it(stage: str) -> None:
    assert below("steps.nano_world", f"steps.stages.{stage}") == set()


def test_every_stage_is_checked() -> None:
    modules = {path.stem for path in Path(steps.stages.__path__[0]).glob("*.py")}
    assert modules - {"__init__", "common", "settings"} == STAGES.keys()


def test_rl_reaches_how_reward_models_judge_and_not_how_they_are_trained() -> None:
    reached = reached_modules("steps.stages.rl")
    assert {"steps.rewards.classic_rm", "steps.rewards.cot_rm"} <= set(reached)
    assert not {"steps.rewards.classic_rm_training", "steps.reward_models", "steps.supervised"} & set(reached)
