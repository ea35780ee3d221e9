"""Files that appear whole or not at all: written aside, synced to disk, then renamed into place."""

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def sync_folder(folder: Path) -> None:
    """Make renames inside a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folders(folder: Path) -> None:
    """Make a folder and those above it that are missing. Raises OSError.

    Below a folder that its group may write to, they have that group and its permissions, whatever the umask is: whoever
    shares that folder shares what is made in it.
    """
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for each in reversed(missing):
        try:
            each.mkdir()
        except FileExistsError:
            if not each.is_dir():
                raise
        else:
            share_with_group(each)


def share_with_group(path: Path) -> None:
    """Give a new folder or file the group of the folder that it is in, with its permissions, where that group may write
    there."""
    parent = path.parent.stat()
    if not parent.st_mode & stat.S_IWGRP:
        return
    with suppress(PermissionError):  # we may not be in that group
        os.chown(path, -1, parent.st_gid)
    status = path.stat()
    if status.st_gid == parent.st_gid:
        rights = stat.S_IRWXG | stat.S_ISGID if stat.S_ISDIR(status.st_mode) else stat.S_IRGRP | stat.S_IWGRP
        path.chmod(stat.S_IMODE(status.st_mode) | parent.st_mode & rights)


def make_file(path: Path) -> None:
    """Make an empty file where it is missing; whoever may write to its folder may write to it. Raises OSError."""
    with suppress(FileExistsError):
        path.touch(exist_ok=False)
        share_with_group(path)


def write_text_atomically(path: Path, text: str, aside_in: Path | None = None) -> None:
    """Replace the file at `path` by `text`. A reader sees the old file or the new one, never a part.

    It is written aside beside `path`, or in another folder of the same file system.
    """
    make_folders(path.parent)
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
    make_folders(destination.parent)
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
