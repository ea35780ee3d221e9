"""The estimate's formulas against real models, against what a nano run measured, and by what they refuse."""

import gc
import json
import math
import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, Qwen2Config, Qwen2ForCausalLM

from flows.cluster.plan import CannotDeploy, nodes_of
from infra.configs import EngineConfig, TrainerConfig
from infra.estimate.devices import DEVICES, GIB, device
from infra.estimate.memory import activation_bytes, engine_memory, trainer_memory
from infra.estimate.shapes import KNOWN, ShapeUnknown, from_config, shape_of
from infra.estimate.speed import training_time
from infra.training.attention import PACKED
from steps.estimate import Estimate, estimate
from steps.estimate.figures import known_figures
from steps.problem import MalformedRow
from steps.recipe import Recipe, check_recipe, load_recipe
from tests.steps.estimate.retained import retained_bytes

CONFIGS = Path(__file__).parents[3] / "configs"
SEVEN_B = KNOWN["Qwen/Qwen2.5-7B"]

MEASURED = {
    # Seconds, and tokens generated: the nano run of the README's table, seed 0, two cores of an AMD EPYC. Evaluations
    # are 600 responses of the mean length measured, RL's are its history's rollout_tokens.
    "import": (29.0, 600 * 320.0),
    "vanilla_sft": (22.3, None),
    "curation": (50.9, None),
    "long_cot_sft": (70.4, 600 * 89.6),
    "rl": (251.1, 975_303 + 600 * 70.9),
    "long2short/merge": (14.0, 600 * 75.7),
    "long2short/shortest": (26.9, None),
    "long2short/dpo": (32.4, None),
    "long2short/rl": (148.3, 469_229 + 600 * 54.9),
}
UNCHUNKED = {"trainer.logit_chunk_tokens": None, "trainer.micro_batch_tokens": 32768}
APART = {"trainer.ranks": 8, "engine.workers": 24, "handover.share_device": False}
STEPS = {"long_cot_sft": 832, "vanilla_sft": 108, "long2short/shortest": 26, "long2short/dpo": 12}
"""Optimizer steps of the same run."""


@pytest.fixture(scope="module")
def nano() -> Estimate:
    return estimate(load_recipe(CONFIGS / "nano.yaml"), "cpu")


def changed(name: str, changes: dict[str, Any]) -> Recipe:
    raw = load_recipe(CONFIGS / name).model_dump(mode="json")
    for key, value in changes.items():
        *sections, last = key.split(".")
        place = raw
        for section in sections:
            place = place[section]
        place[last] = value
    return check_recipe(raw, name)


@pytest.mark.parametrize("stage", MEASURED)
def test_a_nano_stage_takes_what_was_measured_within_a_factor_of_two(stage: str, nano: Estimate) -> None:
    (actual,) = [one for one in nano.stages if one.stage == stage]
    seconds, _ = MEASURED[stage]
    assert seconds / 2 < actual.seconds < 2 * seconds


def test_the_nano_run_takes_what_was_measured_within_a_quarter(nano: Estimate) -> None:
    assert nano.seconds == pytest.approx(sum(seconds for seconds, _ in MEASURED.values()), rel=0.25)


@pytest.mark.parametrize("stage", [stage for stage, (_, tokens) in MEASURED.items() if tokens])
def test_a_nano_stage_generates_what_was_measured_within_fifteen_percent(stage: str, nano: Estimate) -> None:
    (actual,) = [one for one in nano.stages if one.stage == stage]
    # A stage that is nothing but an evaluation is as long as its model's responses are, which differ more.
    assert actual.generated == pytest.approx(MEASURED[stage][1], rel=0.15)


@pytest.mark.parametrize("stage", STEPS)
def test_optimizer_steps_are_as_many_as_were_measured(stage: str) -> None:
    from steps.estimate.workload import Workload

    recipe = load_recipe(CONFIGS / "nano.yaml")
    (work,) = [w for w in Workload(recipe, known_figures(recipe, {}).values).stages() if w.stage == stage]
    assert sum(training.steps for training in work.trainings) == pytest.approx(STEPS[stage], rel=0.25)


