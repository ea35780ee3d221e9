"""A configuration that cannot run is refused before anything does, by the key's name."""

import copy
import os
from pathlib import Path
from typing import Any

import pytest

from steps.configs.data_source import ROLES
from steps.recipe import ConfigRefused, check_recipe, load_recipe, parse_recipe

CONFIGS = Path(__file__).parents[2] / "configs"
PHASE = {"sequence_length": 512, "learning_rate": 1e-3, "final_learning_rate": 1e-4}
RL = {
    "iterations": 24,
    "groups": 48,
    "max_response_tokens": 320,
    "learning_rate": 2e-4,
    "final_learning_rate": 2e-5,
    "sequence_length": 512,
}
RECIPE: dict[str, Any] = {
    "name": "test",
    "data": {"nano_world": {}},
    "import_checkpoint": {"checkpoint": "a/folder"},
    "engine": {"context": 512},
    "vanilla_sft": {"phases": [PHASE, PHASE]},
    "curation": {"max_prompt_tokens": 96},
    "long_cot_sft": {"phase": PHASE},
    "rl": RL,
    "long2short": {"shortest": {"phase": PHASE}, "dpo": {"learning_rate": 1e-4}, "rl": {**RL}},
    "evaluation": {"max_response_tokens": 320},
}
SOURCES = {role: [{"path": f"{role}.jsonl"}] for role in ROLES}


def changed(**keys: Any) -> dict[str, Any]:
    """The recipe above with some values replaced; `a__b` is key b of section a, None takes a key away."""
    raw = copy.deepcopy(RECIPE)
    for key, value in keys.items():
        *sections, last = key.split("__")
        place = raw
        for section in sections:
            place = place.setdefault(section, {})
        if value is None:
            del place[last]
        else:
            place[last] = value
    return raw


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.name)
def test_every_recipe_that_ships_is_accepted(path: Path) -> None:
    assert load_recipe(path).name == path.stem


def test_a_recipe_of_text_has_nothing_of_images_in_its_keys() -> None:
    said = load_recipe(CONFIGS / "nano.yaml").model_dump_json()
    assert not any(word in said for word in ('"vision"', '"images"', '"freeze"'))


def test_what_a_recipe_says_is_what_the_code_reads() -> None:
    recipe = check_recipe(changed(rl__tau=0.25, long2short__dpo__beta=0.3, seed=7), "test.yaml")
    assert (recipe.rl.tau, recipe.long2short.dpo.beta, recipe.seed) == (0.25, 0.3, 7)
    assert recipe.model_validate(recipe.model_dump(mode="json")) == recipe


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"rll": {}}, "rll: unknown key; remove it or fix its spelling"),
        ({"rl__tua": 0.1}, "rl.tua: unknown key"),
        ({"rl__sampling__floot": 0.1}, "rl.sampling.floot: unknown key"),
        ({"rl": None}, "rl: Field required"),
        ({"rl__iterations": None}, "rl.iterations: Field required"),
        ({"rl__tau": "strong"}, "rl.tau: Input should be a valid number"),
        ({"rl__tau": 0}, "rl.tau: Input should be greater than 0"),
        ({"rl__groups": 1.5}, "rl.groups: Input should be a valid integer"),
        ({"engine": 5}, "engine: Input should be a valid dictionary"),
        ({"rl__responses": 1}, "rl: responses: 1 leaves nothing to compare with"),
        ({"long2short__rl__responses": 1}, "long2short.rl: responses: 1 leaves nothing to compare with"),
        ({"rl__updates": 49}, "rl: updates: 49 steps need at least as many groups, and groups is 48"),
        ({"data__sources": SOURCES}, "data: give exactly one of nano_world and sources"),
        ({"data": {}}, "data: give exactly one of nano_world and sources"),
        ({"data": {"files": {"train": "a"}}}, "data: data.files was replaced by data.sources"),
        ({"data": {"sources": SOURCES | {"train": []}}}, "data.sources.train: Tuple should have at least 1 item"),
        ({"data": {"sources": SOURCES | {"long_cot": []}}}, "data.sources.long_cot is not given, and long_cot_sft"),
        ({"data": {"sources": SOURCES}, "long_cot_paths": {}}, "both name long reasoning paths"),
        ({"long_cot_paths": {"teacher": {"revision": "main"}}}, "revision is for a checkpoint on the hub"),
        (
            {
                "long_cot_sft": {"phase": PHASE | {"sequence_length": 128}},
                "long_cot_paths": {"max_response_tokens": 99},
            },
            "long_cot_sft.phase.sequence_length is 128, shorter than curation.max_prompt_tokens",
        ),
        (
            {"data": {"sources": SOURCES | {"test": [{"path": "a/t.jsonl"}, {"path": "b/t.jsonl.gz"}]}}},
            "data.sources: test: two sources are named 't': give one of them another `name`",
        ),
        ({"vanilla_sft__phases": []}, "vanilla_sft.phases"),
        ({"rl__learning_rate": float("inf")}, "rl.learning_rate: inf is not a finite number"),
        ({"rl__length_reward__weight": float("inf")}, "rl.length_reward.weight: inf is not a finite number"),
        ({"seed": True}, "seed: expected a number, and true (also written yes) is a truth value"),
        ({"rl__tau": True}, "rl.tau: expected a number, and true"),
        ({"store": ""}, "store: String should have at least 1 character"),
        ({"store": " "}, "store: it is blank: write a folder"),
        ({"rl__tau": float("inf")}, "rl.tau: inf is not a finite number"),
        ({"rl__iterations": 10**400}, "rl.iterations: expected a whole number of at most 9007199254740992"),
    ],
)
def test_a_bad_key_is_refused_by_its_name(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigRefused) as refused:
        check_recipe(changed(**keys), "test.yaml")
    assert str(refused.value).startswith("test.yaml is refused:\n") and message in str(refused.value)


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        ({"engine__context": 400}, ["engine.context is 400", "(96)", "rl.max_response_tokens (320)"]),
        (
            {"curation__max_response_tokens": 417},
            ["engine.context is 512", "curation.max_prompt_tokens (96)", "curation.max_response_tokens (417)"],
        ),
        (
            {"long2short__dpo__responses__max_response_tokens": 500},
            ["engine.context", "long2short.dpo.responses.max_response_tokens (500)"],
        ),
        ({"rl__sequence_length": 400}, ["rl.sequence_length is 400", "rl.max_response_tokens (320)"]),
        ({"long2short__rl__sequence_length": 200}, ["long2short.rl.sequence_length is 200"]),
        (
            {"import_checkpoint__context_length": 256},
            ["engine.context is 512", "import_checkpoint.context_length (256)"],
        ),
    ],
)
def test_lengths_that_do_not_fit_each_other_are_refused_by_both_names(keys: dict[str, Any], named: list[str]) -> None:
    with pytest.raises(ConfigRefused) as refused:
        check_recipe(changed(**keys), "test.yaml")
    assert all(part in str(refused.value) for part in named), refused.value


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"rl__reward": "cot_rm"}, "rl.reward is cot_rm, and there is no section reward_models to train it"),
        ({"long2short__rl__reward": "classic_rm"}, "long2short.rl.reward is classic_rm, and there is no section"),
        ({"rl__reward": "judge"}, "rl.reward: Input should be 'rules', 'classic_rm' or 'cot_rm'"),
        (
            {"reward_models": {}, "data": {"sources": SOURCES}},
            "data.sources has no such: leave the section out",
        ),
        ({"reward_models": {"spot_check": 1.0}}, "reward_models.spot_check: Input should be less than 1"),
        ({"reward_models": {"cot": {"temperature": 0}}}, "reward_models.cot.temperature"),
        (
            {"reward_models": {"cot": {"phase": PHASE | {"sequence_length": 128}}}},
            "reward_models.cot.phase.sequence_length is 128, and what is trained on can take 320 tokens",
        ),
        (
            {"reward_models": {"max_answer_tokens": 200}},
            "a judgement can take 624 tokens: curation.max_prompt_tokens (96), twice reward_models.max_answer_tokens",
        ),
    ],
)
def test_a_reward_that_nothing_can_give_is_refused_by_its_key(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigRefused) as refused:
        check_recipe(changed(**keys), "test.yaml")
    assert message in str(refused.value), refused.value


