"""Publishing a folder's files to where others get them: a folder, s3://bucket/prefix, or a repository on the hub.

A destination has all files or does not look like it has: a folder is renamed into place, on S3 the file MARKER is
written last (and deleted first where something is replaced), and on the hub all files come in one commit. What was
copied or sent before an interruption is not sent again. A destination that holds anything else is refused, unless it is
to be replaced.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from infra.files import make_folders, sync_folder
from infra.store.backend import SCHEME, StoreError, file_sha256, naming, transfer_progress
from infra.store.publication import HUB, MARKER, WAY_OUT, Publication, Published, check_replaceable


def publish(publication: Publication, destination: str, replace: bool = False, public: bool = False) -> Published:
    """Bring the files to the destination: a path, s3://bucket/prefix, or owner/name (hf://owner/name) on the hub.

    Args:
        replace: whether files of something else, or of another model, may be overwritten and deleted.
        public: whether a repository that does not exist yet on the hub is made public.

    Raises StoreError naming the destination and the way out.
    """
    if destination.startswith(SCHEME):
        return _to_s3(publication, destination, replace)
    hub = hub_name(destination)
    if hub is not None:
        from infra.store.hub_upload import to_hub

        return to_hub(publication, hub, replace, public)
    # Where a link stands, the folder that it leads to is the one to replace.
    return _to_folder(publication, Path(destination).expanduser().resolve(), replace)


def hub_name(destination: str) -> str | None:
    """The repository that a destination names; None for a folder. Raises StoreError where it may be either."""
    if destination.startswith(HUB):
        return destination.removeprefix(HUB)
    if "://" in destination:
        raise StoreError(f"{destination}: expected a folder, s3://bucket/prefix, or owner/name on the hub")
    owner, slash, name = destination.partition("/")
    if not slash or not name or "/" in name or owner in ("", ".", "..", "~"):
        return None
    if Path(owner).is_dir():
        raise StoreError(
            f"{destination} may be a folder below {owner}, which is here, or a repository on the hub: write "
            f"./{destination} or {HUB}{destination}"
        )
    return destination


def _check_expendable(publication: Publication, folder: Path) -> None:
    """Raise StoreError for a folder that nobody means to replace as a whole, with whatever is in it."""
    model = {source.resolve().parent for source in publication.files.values()}
    held = {"the model itself": model, "the folder you are in": {Path.cwd()}, "your home": {Path("~").expanduser()}}
    for what, places in held.items():
        if any(place.resolve().is_relative_to(folder) for place in places):
            raise StoreError(
                f"{folder} is or holds {what}, and a destination is replaced as a whole: name a folder of its own, as "
                f"in {folder / 'published'}"
            )


def _to_folder(publication: Publication, folder: Path, replace: bool) -> Published:
    _check_expendable(publication, folder)
    aside, before = (folder.with_name(f".{folder.name}.{suffix}") for suffix in ("partial", "replaced"))
    if before.is_dir() and not folder.exists():
        before.rename(folder)  # interrupted between the two renames below
    there = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    if folder.exists() and not folder.is_dir():
        raise StoreError(f"{folder} is not a folder: {WAY_OUT.partition(',')[0]}")
    marker = (folder / MARKER).read_bytes() if MARKER in there else None
    if there and not replace:
        if marker is None:
            # A folder appears whole: what is there is somebody else's.
            raise StoreError(f"{folder} holds something else ({', '.join(sorted(there)[:3])}): {WAY_OUT}")
        check_replaceable(there, marker, publication, str(folder))
    with naming(folder):
        if _is_same(publication, folder, there, marker):
            return Published(str(folder), True)
        make_folders(folder.parent)
        _copy_aside(publication, aside)
        if folder.exists():
            shutil.rmtree(before, ignore_errors=True)
            folder.rename(before)
        aside.rename(folder)
        sync_folder(folder.parent)
    shutil.rmtree(before, ignore_errors=True)
    return Published(str(folder), False)


def _is_same(publication: Publication, folder: Path, there: Mapping[str, Path], marker: bytes | None) -> bool:
    if marker != publication.marker.encode() or there.keys() != {*publication.files, MARKER}:
        return False
    return all(_same_file(source, folder / path) for path, source in publication.files.items())


def _same_file(source: Path, copy: Path) -> bool:
    if not copy.is_file() or copy.is_symlink() or copy.stat().st_size != source.stat().st_size:
        return False
    return file_sha256(source, lambda done: None) == file_sha256(copy, lambda done: None)


def _copy_aside(publication: Publication, aside: Path) -> None:
    """Fill the folder beside the destination; what an interrupted attempt copied rightly stays."""
    expected = {*publication.files, MARKER}
    for path in aside.rglob("*") if aside.is_dir() else ():
        if path.is_symlink() or (path.is_file() and path.relative_to(aside).as_posix() not in expected):
            path.unlink()
    size = sum(source.stat().st_size for source in publication.files.values())
    with transfer_progress("publish", size) as count:
        for name, source in publication.files.items():
            target = aside / name
            make_folders(target.parent)
            if not _same_file(source, target):
                shutil.copyfile(source, target)
                _sync(target)
            count(source.stat().st_size)
    (aside / MARKER).write_text(publication.marker, encoding="utf-8")
    _sync(aside / MARKER)
    sync_folder(aside)


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _to_s3(publication: Publication, address: str, replace: bool) -> Published:
    from infra.store.s3 import S3Backend

    parent, _, name = address.rstrip("/").rpartition("/")
    if "/" not in address.removeprefix(SCHEME).strip("/"):
        raise StoreError(f"{address} is a whole bucket: name a prefix in it, s3://bucket/prefix")
    backend = S3Backend(parent)
    there = backend.sizes(name)
    marker = backend.read(f"{name}/{MARKER}") if MARKER in there else None
    if there and not replace:
        check_replaceable(there, marker, publication, address)
    with staged(publication) as folder:
        sizes = {path: source.stat().st_size for path, source in publication.files.items()}
        whole = there == {**sizes, MARKER: len(publication.marker.encode())}
        if whole and marker == publication.marker.encode() and _same_on_s3(backend, name, publication):
            return Published(address, True)
        # Whoever reads the marker meanwhile would take the files of two models for one.
        backend.delete([f"{name}/{MARKER}"])
        with (
            transfer_progress("publish", sum(sizes.values())) as count,
            backend.incoming(folder, sizes, count) as incoming,
        ):
            incoming.deliver(name)
        backend.write_text(f"{name}/{MARKER}", publication.marker)
    return Published(address, False)


def _same_on_s3(backend: Any, name: str, publication: Publication) -> bool:
    keys = {f"{name}/{path}": source for path, source in publication.files.items()}
    digests = backend.digests({key: source.stat().st_size for key, source in keys.items()}, lambda done: None)
    return all(digests[key] == file_sha256(source, lambda done: None) for key, source in keys.items())


@contextmanager
def staged(publication: Publication) -> Iterator[Path]:
    """A folder in which the files, but for the marker, lie as links."""
    with tempfile.TemporaryDirectory(prefix="longhaul-publish-") as temporary:
        for path, source in publication.files.items():
            link = Path(temporary) / path
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(source.absolute())
        yield Path(temporary)
