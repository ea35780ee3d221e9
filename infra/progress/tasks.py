"""Progress of long work, shown where someone looks: stages call `task` and `say` and do not know who watches.

Invariant: nothing here hands anything back that a result could be made from. Functions return None or are context
managers, and so do the methods of what those yield; a stage's key therefore leaves this module out.
"""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from infra.progress.events import Event
from infra.progress.sinks import Sink, choose_sink

_lock = threading.RLock()
_sink: Sink | None = None
_stage = ""


def _send(kind: str, **fields: Any) -> None:
    global _sink
    event = Event.model_validate({"time": time.time(), "kind": kind, "stage": _stage, **fields})
    with _lock:
        if _sink is None:
            _sink = choose_sink(os.environ)
        _sink.handle(event)


def say(text: str) -> None:
    """Show a message, line by line."""
    for line in text.splitlines():
        _send("say", note=line)


class Task:
    """Work under way, which may be advanced from several threads. Made by `task`."""

    def __init__(self, name: str, total: float | None, unit: str) -> None:
        self._lock = threading.Lock()
        self._state: dict[str, Any] = {"task": name, "total": total, "unit": unit, "done": 0, "note": ""}

    def advance(self, by: float = 1) -> None:
        """Count `by` more units as done. Raises ValueError for less than none."""
        if by < 0:
            raise ValueError(f"task {self._state['task']!r} cannot advance by {by}")
        with self._lock:  # sent under the lock too, or an older state could overtake a newer one
            self._state["done"] += by
            self._send("update")

    def note(self, text: str) -> None:
        """Say in a few words how it goes; it stands beside the bar until the next note."""
        with self._lock:
            self._state["note"] = text
            self._send("update")

    def _send(self, kind: str, failed: bool = False) -> None:
        _send(kind, failed=failed, **self._state)


@contextmanager
def task(name: str, total: float | None = None, unit: str = "") -> Iterator[Task]:
    """Show work on `total` units (None where nobody knows) for as long as the block lasts."""
    if not name:
        raise ValueError("a task needs a name")
    started = Task(name, total, unit)
    started._send("task")
    try:
        yield started
    except BaseException:
        started._send("task_done", failed=True)
        raise
    started._send("task_done")


class Stage:
    """A stage under way. Made by `stage_progress`."""

    def __init__(self) -> None:
        self._headline = ""

    def note(self, text: str) -> None:
        """Set the headline that stands beside the stage once it is done."""
        self._headline = text


@contextmanager
def stage_progress(name: str) -> Iterator[Stage]:
    """Put all progress of this process under a stage's name, and show how long the stage took."""
    global _stage
    if not name:
        raise ValueError("a stage needs a name")
    before, _stage = _stage, name
    started = Stage()
    try:
        _send("stage")
        try:
            yield started
        except BaseException:
            _send("stage_done", note=started._headline, failed=True)
            raise
        _send("stage_done", note=started._headline)
    finally:
        _stage = before
