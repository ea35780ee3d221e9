"""Publishing a stored model: every place is recorded once, and options that mean nothing together are refused."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from flows.cli.publish import publish
from flows.publish import publications, publish_model
from infra.store import records
from infra.store.open import open_store
from infra.store.store import Store
from tests.infra.store.store_common import make_folder
from tests.steps.report.test_model_card import record


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store with one model, of the stage rl."""
    opened = open_store(tmp_path / "store", tmp_path / "cache")
    model = opened.put(make_folder(tmp_path / "model", **{"config.json": "{}"}), "model")
    records.write(opened, "stage-runs/run-1", record("rl", "b", outputs={"model": model}))
    return opened


def test_a_place_that_has_the_model_already_is_recorded_after_an_interruption(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = str(tmp_path / "first"), str(tmp_path / "second")
    publish_model(store, "rl", first, False, False)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("flows.publish.user_name", _interrupted)
        publish_model(store, "rl", second, False, False)
    assert [one.address for one in publications(store)] == [first]
    for _ in range(2):
        assert publish_model(store, "rl", second, False, False).unchanged
    assert [one.address for one in publications(store)] == [first, second]


def _interrupted() -> str:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["rl", "--replace"], "--replace and --public are for a DESTINATION"),
        (["rl", "./out", "--card"], "--card prints the card and publishes nothing"),
    ],
)
def test_options_that_mean_nothing_together_are_refused(arguments: list[str], words: str) -> None:
    result = CliRunner().invoke(publish, arguments)
    assert result.exit_code == 2 and words in result.output
