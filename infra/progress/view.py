"""Shows the progress of another process, from the file that LONGHAUL_PROGRESS named there."""

import os
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from pydantic import ValidationError
from rich.console import Console

from infra.progress.events import Event
from infra.progress.sinks import screen

POLL_INTERVAL = 0.1


class Tail:
    """Reads the events that were appended to a file since the last look."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = 0
        self._offset = 0
        self._partial = b""

    def events(self) -> list[Event]:
        """New events in order; none while there is no file. Lines that are not events are skipped.

        After the file was cut short or replaced, reading starts again from its beginning.
        """
        try:
            with self._path.open("rb") as file:
                status = os.fstat(file.fileno())
                if status.st_ino != self._file or status.st_size < self._offset:
                    self._file, self._offset, self._partial = status.st_ino, 0, b""
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return []
        self._offset += len(data)
        *lines, self._partial = (self._partial + data).split(b"\n")
        events = []
        for line in lines:
            try:
                events.append(Event.model_validate_json(line))
            except ValidationError:  # torn by a crash or a cut
                continue
        return events


class ProgressView:
    """Shows another process's progress file while the block lasts: bars on a terminal, plain lines elsewhere."""

    def __init__(self, path: Path, stderr: bool = False) -> None:
        self._tail = Tail(path)
        self._sink = screen(Console(stderr=stderr))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="progress view", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _follow(self) -> None:
        try:
            last = False
            while not last:
                last = self._stop.is_set()  # checked before reading, so that the last events are read
                for event in self._tail.events():
                    self._sink.handle(event)
                self._stop.wait(POLL_INTERVAL)
        finally:
            self._sink.close()
