"""A tiny Qwen2.5-VL in the engine, under training, and through the stages, with real engines."""

import math
from pathlib import Path
from typing import Any

import pytest

from tests.steps.vision_process import run
from tests.vision_models import qwen2_5_vl


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return qwen2_5_vl(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def updates(model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("updates")
    return folder, run("updates", model, folder)


def test_engine_and_trainer_agree_on_images_before_and_after_the_tower_is_trained(updates: tuple[Path, Any]) -> None:
    _, results = updates
    assert len(results["mismatches"]) == 4 and max(results["mismatches"]) < 1e-5
    assert results["losses"][-1] < results["losses"][0]


def test_an_updated_engine_says_of_old_pictures_what_a_fresh_one_says(updates: tuple[Path, Any]) -> None:
    folder, results = updates
    assert run("sample", folder / "trained", folder) == results["sampled"]


def test_rollout_workers_see_the_pictures_and_forget_their_old_features(model: Path, updates: tuple[Path, Any]) -> None:
    folder, results = updates
    for own, other in zip(run("workers", model, folder), results["sampled"], strict=True):
        assert own[0] == other[0], "the same tokens"
        assert max(abs(a - b) for a, b in zip(own[1], other[1], strict=True)) < 1e-5


def test_a_response_that_was_cut_continues_as_if_it_had_not_been(updates: tuple[Path, Any]) -> None:
    assert updates[1]["continued"] and not updates[1]["forbidden"]


def test_an_image_of_which_engine_and_trainer_make_different_tokens_is_noticed(updates: tuple[Path, Any]) -> None:
    assert updates[1]["noticed"]


def test_text_and_images_go_through_supervised_training_curation_evaluation_and_rl(model: Path, tmp_path: Path) -> None:
    results = run("chain", model, tmp_path)
    assert results["disagreement"] < 1e-4 and results["mismatch"] < 1e-4
    assert set(results["modalities"]) == {"image", "text"} and results["continued"] > 0
    assert math.isclose(results["gap"], results["modalities"]["text"] - results["modalities"]["image"])
    assert "answered without its images" in results["removed"] and results["curated"]
    assert results["trained"] > 0
    assert results["state_has"] == ["images", "tokens", "unexpanded"] and results["resumed"]
