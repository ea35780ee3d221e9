"""What a scheduler stores in a folder, so that it resumes after a restart, and so that commands can talk to it.

state.json        of each schedule: its definition, what is done, what is requested; written whole, under a lock
history.jsonl     what happened, one entry per line, append-only
scheduler.lock    held by the scheduler that is running here
run.lock          held by the run that it started, for as long as that lives, also when the scheduler was killed
logs/             what each run printed
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from infra.errors import LonghaulError
from infra.files import write_text_atomically
from infra.scheduling.config import ScheduleConfig

Event = Literal[
    "started",
    "succeeded",
    "failed",
    "interrupted",
    "replaced",
    "missed",
    "skipped",
    "queued",
    "paused",
    "resumed",
    "requested",
    "given up",
]
State = Literal["running", "interrupted", "paused", "requested", "waiting"]


class ScheduleError(LonghaulError, RuntimeError):
    """The schedules cannot be read, or there is no such schedule; the message says what to do."""


_OLD_FIELDS = {"since": "handled_until", "asked": "requested", "trouble": "last_error", "why": "reason"}
_OLD_VALUES = {"asked for": "requested", "asked for, goes on": "requested, continued"} | {
    f"{reason}, goes on": f"{reason}, continued" for reason in ("time", "data")
}
"""Names in state files of format 1, and in lines of the history from before format 2."""


def _current_names(value: Any) -> Any:
    """What an older version wrote, under today's names."""
    if not isinstance(value, dict):
        return value
    return {
        _OLD_FIELDS.get(name, name): _OLD_VALUES.get(str(one), one) if name in ("event", "why") else one
        for name, one in value.items()
    }


class _Migrated(BaseModel):
    """Read from files of older versions too."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _migrate(cls, value: Any) -> Any:
        return _current_names(value)


class Running(_Migrated):
    """A run that was started and has not been seen to end."""

    reason: str
    started: datetime
    attempts: int = 1
    """Schedulers that started it: a run whose scheduler ends is resumed by the next one."""
    log: str | None = None
    process: int | None = None
    """Its process id."""


class ScheduleState(_Migrated):
    """Where a schedule stands."""

    config: str
    """The recipe's file."""
    schedule: ScheduleConfig
    handled_until: datetime
    """All times up to here are handled."""
    paused: bool = False
    requested: bool = False
    """A run is to start as soon as possible."""
    running: Running | None = None
    data: str | None = None
    """Digest of the data at the newest run."""
    last_error: str | None = None
    """Why the data could not be read, the last time."""

    @property
    def next(self) -> datetime | None:
        """When it is due next, in UTC; None where it is paused."""
        return None if self.paused else self.schedule.times.next(self.schedule.timezone, self.handled_until)


class _StateFile(BaseModel):
    model_config = ConfigDict(extra="forbid")

    format: Literal[1, 2] = 2
    """Format 1 had other names."""
    schedules: dict[str, ScheduleState] = {}


class HistoryEntry(_Migrated):
    """A line of the history."""

    time: datetime
    schedule: str
    event: Event
    reason: str = ""
    """What caused it: time, data, requested; with ", continued" where a run before it ended with its scheduler."""
    run: str | None = None
    """The run's name, where it is known."""
    command: list[str] = []
    seconds: float | None = None
    error: str | None = None
    log: str | None = None


class ScheduleFolder:
    """The folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self) -> dict[str, ScheduleState]:
        """Every schedule, by name. Raises ScheduleError for a file that is not the scheduler's."""
        path = self.folder / "state.json"
        try:
            return _StateFile.model_validate_json(path.read_text(encoding="utf-8")).schedules
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, ValidationError) as error:
            raise ScheduleError(
                f"{path} cannot be read: {error}. Fix it, or remove it: then pauses and times that were missed are "
                "forgotten"
            ) from error

    @contextmanager
    def change(self) -> Iterator[dict[str, ScheduleState]]:
        """Every schedule, to be changed in place; written when the block ends without an error. Others wait."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "state.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            schedules = self.read()
            yield schedules
            write_text_atomically(
                self.folder / "state.json", _StateFile(schedules=schedules).model_dump_json(indent=1) + "\n"
            )

    @contextmanager
    def change_one(self, name: str) -> Iterator[ScheduleState]:
        """One schedule, to be changed in place. Raises ScheduleError where there is none of that name."""
        with self.change() as schedules:
            if name not in schedules:
                raise ScheduleError(unknown_schedule(name, schedules))
            yield schedules[name]

    def add_entry(self, name: str, event: Event, **more: Any) -> HistoryEntry:
        """Add to the history."""
        entry = HistoryEntry(time=datetime.now(UTC), schedule=name, event=event, **more)
        line = entry.model_dump_json(exclude_defaults=True) + "\n"
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "history.jsonl"
        with path.open("ab+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            # A power cut may have left a line without its end: it must not take this one with it.
            if file.tell() and os.pread(file.fileno(), 1, file.tell() - 1) != b"\n":
                line = "\n" + line
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())
        return entry

    def history(self, name: str | None = None) -> list[HistoryEntry]:
        """What happened, oldest first. Lines that a power cut left unfinished are skipped."""
        try:
            lines = (self.folder / "history.jsonl").read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return []
        entries = []
        for line in lines:
            try:
                entries.append(HistoryEntry.model_validate(json.loads(line)))
            except (ValueError, ValidationError):
                continue
        return [one for one in entries if name is None or one.schedule == name]

    @contextmanager
    def lock(self, name: str) -> Iterator[int | None]:
        """A lock's descriptor while it is held here; None where another process holds it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / name).open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield None
            else:
                yield file.fileno()

    def states(self) -> dict[str, State]:
        """What each schedule is at. One whose run is marked as running while no run lives is interrupted: the next
        scheduler resumes it."""
        with self.lock("run.lock") as held:
            alive = held is None
        schedules = self.read()
        started = {name: one.running.started for name, one in schedules.items() if one.running is not None}
        # Runs take turns: of several that are marked, the newest is the one that lives.
        running = max(started, key=lambda name: started[name]) if started and alive else None
        states: dict[str, State] = {}
        for name, one in schedules.items():
            if name in started:
                states[name] = "running" if name == running else "interrupted"
            else:
                states[name] = "paused" if one.paused else "requested" if one.requested else "waiting"
        return states

    def scheduler_is_running(self) -> bool:
        """Whether a scheduler is running here."""
        with self.lock("scheduler.lock") as held:
            return held is None


def unknown_schedule(name: str | None, schedules: dict[str, ScheduleState]) -> str:
    """The error for a schedule that does not exist, or is not named."""
    if not schedules:
        return "there is no schedule on this machine yet: longhaul schedule run --config FILE"
    known = ", ".join(schedules)
    if name is None:
        return f"which one? There are {known}"
    return f"there is no schedule {name!r} here; there are {known}, and `longhaul schedule run --config FILE` adds one"
