"""A folder of schedules for the tests of the scheduler."""

from pathlib import Path

import pytest

from tests.infra.scheduling.world import World


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """Schedules whose scheduler looks at them at once."""
    monkeypatch.setattr("infra.scheduling.scheduler.POLL_S", 0.02)
    return World(tmp_path)