def test_the_nano_run_holds_what_was_measured_within_a_half(nano: Estimate) -> None:
    assert 2085 / 1.5 < max(phase.total for phase in nano.phases) / 2**20 < 2085 * 1.5


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("Qwen/Qwen2.5-0.5B", 494_032_768),
        ("Qwen/Qwen2.5-1.5B", 1_543_714_304),
        ("Qwen/Qwen2.5-7B", 7_615_616_512),
        (str(CONFIGS.parent / "steps/nano_world/checkpoint"), 886_912),
    ],
)
def test_known_models_have_the_weights_that_are_published(name: str, count: int) -> None:
    assert shape_of(name).parameters == count


@pytest.mark.parametrize("family", ["qwen2", "qwen3", "llama", "mistral"])
@pytest.mark.parametrize("tied", [True, False])
def test_weights_are_counted_as_the_model_has_them(family: str, tied: bool) -> None:
    sizes = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 8, "num_key_value_heads": 2}
    more = {"intermediate_size": 96, "vocab_size": 200, "head_dim": 16, "tie_word_embeddings": tied}
    config = AutoConfig.for_model(family, **sizes, **more)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    count = sum(parameter.numel() for parameter in model.parameters())
    assert from_config(config.to_dict(), "config.json").parameters == count


def test_a_model_of_unknown_shape_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(ShapeUnknown, match=r"none of the known ones .*longhaul run --until import"):
        shape_of("someone/unknown-model")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "mixtral"}))
    with pytest.raises(ShapeUnknown, match="model_type is 'mixtral'"):
        shape_of(str(tmp_path))
    (tmp_path / "config.json").write_text("no json")
    with pytest.raises(ShapeUnknown, match="cannot be read"):
        shape_of(str(tmp_path))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_layer_keeps_as_many_bytes_for_the_backward_pass_as_the_formula_says(dtype: torch.dtype) -> None:
    sizes: dict[str, Any] = {
        "hidden_size": 128,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 512,
    }
    retained: dict[int, float] = {}
    for layers in (1, 3):
        config = Qwen2Config(**sizes, num_hidden_layers=layers, vocab_size=64)
        model = Qwen2ForCausalLM(config)
        torch.nn.Module.to(model, dtype)
        model.set_attn_implementation(PACKED)
        packed = torch.arange(64)[None].repeat(4, 4)  # four examples in each row
        rows = {"input_ids": packed, "position_ids": packed, "example_lengths": [[64] * 4] * 4}
        retained[layers] = retained_bytes(model, partial(model, **rows, use_cache=False))
    shape = from_config(config.to_dict(), "config.json")
    per_token = (retained[3] - retained[1]) / 2 / (4 * 256)
    assert activation_bytes(shape, dtype.itemsize) == pytest.approx(per_token, rel=1e-6)


def held_bytes() -> int:
    """Of all tensors in this process."""
    gc.collect()
    tensors = [one for one in gc.get_objects() if type(one) in (Tensor, torch.nn.Parameter)]
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values())


@pytest.mark.parametrize(("dtype", "stage"), [("float32", 0), ("float32", 1), ("bfloat16", 2)])
def test_a_trainer_holds_between_steps_what_the_formula_says(dtype: str, stage: int, base: Path) -> None:
    from infra.training.trainer import Trainer
    from steps.packing import pack
    from steps.supervised import response_loss
    from steps.token_example import TokenExample

    rows = list(pack([TokenExample(list(range(5, 45)), 4)], 64, 1))
    config = TrainerConfig(dtype=dtype, zero_stage=stage)
    before = held_bytes()
    trainer = Trainer(base, config, seed=0)
    trainer.step(rows, response_loss(rows), learning_rate=1e-4)
    held, shape = held_bytes() - before, shape_of(str(base))
    memory = trainer_memory(shape, config, 1, 64)
    # Gradients last for a step, and so do their float32 copies beside bfloat16.
    step = 4 * shape.parameters if dtype == "bfloat16" else 0
    assert held == pytest.approx(memory.weights + memory.optimizer - step, rel=0.05)
    del trainer


