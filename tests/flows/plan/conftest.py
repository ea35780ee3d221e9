"""Stores with a finished run, to plan with."""

from pathlib import Path

import pytest

import flows.chain
from tests.flows.made_up_chain import chain, finish


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store with one finished run."""
    monkeypatch.setattr(flows.chain, "HOME", tmp_path / "home")
    finish(chain(tmp_path / "store"), tmp_path / "made")
    return tmp_path / "store"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, for tests that add nothing to it."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flows.chain, "HOME", folder / "home")
        finish(chain(folder / "store"), folder / "made")
    return folder / "store"
