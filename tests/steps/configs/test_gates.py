"""Data gates of one's own: which rules go before which, and what is refused when the recipe is read."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from steps.configs.gates import GatesConfig, shipped_suite


def write(folder: Path, name: str, suite: Any) -> Path:
    path = folder / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(suite))
    return path


LENGTHS = [{"type": "expect_column_value_lengths_to_be_between", "kwargs": {"column": "text", "max_value": 9}}]


def test_a_folder_of_ones_own_replaces_the_tables_that_it_names(tmp_path: Path) -> None:
    write(tmp_path, "long2short/rl", {"RL prompts": [*LENGTHS, {"include": "problems"}], "test problems": []})
    config = GatesConfig(folder=str(tmp_path))
    own, shipped = config.suite("long2short/rl"), shipped_suite("long2short/rl")
    assert own.root["RL prompts"][0].type == LENGTHS[0]["type"]
    assert "test problems" not in own
    assert config.suite("rl") == shipped_suite("rl") == shipped
    # Other rules make another key: they are in the settings that the key digests.
    assert own.model_dump(mode="json") != shipped.model_dump(mode="json")


def test_ones_own_shared_list_goes_before_the_shipped_one_in_ones_own_files(tmp_path: Path) -> None:
    write(tmp_path, "shared", {"problems": LENGTHS})
    write(tmp_path, "rl", {"RL prompts": [{"include": "problems"}, {"include": "some rows"}]})
    config = GatesConfig(folder=str(tmp_path))
    assert [rule.type for rule in config.suite("rl").root["RL prompts"]] == [
        LENGTHS[0]["type"],
        "expect_table_row_count_to_be_between",
    ]
    assert config.suite("curation") == shipped_suite("curation")


def test_suites_in_the_recipe_go_before_the_folders_and_survive_a_dump(tmp_path: Path) -> None:
    write(tmp_path, "rl", {"RL prompts": [], "test problems": []})
    config = GatesConfig.model_validate({"folder": str(tmp_path), "suites": {"rl": {"RL prompts": LENGTHS}}})
    assert config.suite("rl").root["RL prompts"][0].type == LENGTHS[0]["type"]
    assert config.suite("rl").root["test problems"] == ()
    again = GatesConfig.model_validate(config.model_dump(mode="json"))
    assert again.suite("rl") == config.suite("rl")


@pytest.mark.parametrize(
    ("name", "suite", "reported"),
    [
        ("r1", {}, ["r1.yaml: no stage has this suite", "long2short/rl"]),
        ("rl", {"train problems": []}, ["rl.yaml", "'train problems'", "RL prompts, ledger, test problems"]),
        ("rl", {"RL prompts": [{"type": "expect_nothing"}]}, ["rl.yaml: gate 'RL prompts', rule 1", "expect_nothing"]),
        ("rl", {"test problems": [{"include": "apart from the test problems"}]}, ["rl.yaml", "$held_out_digests"]),
    ],
)
def test_a_bad_file_of_ones_own_is_refused_when_the_recipe_is_read(
    tmp_path: Path, name: str, suite: Any, reported: list[str]
) -> None:
    write(tmp_path, name, suite)
    with pytest.raises(ValidationError) as error:
        GatesConfig(folder=str(tmp_path))
    for part in reported:
        assert part in str(error.value)


def test_what_is_neither_a_folder_nor_a_stage_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match=r"gates\.folder: .* is not a folder"):
        GatesConfig(folder=str(tmp_path / "absent"))
    with pytest.raises(ValidationError, match=r"gates\.suites: there is no stage 'r1'"):
        GatesConfig.model_validate({"suites": {"r1": {}}})
    with pytest.raises(ValidationError, match=r"gates\.suites\.rl: gate 'RL prompts', rule 1.*'txet'"):
        rule = {"type": "expect_column_to_exist", "kwargs": {"column": "txet"}}
        GatesConfig.model_validate({"suites": {"rl": {"RL prompts": [rule]}}})
