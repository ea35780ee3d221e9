"""A finished run, which changes are compared with."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import flows.chain
from infra.store.records import StageRecord
from tests.flows.made_up_chain import chain, finish


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("reruns")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flows.chain, "HOME", folder / "home")
        yield folder / "store"


@pytest.fixture(scope="module")
def done(store: Path) -> dict[str, StageRecord]:
    """A finished run."""
    return finish(chain(store), store.parent / "made")
