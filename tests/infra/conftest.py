"""Shared by the tests of engine, trainer and hand-over."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.engine import Engine
from infra.handover import HandOver
from infra.trainer import Trainer


@pytest.fixture
def restored(trainer: Trainer, engine: Engine, base: Path) -> Iterator[None]:
    """Puts the base's weights back into trainer and engine afterwards."""
    yield
    trainer.load_weights(base)
    HandOver(trainer, engine).to_rollout()
