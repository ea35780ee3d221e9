"""Shared by the tests of engine, trainer and hand-over, and by those of the sandbox."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.engine import Engine
from infra.handover import HandOver
from infra.sandbox import Sandbox, SandboxConfig, open_sandbox
from infra.trainer import Trainer


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
