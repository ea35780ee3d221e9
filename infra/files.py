"""Files that appear whole or not at all: written aside, synced to disk, then renamed into place."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def sync_folder(folder: Path) -> None:
    """Make renames inside a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text_atomically(path: Path, text: str, aside_in: Path | None = None) -> None:
    """Replace the file at `path` by `text`. A reader sees the old file or the new one, never a part.

    It is written aside beside `path`, or in another folder of the same file system.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, aside = tempfile.mkstemp(dir=aside_in or path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(aside, 0o644)
        os.replace(aside, path)
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


@contextmanager
def folder_written_aside(destination: Path) -> Iterator[Path]:
    """A folder to fill, which becomes `destination` when the block ends well and vanishes when it does not.

    NOTE: where `destination` exists by then it stays as it is, and the new folder is dropped: for content-addressed
    folders both are the same.
    """
    destination.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(dir=destination.parent, prefix=f".{destination.name}."))
    try:
        yield aside
        for root, _, names in os.walk(aside):
            for name in names:
                with open(os.path.join(root, name), "rb") as file:
                    os.fsync(file.fileno())
            sync_folder(Path(root))
        os.chmod(aside, 0o755)
        try:
            os.rename(aside, destination)
        except OSError:
            if not destination.is_dir():
                raise
        sync_folder(destination.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
