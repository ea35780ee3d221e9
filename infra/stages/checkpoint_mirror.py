"""A stage's checkpoints, reachable from another machine: what it keeps in its folder is kept in the store as well.

    checkpoints/<key>/index.json          {"format": 1, "files": {path: [batch, size, SHA-256]}}, written last
    checkpoints/<key>/<batch>/<path>      the files, in the batches in which they came to be there

Invariant: the index names nothing that is not whole, so that whoever fetches has the folder as it once was; of a copy
that broke off nothing is named, and the next one takes it away. It asks of the stage that files appear whole, never
change, and that the folder is fit to go on from at any time; names that begin with a dot are left out (infra/files.py).

The store is written to beside the stage, never in its way: a store that refuses makes the copy older, and is reported.
"""

import json
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from infra.files import folder_written_aside
from infra.progress.tasks import say
from infra.store.backend import Backend, Corrupted, StoreError, folder_files
from infra.store.manifest import FileEntry

EVERY_S = 2.0
"""Seconds between looks at the folder."""
LAST_S = 90.0
"""Seconds for the last copy of a stage that was ended: a spot node has two minutes from the notice on."""


class _Index(BaseModel):
    model_config = ConfigDict(extra="forbid")

    format: int = 1
    files: dict[str, tuple[str, int, str]]


@contextmanager
def mirrored(backend: Backend, key: str, folder: Path, cache: Path) -> Iterator[None]:
    """Keep a stage's folder of checkpoints in the store while the block runs; gone from there once it ends well.

    Where the folder is not there, it is fetched first. Raises StoreError where that fails, Corrupted naming a file.

    Args:
        cache: where files from afar pass through on this machine.
    """
    mirror = Mirror(backend, key, folder)
    if not folder.exists():
        mirror.fetch(cache)
    over, done = threading.Event(), threading.Event()
    thread = threading.Thread(target=_keep_up, args=(mirror, over, done), daemon=True)
    thread.start()
    try:
        yield
    except BaseException:
        over.set()
        thread.join(LAST_S)
        raise
    done.set()
    over.set()
    thread.join()
    try:
        mirror.drop()
    except StoreError as error:
        # The stage is done all the same.
        say(f"{backend.address}/checkpoints/{key} is not needed any more and could not be deleted: {error}")


def _keep_up(mirror: "Mirror", over: threading.Event, done: threading.Event) -> None:
    """Copy now and then, and once more at the end, unless the stage is done."""
    reported = False
    while True:
        last = over.wait(EVERY_S)
        if done.is_set():
            return
        try:
            mirror.copy()
            reported = False
        except (StoreError, OSError) as error:
            if not reported:
                say(f"checkpoints could not be copied to the store, which is tried again: {error}")
            reported = True
        if last:
            return


@dataclass
class Mirror:
    """The copy of one folder of checkpoints."""

    backend: Backend
    key: str
    folder: Path
    _known: dict[str, tuple[str, int, str]] | None = field(default=None, init=False)
    """What the index holds; None as long as it was not read."""

    @property
    def _place(self) -> str:
        return f"checkpoints/{self.key}"

    def copy(self) -> bool:
        """Copy what is new, and take away what is gone; whether anything was. Raises StoreError."""
        if self._known is None:
            self._known = self._read()
        sizes = self._sizes()
        unchanged = {path: entry for path, entry in self._known.items() if sizes.get(path) == entry[1]}
        new = {path: size for path, size in sizes.items() if path not in unchanged}
        if not sizes or not (new or len(unchanged) < len(self._known)):
            return False
        added = self._send(sizes, new)
        if added is None:
            return False
        unchanged |= added
        self.backend.write_text(f"{self._place}/index.json", _Index(files=unchanged).model_dump_json())
        self._known = unchanged
        named = {f"{batch}/{path}" for path, (batch, _, _) in unchanged.items()} | {"index.json"}
        self.backend.delete([f"{self._place}/{path}" for path in self.backend.files(self._place).keys() - named])
        return True

    def fetch(self, cache: Path) -> None:
        """Make the folder what it was when it was copied last; nothing where it never was. Raises StoreError."""
        files = self._read()
        if not files:
            return
        say(f"checkpoints of an attempt elsewhere are fetched: {len(files)} files")
        with folder_written_aside(self.folder) as aside:
            for batch in sorted({batch for batch, _, _ in files.values()}):
                entries = [FileEntry(path=p, size=s, sha256=d) for p, (b, s, d) in sorted(files.items()) if b == batch]
                fetched = self.backend.fetch(f"{self._place}/{batch}", entries, cache, lambda done: None)
                for entry in entries:
                    place = aside / entry.path
                    place.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(fetched / entry.path, place)
        shutil.rmtree(cache / self._place, ignore_errors=True)

    def drop(self) -> None:
        """Take the copy away: the index first, so that a half of it is never taken for a whole. Raises StoreError."""
        files = sorted(self.backend.files(self._place), key=lambda path: path != "index.json")
        self.backend.delete([f"{self._place}/{path}" for path in files])
        self._known = None

    def _sizes(self) -> dict[str, int]:
        return {path: file.size for path, file in folder_files(self.folder).items() if not _hidden(path)}

    def _send(self, sizes: dict[str, int], new: dict[str, int]) -> dict[str, tuple[str, int, str]] | None:
        """Copy the new files in a batch of their own. None where the stage has saved since `sizes` were looked at.

        A look at a folder takes a moment, in which a checkpoint may come and the one before it go: what was seen is a
        state of the folder only if it is still all there is once the files are held by links.
        """
        batch = os.urandom(8).hex()
        with tempfile.TemporaryDirectory(dir=self.folder.parent, prefix=".mirror.") as place:
            try:
                for path in new:
                    link = Path(place) / path
                    link.parent.mkdir(parents=True, exist_ok=True)
                    os.link(self.folder / path, link)
            except FileNotFoundError:
                return None
            if self._sizes() != sizes:
                return None
            if not new:
                return {}
            with self.backend.incoming(Path(place), new, lambda done: None) as incoming:
                incoming.deliver(f"{self._place}/{batch}")
                return {path: (batch, size, incoming.sha256[path]) for path, size in new.items()}

    def _read(self) -> dict[str, tuple[str, int, str]]:
        text = self.backend.read(f"{self._place}/index.json")
        if text is None:
            return {}
        where = f"{self.backend.address}/{self._place}/index.json"
        try:
            index = _Index.model_validate(json.loads(text))
        except (ValueError, ValidationError) as error:
            raise Corrupted(f"{where} is not an index of checkpoints: delete it to begin from scratch") from error
        if index.format != 1:
            raise StoreError(f"{where} is of format {index.format}, and this version knows format 1: upgrade it")
        return index.files


def _hidden(path: str) -> bool:
    return any(part.startswith(".") for part in path.split("/"))
