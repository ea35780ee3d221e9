"""What only a GPU shows: that trainer and engine share one, and that weights go through checkpoint-engine.

Where there is a GPU, the other tests of engine and trainer use it too.
"""

import importlib.util
from pathlib import Path

import pytest
import torch
from torch import nn

from infra.training.attention import packed_attention
from tests.infra.engine_process import CLOSE, KV_CACHE_MB, Turns, run

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")


@pytest.mark.parametrize("task", ["turns", "turns_zero_2", "turns_zero_3"])
def test_trainer_and_engine_make_room_for_each_other_on_a_gpu(task: str, base: Path, tmp_path: Path) -> None:
    turns: Turns = run(task, base, tmp_path)
    assert max(turns["mismatches"]) < CLOSE
    assert turns["losses"] == pytest.approx(turns["losses_alone"], rel=1e-3)
    assert "released" in turns["refused"]
    assert turns["released"] > KV_CACHE_MB * 2**20
    assert turns["onloaded"] > 0


@pytest.mark.skipif(importlib.util.find_spec("checkpoint_engine") is None, reason="the extra is not installed")
def test_weights_go_through_checkpoint_engine_to_a_worker_process_on_the_same_gpu(base: Path, tmp_path: Path) -> None:
    turns: Turns = run("turns_checkpoint_engine", base, tmp_path)
    assert max(turns["mismatches"]) < CLOSE
    assert turns["losses"] == pytest.approx(turns["losses_alone"], rel=1e-3)


@pytest.mark.parametrize("window", [None, 5, 64])
@pytest.mark.parametrize("kv_heads", [2, 4])
def test_the_kernel_for_variable_lengths_attends_as_one_example_after_another(
    kv_heads: int, window: int | None
) -> None:
    generator = torch.Generator().manual_seed(0)
    lengths = [[9, 1, 23, 31], [40, 24]]
    query, key, value = (torch.randn(2, heads, 64, 32, generator=generator) for heads in (4, kv_heads, kv_heads))
    expected, _ = packed_attention(nn.Module(), query, key, value, None, sliding_window=window, example_lengths=lengths)
    for dtype, tolerance in ((torch.float32, 1e-4), (torch.bfloat16, 0.03)):
        q, k, v = (one.to("cuda", dtype) for one in (query, key, value))
        attended, _ = packed_attention(nn.Module(), q, k, v, None, sliding_window=window, example_lengths=lengths)
        torch.testing.assert_close(attended.cpu().float(), expected, atol=tolerance, rtol=0)
