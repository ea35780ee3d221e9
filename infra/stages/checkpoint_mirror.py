"""A stage's checkpoints, reachable from another machine: what it keeps in its folder is kept in the store as well.

    checkpoints/<key>/index-<attempt>.json   {"format": 1, "files": {path: [batch, size, SHA-256]}}, written last
    checkpoints/<key>/<batch>/<path>         the files, in the batches in which they came to be there

Invariant: an index names nothing that is not whole, so that whoever fetches has the folder as it once was; of a copy
that broke off nothing is named, and the next one takes it away. Each attempt at the stage has an index of its own, and
names only files that it has sent or fetched itself: files of two attempts never mix. Where an index is broken all the
same, that is reported, and the attempt before it or a fresh start takes its place. It asks of the stage that files
appear whole, never change, and that the folder is fit to resume from at any time; names that begin with a dot are left
out (infra/files.py).

The store is written to beside the stage, never in its way: a store that refuses makes the copy older, and is reported.
"""

import json
import os
import re
import secrets
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from infra.files import folder_written_aside, write_text_atomically
from infra.progress.tasks import say
from infra.stages.lease import Lease
from infra.store.backend import Backend, Corrupted, Damaged, StoreError, folder_files
from infra.store.manifest import FileEntry

EVERY_S = 2.0
"""Seconds between looks at the folder."""
LAST_S = 90.0
"""Seconds for the last copy of a stage that was ended: a spot node has two minutes from the notice on."""


INDEX = re.compile(r"index(?:-([0-9a-z]+))?\.json")
"""Names of indexes; before there were attempts, there was one without."""


class _Index(BaseModel):
    model_config = ConfigDict(extra="forbid")

    format: int = 1
    files: dict[str, tuple[str, int, str]]


@contextmanager
def mirrored(backend: Backend, key: str, folder: Path, cache: Path, lease: Lease | None = None) -> Iterator[None]:
    """Keep a stage's folder of checkpoints in the store while the block runs; gone from there once it ends well.

    Where the folder is not there, it is fetched first, if it can be. Raises StoreError where the store cannot be
    reached.

    Args:
        cache: where files from afar pass through on this machine.
        lease: names the attempt; nothing is written any more once it may have been lost.
    """
    mirror = Mirror(backend, key, folder)
    if lease is not None:
        mirror.attempt, mirror.may_write = lease.attempt, lambda: lease.held
    if folder.exists():
        mirror.recognise()
    else:
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
    if not mirror.may_write():
        return  # they may be those of an attempt that took the stage over
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
    attempt: str = field(default_factory=lambda: secrets.token_hex(8))
    may_write: Callable[[], bool] = lambda: True
    """Whether no other attempt can be under way."""
    _known: dict[str, tuple[str, int, str]] = field(default_factory=dict, init=False)
    """What this attempt's index holds, or may hold without sending it."""

    @property
    def _place(self) -> str:
        return f"checkpoints/{self.key}"

    @property
    def _marker(self) -> Path:
        """The file beside the folder with the attempt that has copied it last."""
        return self.folder.parent / f".{self.folder.name}.attempt"

    def copy(self) -> bool:
        """Copy what is new, and take away what is gone; whether anything was. Raises StoreError."""
        sizes = self._sizes()
        unchanged = {path: entry for path, entry in self._known.items() if sizes.get(path) == entry[1]}
        new = {path: size for path, size in sizes.items() if path not in unchanged}
        if not sizes or not (new or len(unchanged) < len(self._known)) or not self.may_write():
            return False
        added = self._send(sizes, new)
        if added is None or not self.may_write():
            return False
        unchanged |= added
        index = f"index-{self.attempt}.json"
        self.backend.write_text(f"{self._place}/{index}", _Index(files=unchanged).model_dump_json())
        write_text_atomically(self._marker, self.attempt)
        self._known = unchanged
        named = {f"{batch}/{path}" for path, (batch, _, _) in unchanged.items()} | {index}
        stray = self.backend.files(self._place).keys() - named
        # Indexes first: none may name what is gone.
        self.backend.delete([f"{self._place}/{path}" for path in sorted(stray, key=_indexes_first)])
        return True

    def recognise(self) -> None:
        """Take what the folder's last attempt has sent as sent: files never change. Raises StoreError."""
        try:
            attempt = self._marker.read_text(encoding="utf-8")
        except OSError:
            return
        try:
            self._known = self._read(f"index-{attempt}.json")
        except Corrupted:
            return  # the next copy replaces it

    def fetch(self, cache: Path) -> None:
        """Make the folder what it was when it was copied last; nothing where it never was.

        A copy that is not whole is reported and passed over. Raises StoreError where the store cannot be reached.
        """
        files = self.backend.files(self._place)
        indexes = [path for path in files if INDEX.fullmatch(path)]
        for index in sorted(indexes, key=lambda path: files[path].modified, reverse=True):
            try:
                self._fetch(index, cache)
                return
            except (Corrupted, Damaged) as error:
                say(f"checkpoints of an attempt elsewhere are not whole and not used: {error}")
        if indexes:
            say("no checkpoint can be used: the stage starts from its beginning")

    def _fetch(self, index: str, cache: Path) -> None:
        files = self._read(index)
        if not files:
            return
        say(f"checkpoints of an attempt elsewhere are fetched: {len(files)} files")
        try:
            with folder_written_aside(self.folder) as aside:
                for batch in sorted({batch for batch, _, _ in files.values()}):
                    entries = [
                        FileEntry(path=p, size=s, sha256=d) for p, (b, s, d) in sorted(files.items()) if b == batch
                    ]
                    fetched = self.backend.fetch(f"{self._place}/{batch}", entries, cache, lambda done: None)
                    for entry in entries:
                        place = aside / entry.path
                        place.parent.mkdir(parents=True, exist_ok=True)
                        shutil.copyfile(fetched / entry.path, place)
        finally:
            shutil.rmtree(cache / self._place, ignore_errors=True)
        self._known = files

    def drop(self) -> None:
        """Take the copy away: indexes first, so that a half of it is never taken for a whole. Raises StoreError."""
        files = sorted(self.backend.files(self._place), key=_indexes_first)
        self.backend.delete([f"{self._place}/{path}" for path in files])
        self._marker.unlink(missing_ok=True)
        self._known = {}

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

    def _read(self, index: str) -> dict[str, tuple[str, int, str]]:
        text = self.backend.read(f"{self._place}/{index}")
        if text is None:
            return {}
        where = f"{self.backend.address}/{self._place}/{index}"
        try:
            content = _Index.model_validate(json.loads(text))
        except (ValueError, ValidationError) as error:
            raise Corrupted(f"{where} is not an index of checkpoints") from error
        if content.format != 1:
            raise StoreError(f"{where} is of format {content.format}, and this version knows format 1: upgrade it")
        return content.files


def _indexes_first(path: str) -> bool:
    return INDEX.fullmatch(path) is None


def _hidden(path: str) -> bool:
    return any(part.startswith(".") for part in path.split("/"))
