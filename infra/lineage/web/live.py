"""The progress of running stages, from the progress files that runs write on this machine."""

import copy
import threading
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from pathlib import Path

from infra.progress.events import Event
from infra.progress.view import Tail

MAX_RUNS = 16
MAX_MESSAGES = 8
SILENT_SECONDS = 120.0
"""A run that has not ended and wrote no progress for so long is shown as silent: it may have been killed."""


@dataclass
class TaskState:
    """A task of a stage."""

    name: str
    unit: str
    began: float
    """Seconds since 1970, as all times here."""
    done: float = 0
    total: float | None = None
    note: str = ""
    ended: bool = False
    failed: bool = False
    updated: float = 0.0

    @property
    def rate(self) -> float | None:
        """Units a second; None while that is unknown."""
        seconds = self.updated - self.began
        return self.done / seconds if self.done and seconds > 0 else None

    @property
    def remaining_seconds(self) -> float | None:
        """Seconds to the end; None where that is unknown."""
        if self.rate is None or self.total is None or self.ended:
            return None
        return max(0.0, self.total - self.done) / self.rate


@dataclass
class StageState:
    """A stage, from its progress."""

    name: str
    began: float
    ended: float | None = None
    failed: bool = False
    headline: str = ""
    tasks: dict[str, TaskState] = field(default_factory=dict)

    @property
    def running(self) -> list[TaskState]:
        """The tasks that have not ended."""
        return [task for task in self.tasks.values() if not task.ended]


@dataclass
class RunState:
    """A run, from its progress file."""

    stages: dict[str, StageState] = field(default_factory=dict)
    messages: deque[Event] = field(default_factory=lambda: deque(maxlen=MAX_MESSAGES))
    last: float | None = None
    """Time of the newest event."""

    @property
    def running(self) -> list[StageState]:
        """The stages that have begun and not ended."""
        return [stage for stage in self.stages.values() if stage.ended is None]

    def apply(self, event: Event) -> None:
        """Update the state by one event."""
        self.last = event.time
        if event.kind == "say":
            self.messages.append(event)
            return
        if event.kind == "stage" or event.stage not in self.stages:
            self.stages[event.stage] = StageState(event.stage, event.time)
        stage = self.stages[event.stage]
        if event.kind == "stage_done":
            stage.ended, stage.failed, stage.headline = event.time, event.failed, event.note
        elif event.task:
            if event.kind == "task" or event.task not in stage.tasks:
                stage.tasks[event.task] = TaskState(event.task, event.unit, event.time)
            task = stage.tasks[event.task]
            task.done, task.total, task.note, task.updated = event.done, event.total, event.note, event.time
            task.ended, task.failed = event.kind == "task_done", event.failed


class LiveProgress:
    """Follows the progress files of the runs that visitors look at; only new lines are read."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._lock = threading.Lock()
        self._followed: OrderedDict[str, tuple[Tail, RunState]] = OrderedDict()

    def state(self, run: str) -> RunState | None:
        """A run's state; None where it left no progress on this machine. `run` is a name that is in the index."""
        path = self._home / "runs" / run / "progress.jsonl"
        with self._lock:
            if run not in self._followed:
                if not path.is_file():
                    return None
                self._followed[run] = (Tail(path), RunState())
                while len(self._followed) > MAX_RUNS:
                    self._followed.popitem(last=False)
            self._followed.move_to_end(run)
            tail, state = self._followed[run]
            for event in tail.events():
                state.apply(event)
            return copy.deepcopy(state)
