"""Merging averages weights exactly, and refuses models that cannot be averaged."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from steps.long2short.merge import MergeRefused, merge_weights


def checkpoint(folder: Path, *shards: dict[str, Tensor]) -> Path:
    folder.mkdir()
    for number, tensors in enumerate(shards, 1):
        save_file(tensors, folder / f"model-{number}.safetensors", {"format": "pt"})
    return folder


def some(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_average_is_exact_in_float32(tmp_path: Path) -> None:
    a, b = some(4, 5, seed=1), some(4, 5, seed=2)
    long, short = checkpoint(tmp_path / "long", {"w": a}), checkpoint(tmp_path / "short", {"w": b})
    merge_weights(long, short, 0.7, tmp_path / "merged")
    merged = load_file(tmp_path / "merged" / "model-1.safetensors")
    expected = 0.7 * a.double() + 0.3 * b.double()
    assert merged["w"].dtype == torch.float32
    torch.testing.assert_close(merged["w"].double(), expected, atol=1e-7, rtol=1e-6)


@pytest.mark.parametrize(("weight", "which"), [(1.0, "long"), (0.0, "short")])
def test_the_whole_share_gives_that_model_back_bit_for_bit(tmp_path: Path, weight: float, which: str) -> None:
    models = {name: {"w": some(3, 3, seed=i).bfloat16()} for i, name in enumerate(("long", "short"))}
    folders = {name: checkpoint(tmp_path / name, tensors) for name, tensors in models.items()}
    merge_weights(folders["long"], folders["short"], weight, tmp_path / "merged")
    assert torch.equal(load_file(tmp_path / "merged" / "model-1.safetensors")["w"], models[which]["w"])


def test_bfloat16_is_summed_in_float32_and_rounded_once(tmp_path: Path) -> None:
    a, b = some(1000, seed=1).bfloat16(), some(1000, seed=2).bfloat16()
    long, short = checkpoint(tmp_path / "long", {"w": a}), checkpoint(tmp_path / "short", {"w": b})
    merge_weights(long, short, 0.7, tmp_path / "merged")
    merged = load_file(tmp_path / "merged" / "model-1.safetensors")["w"]
    assert torch.equal(merged, (0.7 * a.float() + (1 - 0.7) * b.float()).bfloat16())
    assert not torch.equal(merged, 0.7 * a + (1 - 0.7) * b), "sums in bfloat16 would have passed as well"


def test_the_long_models_type_and_shards_are_kept(tmp_path: Path) -> None:
    a, b, c = some(2, seed=1), some(3, seed=2), some(2, seed=3)
    long = checkpoint(tmp_path / "long", {"x": a.bfloat16()}, {"y": b.bfloat16()})
    short = checkpoint(tmp_path / "short", {"y": b, "x": c})
    merge_weights(long, short, 0.5, tmp_path / "merged")
    assert sorted(path.name for path in (tmp_path / "merged").iterdir()) == [
        "model-1.safetensors",
        "model-2.safetensors",
    ]
    x = load_file(tmp_path / "merged" / "model-1.safetensors")["x"]
    y = load_file(tmp_path / "merged" / "model-2.safetensors")["y"]
    assert torch.equal(x, ((a.bfloat16().float() + c) / 2).bfloat16()) and y.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("theirs", "message"),
    [
        ({"w": torch.ones(2, 3)}, "has the tensor b"),
        ({"w": torch.ones(2, 3), "b": torch.ones(3), "lm_head": torch.ones(1)}, "has the tensor lm_head"),
        ({"w": torch.ones(3, 2), "b": torch.ones(3)}, r"w is \(2, 3\) in .* and \(3, 2\) in"),
    ],
)
def test_models_that_differ_are_refused_by_tensor_before_anything_is_written(
    tmp_path: Path, theirs: dict[str, Tensor], message: str
) -> None:
    long = checkpoint(tmp_path / "long", {"b": torch.ones(3)}, {"w": torch.ones(2, 3)})
    short = checkpoint(tmp_path / "short", theirs)
    with pytest.raises(MergeRefused, match=message):
        merge_weights(long, short, 0.5, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_folders_without_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MergeRefused, match="has no"):
        merge_weights(checkpoint(tmp_path / "long"), checkpoint(tmp_path / "short"), 0.5, tmp_path / "merged")


@pytest.mark.parametrize("twice", ["long", "short"])
def test_a_tied_head_that_one_model_saves_twice_is_merged_as_the_embedding(tmp_path: Path, twice: str) -> None:
    a, b = some(4, 2, seed=1), some(4, 2, seed=2)
    models = {"long": {"embed": a, "norm": torch.ones(2)}, "short": {"embed": b, "norm": torch.ones(2)}}
    models[twice]["lm_head"] = models[twice]["embed"].clone()
    folders = {name: checkpoint(tmp_path / name, tensors) for name, tensors in models.items()}
    merge_weights(folders["long"], folders["short"], 0.5, tmp_path / "merged")
    merged = load_file(tmp_path / "merged" / "model-1.safetensors")
    assert merged.keys() == models["long"].keys()
    assert all(torch.equal(merged[name], (a + b) / 2) for name in merged if name != "norm")


def test_a_norm_that_only_one_model_has_is_not_taken_for_a_tied_one(tmp_path: Path) -> None:
    long = checkpoint(tmp_path / "long", {"norm": torch.ones(3), "q_norm": torch.ones(3)})
    short = checkpoint(tmp_path / "short", {"norm": torch.ones(3)})
    with pytest.raises(MergeRefused, match="has the tensor q_norm"):
        merge_weights(long, short, 0.5, tmp_path / "merged")
