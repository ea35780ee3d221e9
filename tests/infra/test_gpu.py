"""What only a GPU shows: that trainer and engine share one, and that weights go through checkpoint-engine.

Where there is a GPU, the other tests of engine and trainer use it too.
"""

import importlib.util
from pathlib import Path

import pytest
import torch

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