def test_sharding_takes_from_each_rank_what_zero_says() -> None:
    # The ZeRO paper's own example (arXiv 1910.02054, figure 1): 7.5B weights in half precision on 64 ranks take 120,
    # 31.4, 16.6 and 1.9 GB with float32 weights and averages; the float32 gradients of a step are Longhaul's own.
    shape, held = replace(SEVEN_B, vocabulary=135_926), []
    assert shape.parameters == pytest.approx(7.5e9, rel=1e-3)
    for stage in (0, 1, 2, 3):
        config = TrainerConfig(dtype="bfloat16", ranks=64, zero_stage=stage)
        memory = trainer_memory(shape, config, 1, 16)
        step = 4 * shape.parameters / (64 if stage else 1)
        held.append((memory.weights + memory.gradients + memory.optimizer - step) / 1e9)
    assert held == pytest.approx([120, 31.4, 16.6, 1.9], rel=0.02)


def test_a_response_of_full_context_takes_the_kv_cache_that_its_heads_need() -> None:
    engine = EngineConfig(dtype="bfloat16", context=131072, kv_cache_mb=None, gpu_memory_share=0.9)
    memory = engine_memory(SEVEN_B, engine, device("h200"))
    assert memory.per_token == 2 * 28 * 4 * 128 * 2
    assert memory.per_token * 131072 == 7 * GIB
    halved = engine_memory(SEVEN_B, engine.model_copy(update={"tensor_parallel": 2}), device("h200"))
    assert (halved.per_token, halved.weights) == (memory.per_token / 2, memory.weights / 2)
    # More GPUs than heads: each holds one whole head.
    assert SEVEN_B.kv_bytes(2, 8) == SEVEN_B.kv_bytes(2, 4)


@pytest.mark.parametrize(
    ("config", "gpu", "gpus"),
    [
        ("qwen-1.5b-8gpu", "h100", 8),
        ("qwen-1.5b-8gpu", "a100", 8),
        ("qwen-7b-4nodes", "h100", 32),
        ("report", "h200", 32),
        ("report", "h100", 32),
    ],
)
def test_a_shipped_recipe_fits_the_machine_that_it_is_for(config: str, gpu: str, gpus: int) -> None:
    actual = estimate(load_recipe(CONFIGS / f"{config}.yaml"), gpu, gpus)
    assert actual.problems == ()
    assert actual.placement.gpus == gpus and actual.engine.capacity > actual.at_once
    assert all(phase.total < 0.95 * actual.device.memory for phase in actual.phases)
    json.dumps(actual.plain(), allow_nan=False)


def test_the_small_model_fits_with_the_same_settings() -> None:
    half = changed("qwen-1.5b-8gpu.yaml", {"import_checkpoint.checkpoint": "Qwen/Qwen2.5-0.5B"})
    assert estimate(half, "h100").fits


