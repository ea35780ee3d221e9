"""Weights through Moonshot's checkpoint-engine: the real package where it is installed, and what needs none."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from infra.weights.checkpoint_engine import share_of
from tests.infra.weights import checkpoint_engine_process
from tests.processes import own_environment

needs_the_package = pytest.mark.skipif(
    importlib.util.find_spec("checkpoint_engine") is None, reason="the extra checkpoint-engine is not installed"
)


@pytest.mark.parametrize("world", [1, 2, 3, 7])
def test_the_ranks_shares_are_all_weights_once(world: int) -> None:
    weights = [(f"w{i}", torch.full((2, 3), float(i)).t()) for i in range(5)]
    shares = [share_of(iter(weights), rank, world, torch.bfloat16) for rank in range(world)]
    assert sorted(name for share in shares for name in share) == [name for name, _ in weights]
    for share in shares:
        for name, tensor in share.items():
            assert tensor.dtype == torch.bfloat16 and tensor.is_contiguous()
            assert torch.equal(tensor.float(), dict(weights)[name])


@needs_the_package
@pytest.mark.skipif(torch.cuda.is_available(), reason="with stand-ins for what needs a GPU; tests/infra/test_gpu.py")
def test_both_ends_speak_the_protocol_and_an_engine_that_stays_away_ends_the_update(base: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", checkpoint_engine_process.__name__, str(base), str(tmp_path / "log")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=own_environment())
    assert done.returncode == 0, (tmp_path / "log").read_text()[-2000:]
    actual = json.loads(done.stdout)
    assert "did not take the weights" in actual["refused"]
    assert min(actual["before"]) > 1e-2
    assert max(actual["after"]) < 1e-4
