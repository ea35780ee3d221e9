"""The estimate of a model that reads images: its tower's weights, memory and passes, and the tokens of images."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import Qwen2_5_VLConfig
from transformers.models.auto.modeling_auto import AutoModelForImageTextToText
from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLVisionConfig
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VisionTransformerPretrainedModel

from infra.configs import EngineConfig, TrainerConfig
from infra.estimate.devices import device
from infra.estimate.memory import engine_memory, trainer_memory
from infra.estimate.shapes import KNOWN, ShapeUnknown, shape_of
from infra.estimate.speed import decoding_time, training_time
from infra.estimate.vision import VisionShape, vision_from_config
from steps.estimate import estimate
from steps.estimate.figures import known_figures
from steps.recipe import check_recipe, load_recipe
from tests.steps.estimate.retained import retained_bytes

CONFIGS = Path(__file__).parents[3] / "configs"
SEES = KNOWN["Qwen/Qwen2.5-VL-7B-Instruct"]
assert SEES.vision is not None
TOWER = SEES.vision


def test_a_known_model_that_sees_has_the_weights_that_are_published() -> None:
    assert SEES.parameters == 8_292_166_656  # of the safetensors files on the hub
    assert SEES.multiplied == KNOWN["Qwen/Qwen2.5-7B"].multiplied


def test_weights_are_counted_as_the_model_has_them(tmp_path: Path) -> None:
    vision = {"hidden_size": 48, "depth": 3, "num_heads": 3, "intermediate_size": 100, "patch_size": 8}
    more = {"window_size": 64, "fullatt_block_indexes": [1], "out_hidden_size": 64}
    text = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = Qwen2_5_VLConfig(
        vision_config=vision | more, text_config=text | {"intermediate_size": 96, "vocab_size": 200}
    )
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config)
    config.save_pretrained(tmp_path)
    shape = shape_of(str(tmp_path))
    assert shape.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert shape.vision is not None
    assert shape.vision.parameters == sum(parameter.numel() for parameter in model.model.visual.parameters())
    config_file = tmp_path / "config.json"
    raw = json.loads(config_file.read_text())
    del raw["vision_config"]["depth"]
    config_file.write_text(json.dumps(raw))
    with pytest.raises(ShapeUnknown, match="vision_config as Qwen2"):
        shape_of(str(tmp_path))
    config_file.write_text(json.dumps(raw | {"model_type": "idefics3"}))
    with pytest.raises(ShapeUnknown, match="of vision towers the formulas hold for qwen2_5_vl's alone"):
        shape_of(str(tmp_path))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_layer_of_the_tower_keeps_as_many_bytes_as_the_formula_says(dtype: torch.dtype) -> None:
    sizes: dict[str, Any] = {"hidden_size": 128, "num_heads": 4, "intermediate_size": 512, "patch_size": 8}
    retained: dict[int, float] = {}
    for layers in (1, 3):
        config = Qwen2_5_VLVisionConfig(
            **sizes, depth=layers, out_hidden_size=64, window_size=64, fullatt_block_indexes=[2]
        )
        config._attn_implementation = "sdpa"
        tower: Any = Qwen2_5_VisionTransformerPretrainedModel(config)
        torch.nn.Module.to(tower, dtype)
        patches, grid = torch.randn(256, 3 * 2 * 64, dtype=dtype), torch.tensor([[1, 16, 16]])
        retained[layers] = retained_bytes(tower, partial(tower, patches, grid_thw=grid))
    shape = vision_from_config(config.to_dict(), 64)
    assert shape.activation_bytes(dtype.itemsize) == pytest.approx((retained[3] - retained[1]) / 2 / 256, rel=1e-6)


def test_a_pass_of_the_tower_is_two_operations_a_weight_and_four_a_key() -> None:
    tower = VisionShape(hidden=4, layers=3, heads=1, intermediate=6, patch=2, merge=2, window=4, whole=1, out=5)
    # A patch has 3 colours x 2 frames x 4 pixels; a window 2 x 2 patches, an image of 2 tokens 8. Weights by hand.
    patch = 2 * (24 * 4 + 3 * (4 * 16 + 3 * 4 * 6)) + 4 * 4 * (2 * 4 + 1 * 8)
    assert tower.forward_flops(2) == 4 * patch + 2 * (16 * 16 + 16 * 5)


def test_images_take_memory_and_time_of_trainer_and_engine_and_a_frozen_tower_less() -> None:
    config = TrainerConfig(dtype="bfloat16", ranks=8, zero_stage=3, gradient_checkpointing=True)
    frozen, blind = config.model_copy(update={"freeze": "vision"}), config.model_copy(update={"freeze": "language"})
    held = {each.freeze: trainer_memory(SEES, each, 2, 8192, 8192) for each in (config, frozen, blind)}
    # Each layer's input, one layer at work with its gradients, of four patches a token.
    at_work = TOWER.activation_bytes(2) + 2 * (1280 + 2 * 3420)
    assert held["none"].tower == 8192 * 4 * (32 * 2 * 1280 + at_work)
    assert held["vision"].tower == 8192 * 4 * 2 * (1280 + 2 * 3420)
    shares = [held[name].optimizer / held["none"].optimizer for name in ("vision", "language")]
    assert shares == pytest.approx([1 - TOWER.parameters / SEES.parameters, TOWER.parameters / SEES.parameters])

    def seconds(each: TrainerConfig, tokens: float) -> float:
        steps: dict[str, Any] = {"steps": 1, "tokens": 131072, "length": 8192, "example": 1000}
        return training_time(SEES, each, device("h100"), **steps, image_tokens=tokens, image=400).seconds

    tower = seconds(config, 65536) - seconds(config, 0)
    assert tower > 0 and seconds(frozen, 65536) - seconds(frozen, 0) == pytest.approx(tower / 4)

    engine = EngineConfig(dtype="bfloat16", context=8192, kv_cache_mb=None, gpu_memory_share=0.9)
    plain = engine_memory(KNOWN["Qwen/Qwen2.5-7B"], engine, device("h100"))
    seeing = engine_memory(SEES, engine, device("h100"))
    assert seeing.weights - plain.weights == 2 * TOWER.parameters and seeing.workspace > plain.workspace
    prompts = (1000.0, 500_000.0, 500.0, 200.0, 400.0)
    first, second = (
        decoding_time(SEES, engine, device("h100"), 100_000, *prompts, image_tokens=tokens, image=400).prefill
        for tokens in (0.0, 200_000.0)
    )
    assert second - first == pytest.approx(200_000 * TOWER.forward_flops(400) / (989e12 * 0.4))


@pytest.mark.parametrize("gpu", ["h100", "a100"])
def test_the_recipe_for_a_model_that_sees_fits_its_machine(gpu: str) -> None:
    actual = estimate(load_recipe(CONFIGS / "qwen2.5-vl-7b.yaml"), gpu, 8)
    assert actual.problems == () and actual.placement.gpus == 8 and actual.engine.capacity > actual.at_once
    assert all(phase.total < 0.95 * actual.device.memory for phase in actual.phases)
    assert any("trainer's tower" in phase.parts for phase in actual.phases)
    plain = json.loads(json.dumps(actual.plain(), allow_nan=False))
    assert plain["figures"]["image_tokens"] == {"value": 400, "source": "assumed"}


def test_more_and_larger_images_take_longer_and_text_has_no_such_figure() -> None:
    recipe = load_recipe(CONFIGS / "qwen2.5-vl-7b.yaml")
    hours = [estimate(recipe, "h100", overrides={"image_tokens": tokens}).seconds for tokens in (100, 400, 1200)]
    assert hours == sorted(hours) and hours[0] < 0.9 * hours[2]
    text = load_recipe(CONFIGS / "qwen-1.5b-8gpu.yaml")
    assert "image_share" not in estimate(text, "h100").plain()["figures"]
    with pytest.raises(ValueError, match="no figure 'image_share' to assume"):
        estimate(text, "h100", overrides={"image_share": 0.5})


def test_the_nano_recipe_that_sees_is_estimated_by_its_own_pictures() -> None:
    figures = estimate(load_recipe(CONFIGS / "nano-vision.yaml"), "cpu").figures
    assert figures.values.image_share == 0.5 and figures.sources["image_tokens"] == "the nano world"
    assert 4 < figures.values.image_tokens < 100


def test_images_of_data_that_are_there_are_measured(tmp_path: Path) -> None:
    raw = load_recipe(CONFIGS / "qwen2.5-vl-7b.yaml").model_dump(mode="json")
    Image.new("RGB", (280, 56), "red").save(tmp_path / "a.png")
    rows = [{"problem": "<image>?", "images": ["a.png"], "answer": "2"}, {"problem": "1 + 1?", "answer": "2"}]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    one = {"path": str(tmp_path / "train.jsonl"), "format": "easyr1"}
    raw["data"]["sources"]["train"] = [one | {"images": str(tmp_path)}]
    known = known_figures(check_recipe(raw, "x"), {}, TOWER)
    assert (known.values.image_share, known.values.image_tokens) == (0.5, 20.0)
    raw["data"]["sources"]["train"] = [one]
    assert known_figures(check_recipe(raw, "x"), {}, TOWER).sources["image_tokens"] == "assumed"