@pytest.mark.parametrize(
    ("config", "changes", "reported"),
    [
        (
            "report",
            {"trainer.offload_activations": False, "trainer.gradient_checkpointing": False},
            r"training \(rows of vanilla_sft.phases.1, 131,072 tokens\) takes .*activations.*gradient_checkpointing",
        ),
        ("qwen-7b-4nodes", {"trainer.gradient_checkpointing": False}, r"activations .*trainer.gradient_checkpointing"),
        (
            "qwen-7b-4nodes",
            {"trainer.sequence_parallel": 8},
            r"sequence_parallel is 8, .* 28 for queries and 4 for keys",
        ),
        ("qwen-7b-4nodes", UNCHUNKED, r"trainer's logits .*trainer.logit_chunk_tokens"),
        ("qwen-7b-4nodes", APART | {"trainer.zero_stage": 0}, r"trainer's optimizer .*trainer.zero_stage 1 or more"),
        (
            "qwen-7b-4nodes",
            {"engine.tensor_parallel": 16},
            r"engine.tensor_parallel is 16, and an engine has to fit one",
        ),
        ("qwen-7b-4nodes", {"engine.kv_cache_mb": 64}, r"less than one response.*raise engine.kv_cache_mb"),
        ("qwen-7b-4nodes", {"engine.gpu_memory_share": 0.2}, r"nothing left for the KV cache"),
        ("qwen-1.5b-8gpu", {"engine.gpu_memory_share": 0.98}, r"hand-over takes .*engine.gpu_memory_share"),
        ("qwen-1.5b-8gpu", {"rl.groups": 6000}, r"rl.oversampling is 9000, and there are 7,473 problems"),
    ],
)
def test_what_cannot_fit_is_refused_by_what_is_too_big_and_the_keys_that_help(
    config: str, changes: dict[str, Any], reported: str
) -> None:
    actual = estimate(changed(f"{config}.yaml", changes), "h100")
    assert not actual.fits
    assert any(re.search(reported, problem) for problem in actual.problems), actual.problems


def test_fewer_gpus_than_the_recipe_asks_for_are_refused() -> None:
    actual = estimate(load_recipe(CONFIGS / "qwen-1.5b-8gpu.yaml"), "h100", 4)
    assert "there are 4 GPUs" in actual.problems[0] and "give --gpus 8" in actual.problems[0]


def test_gpus_that_nobody_uses_are_reported() -> None:
    actual = estimate(load_recipe(CONFIGS / "qwen-1.5b-8gpu.yaml"), "h100", 32)
    assert actual.fits and actual.placement.described.endswith("24 do nothing")


def test_trainer_and_workers_on_one_node_without_turns_are_taken_to_share_its_memory() -> None:
    recipe = changed("qwen-1.5b-8gpu.yaml", {"handover.share_device": False})
    assert [phase.name for phase in estimate(recipe, "h100", 8).phases] == ["training beside the engine"]
    assert [phase.name for phase in estimate(recipe, "h100", 16).phases] == ["training", "rollout"]


@pytest.mark.parametrize(
    ("ranks", "workers", "parallel", "shared", "nodes", "refused"),
    [
        (16, 16, 1, False, 4, ""),
        (24, 8, 1, False, 4, ""),
        (32, 32, 1, True, 4, ""),
        (12, 4, 1, False, 2, ""),
        (16, 1, 8, False, 2, ""),
        (32, 32, 1, False, 4, "need 64"),
        (16, 16, 1, True, 1, "need 16"),
        (8, 5, 3, False, 3, "need 32"),
        (8, 8, 1, False, 1, ""),
    ],
)
def test_the_estimate_has_room_where_a_deployment_has(
    ranks: int, workers: int, parallel: int, shared: bool, nodes: int, refused: str
) -> None:
    changes: dict[str, Any] = {"trainer.ranks": ranks, "engine.workers": workers, "engine.tensor_parallel": parallel}
    changes |= {"handover.share_device": shared, "engine.gpu_memory_share": 0.3}
    cluster = {"default": {"gpus": 8}, "stages": {"rl": {"nodes": nodes}}}
    recipe = changed("qwen-7b-4nodes.yaml", changes | {"cluster": cluster})
    actual = [one for one in estimate(recipe, "h100", 8 * nodes).problems if "GPUs" in one]
    if refused:
        assert refused in actual[0]
        with pytest.raises(CannotDeploy, match="rl has"):
            nodes_of(recipe, "rl")
    else:
        assert actual == [] and nodes_of(recipe, "rl") == nodes


