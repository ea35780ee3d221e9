"""A folder on its way from one node to another: what is there already is not sent, and a file appears whole or not."""

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

CHUNK = 16 << 20

FileListing = Mapping[str, Sequence[object]]
"""Size and SHA-256 (hex) of each file, by its path below the folder."""


def list_folder(folder: Path) -> dict[str, list[object]]:
    """The files of a folder, as a FileListing. Links are followed: a cache of a hub holds nothing else."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): [path.stat().st_size, _sha256(path)] for path in files}


def missing_files(folder: Path, listing: FileListing) -> list[str]:
    """The files that a folder lacks, or has with other content. Raises OSError for a path that leads out of it."""
    for path in listing:
        if path.startswith("/") or ".." in path.split("/"):
            raise OSError(f"{path!r} would be written outside {folder}")
    return [path for path, (size, digest) in listing.items() if not _is(folder / path, size, digest)]


def send_files(send: Callable[[memoryview], object], folder: Path, paths: Iterable[str]) -> None:
    """Send files one after another, in chunks, each file's last one empty."""
    buffer = memoryview(bytearray(CHUNK))
    for path in paths:
        with (folder / path).open("rb", buffering=0) as file:
            while read := file.readinto(buffer):
                send(buffer[:read])
        send(buffer[:0])


def receive_files(receive: Callable[[], bytes], folder: Path, listing: FileListing, paths: Iterable[str]) -> None:
    """Take files as they were sent. Raises OSError for one whose bytes differ from the listing."""
    for path in paths:
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        descriptor, aside = tempfile.mkstemp(dir=place.parent, prefix=f".{place.name}.")
        digest = hashlib.sha256()
        try:
            with os.fdopen(descriptor, "wb") as file:
                while chunk := receive():
                    digest.update(chunk)
                    file.write(chunk)
            if digest.hexdigest() != listing[path][1]:
                raise OSError(f"{place} arrived with another SHA-256 than listed")
            os.replace(aside, place)
        except BaseException:
            Path(aside).unlink(missing_ok=True)
            raise


def _is(path: Path, size: object, digest: object) -> bool:
    return path.is_file() and path.stat().st_size == size and _sha256(path) == digest


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
