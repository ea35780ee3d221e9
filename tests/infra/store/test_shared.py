"""A store that two users of one group share."""

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from infra.store.local import LocalBackend
from infra.store.open import open_store
from infra.store.store import StoreError

FIRST, SECOND, GROUP = 60_001, 60_002, 60_100

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may become other users")


@contextmanager
def user(uid: int, group: int = GROUP) -> Iterator[None]:
    """As another user, with the usual umask."""
    umask = os.umask(0o022)
    os.setegid(group)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.umask(umask)


@pytest.fixture
def shared() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="longhaul-shared-", dir="/tmp"))
    os.chown(folder, FIRST, GROUP)
    folder.chmod(0o2775)
    yield folder
    shutil.rmtree(folder)


def put(shared: Path, uid: int, text: str) -> None:
    source = shared / f"source-{uid}"
    source.mkdir(exist_ok=True)
    (source / "text").write_text(text)
    store = open_store(shared / "store")
    ref = store.put(source, "dataset")
    store.write_record("runs/shared", {"text": text})
    store.verify(ref)


def test_what_one_user_stores_another_of_the_group_can_add_to(shared: Path) -> None:
    for uid, text in ((FIRST, "a"), (SECOND, "b"), (FIRST, "b"), (SECOND, "a")):
        with user(uid):
            put(shared, uid, text)
    folders = [path for path in (shared / "store").rglob("*") if path.is_dir()]
    assert len(folders) > 5
    for path in folders:
        assert path.stat().st_gid == GROUP and path.stat().st_mode & 0o2070 == 0o2070, path
    with user(SECOND):
        store = open_store(shared / "store")
        assert len(store.read_records("runs/shared")) == 4
        with LocalBackend(shared / "store").incoming(shared / f"source-{SECOND}", {"text": 1}, lambda done: None):
            os.seteuid(0)
            os.seteuid(FIRST)
            assert store.backend.leftovers(), "what another user is storing can be listed"
            os.seteuid(0)
            os.seteuid(SECOND)


def test_each_of_the_group_can_take_a_lease(shared: Path) -> None:
    for uid in (FIRST, SECOND):
        with user(uid):
            assert LocalBackend(shared / "store").write_if(f"leases/{uid}.json", "{}", None)


def test_a_folder_that_its_group_may_not_write_to_stays_its_owners(shared: Path) -> None:
    shared.chmod(0o755)
    with user(FIRST):
        put(shared, FIRST, "a")
    assert not [path for path in (shared / "store").rglob("*") if path.stat().st_mode & stat.S_IWGRP]
    with user(SECOND), pytest.raises(StoreError, match="Permission denied"):
        open_store(shared / "store").write_record("runs/shared", {})