def test_several_nodes_are_whole_ones() -> None:
    recipe = changed("qwen-7b-4nodes.yaml", APART | {"engine.workers": 4})
    assert any("whole ones: give 16" in problem for problem in estimate(recipe, "h100", 12).problems)
    assert estimate(recipe, "h100").placement.gpus == 16


@pytest.mark.parametrize(("stage", "times"), [(1, 2), (2, 2), (3, 3)])
def test_between_nodes_collectives_go_at_the_network_s_speed(stage: int, times: int) -> None:
    # One round: ZeRO 1 and 2 move the gradients twice a step, ZeRO 3 three times the weights.
    gpu = replace(device("a100"), network=10e9)
    config = TrainerConfig(dtype="bfloat16", ranks=16, zero_stage=stage, micro_batch_tokens=8192)
    one, two = (training_time(SEVEN_B, config, gpu, 1, 16 * 8192, 8192, 8192, nodes=nodes).seconds for nodes in (1, 2))
    moved = times * 2 * SEVEN_B.parameters * 15 / 16
    assert two - one == pytest.approx(moved / 0.6 * (1 / 10e9 - 1 / gpu.link))
    fast = replace(gpu, network=2 * gpu.link)
    assert training_time(SEVEN_B, config, fast, 1, 16 * 8192, 8192, 8192, nodes=2).seconds == one, "the link decides"


def test_an_engine_s_batches_are_no_longer_than_asked_where_prompts_are_cut() -> None:
    engine = EngineConfig(context=131072, max_batched_tokens=8192, max_sequences=64)
    assert (engine.batched_tokens(), engine.batched_tokens(whole_prompts=True)) == (8192, 131072)
    assert EngineConfig(max_batched_tokens=64, max_sequences=256).batched_tokens() == 256


def test_cost_is_hours_times_gpus_times_price() -> None:
    actual = estimate(load_recipe(CONFIGS / "qwen-1.5b-8gpu.yaml"), "h100", 8, price=2.0)
    assert actual.cost == pytest.approx(actual.seconds / 3600 * 16)


def test_what_is_given_goes_before_what_is_assumed() -> None:
    recipe = load_recipe(CONFIGS / "qwen-1.5b-8gpu.yaml")
    twice = estimate(recipe, "h100", overrides={"response_share": 0.5})
    once = estimate(recipe, "h100")
    assert twice.figures.sources["response_share"] == "given"
    assert sum(s.generated for s in twice.stages) > 1.4 * sum(s.generated for s in once.stages)
    for name, value in (("no_such", 1.0), ("response_share", 1.5), ("sft_examples", -1.0), ("sft_tokens", math.nan)):
        with pytest.raises(ValueError, match=name):
            estimate(recipe, "h100", overrides={name: value})
    with pytest.raises(ValueError, match=f"choose one of {', '.join(DEVICES)}"):
        estimate(recipe, "tpu")


def test_data_that_are_there_are_counted(tmp_path: Path) -> None:
    rows = [{"question": "x" * 400, "answer": "So.\n#### 4"}] * 30
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    example = {"problem_id": "1", "prompt": "p", "response": "y" * 800}
    (tmp_path / "sft.jsonl").write_text(json.dumps(example) + "\n")
    sources = {name: [{"path": str(tmp_path / f"{name}.jsonl")}] for name in ("test", "sft", "long_cot")}
    sources["train"] = [{"path": str(tmp_path / "train.jsonl"), "format": "gsm8k"}]
    recipe = changed("qwen-1.5b-8gpu.yaml", {"data.sources": sources})
    known = known_figures(recipe, {})
    assert (known.values.train_problems, known.values.prompt_tokens) == (30, 130)
    assert (known.values.sft_examples, known.values.sft_tokens) == (1, 201)
    assert known.sources["train_problems"] == "train.jsonl" and known.sources["test_problems"] == "assumed"
    (tmp_path / "sft.jsonl").write_text('{"prompt": "no response"}\n')
    with pytest.raises(MalformedRow, match=r"sft.jsonl:1: "):
        known_figures(recipe, {})
