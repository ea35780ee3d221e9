"""Shared by the tests of engine, trainer and hand-over, of the sandbox, and of tracking."""

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from infra.inference.engine import Engine
from infra.sandbox.config import SandboxConfig, open_sandbox
from infra.sandbox.interface import Sandbox
from infra.training.trainer import Trainer
from infra.weights.handover import HandOver


@pytest.fixture
def restored(trainer: Trainer, engine: Engine, base: Path) -> Iterator[None]:
    """Puts the base's weights back into trainer and engine afterwards."""
    yield
    trainer.load_weights(base)
    HandOver(trainer, engine).to_rollout()


@pytest.fixture(scope="session", params=["bubblewrap", "crun"])
def sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    """A sandbox of each backend."""
    if request.param == "crun" and (shutil.which("crun") is None or os.geteuid() != 0):
        pytest.skip("crun is not installed, or this is not root")
    sandbox = open_sandbox(SandboxConfig(backend=request.param, slots=2))
    yield sandbox
    sandbox.close()


@pytest.fixture
def own_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The library reads the environment once and keeps a process: each test gets both new, and no one's real key."""
    import wandb

    wandb.teardown()
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    yield
    with suppress(ConnectionError):  # where a test has killed the library's process
        wandb.teardown()