def test_a_reward_model_is_accepted_with_its_section_alone() -> None:
    recipe = check_recipe(changed(reward_models={}, rl__reward="cot_rm"), "test.yaml")
    assert recipe.reward_models is not None and recipe.rl.reward == "cot_rm"
    assert check_recipe(changed(), "test.yaml").reward_models is None


def test_a_hand_over_that_cannot_work_is_refused_by_both_names() -> None:
    with pytest.raises(ConfigRefused, match=r"handover\.share_device needs trainer\.zero_stage"):
        check_recipe(changed(handover__share_device=True), "test.yaml")
    assert check_recipe(changed(handover__share_device=True, trainer__zero_stage=2), "test.yaml").handover.share_device


def test_a_prompt_and_a_budget_that_just_fit_are_accepted() -> None:
    assert check_recipe(changed(engine__context=416), "test.yaml").engine.context == 416
    with pytest.raises(ConfigRefused):
        check_recipe(changed(engine__context=415), "test.yaml")


def test_all_bad_keys_are_named_at_once() -> None:
    with pytest.raises(ConfigRefused) as refused:
        check_recipe(changed(rl__tua=1, engine__dtype="float8"), "test.yaml")
    assert "rl.tua" in str(refused.value) and "engine.dtype" in str(refused.value)


def test_text_that_is_not_a_mapping_is_refused_with_its_source(tmp_path: Path) -> None:
    with pytest.raises(ConfigRefused, match="a recipe is not YAML"):
        parse_recipe("a: [", "a recipe")
    with pytest.raises(ConfigRefused, match="a recipe holds list; expected a mapping"):
        parse_recipe("- a", "a recipe")
    with pytest.raises(ConfigRefused, match=r"absent\.yaml cannot be read"):
        load_recipe(tmp_path / "absent.yaml")


def test_an_endless_or_huge_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    for endless in (tmp_path / "pipe.yaml", Path("/dev/zero")):
        with pytest.raises(ConfigRefused, match="is not a regular file"):
            load_recipe(endless)
    (tmp_path / "long.yaml").write_text("- 1\n" * 1_000_000)
    with pytest.raises(ConfigRefused, match="is larger than"):
        load_recipe(tmp_path / "long.yaml")


def test_a_format_that_sources_do_not_have_is_refused() -> None:
    train = [{"path": "train.parquet", "format": "parquet"}]
    with pytest.raises(ConfigRefused, match=r"data\.sources\.train\.0\.format: Input should be 'longhaul', 'chat'"):
        check_recipe(changed(data={"sources": {**SOURCES, "train": train}}), "test.yaml")
