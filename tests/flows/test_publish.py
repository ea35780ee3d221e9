"""Publishing a stored model: every place is recorded once, and options that mean nothing together are refused."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from flows.cli.publish import publish
from flows.publish import publications, publish_model
from infra.store import records
from infra.store.open import open_store
from infra.store.s3 import S3Backend
from infra.store.store import Store, StoreError
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


def test_the_store_is_not_a_place_to_publish_to(store: Store, tmp_path: Path) -> None:
    for place in (tmp_path / "store", tmp_path, tmp_path / "store" / "mine"):
        with pytest.raises(StoreError, match=r"holds the store .*name a place beside it"):
            publish_model(store, "rl", str(place), True, False)
    remote = Store(S3Backend("s3://bucket/longhaul"), tmp_path / "cache")
    for address in ("s3://bucket", "s3://bucket/longhaul/", "s3://bucket/longhaul/objects"):
        with pytest.raises(StoreError, match="holds the store s3://bucket/longhaul"):
            publish_model(remote, "rl", address, True, False)
    publish_model(store, "rl", str(tmp_path / "store-of-models"), False, False)


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
