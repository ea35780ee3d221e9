"""What a scheduler keeps in a folder, so that it goes on after a restart, and so that commands can speak to it.

state.json        of each schedule: its definition, what is done, what is asked for; written whole, under a lock
history.jsonl     what happened, a line each, only ever added to
scheduler.lock    held by the scheduler that is at work here
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

from pydantic import BaseModel, ConfigDict, ValidationError

from infra.errors import LonghaulError
from infra.files import write_text_atomically
from infra.scheduling.config import ScheduleConfig

Event = Literal[
    "started", "succeeded", "failed", "interrupted", "missed", "skipped", "paused", "resumed", "asked for", "given up"
]


class ScheduleError(LonghaulError, RuntimeError):
    """The schedules cannot be read, or no schedule is what was asked for; the message says what to do."""


class Running(BaseModel):
    """A run that was started and has not been seen to end."""

    model_config = ConfigDict(extra="forbid")

    why: str
    started: datetime
    attempts: int = 1
    """Schedulers that started it: a run whose scheduler ends goes on under the next one."""


class Kept(BaseModel):
    """What is kept of a schedule."""

    model_config = ConfigDict(extra="forbid")

    config: str
    """The recipe's file."""
    schedule: ScheduleConfig
    since: datetime
    """All times up to here are dealt with."""
    paused: bool = False
    asked: bool = False
    """Someone wants a run now."""
    running: Running | None = None
    data: str | None = None
    """Digest of the data at the newest run."""
    trouble: str | None = None
    """Why the data could not be looked at, the last time."""

    @property
    def next(self) -> datetime | None:
        """When it is due next, in UTC; None where it is paused."""
        return None if self.paused else self.schedule.times.next(self.schedule.timezone, self.since)


class _State(BaseModel):
    model_config = ConfigDict(extra="forbid")

    format: Literal[1] = 1
    schedules: dict[str, Kept] = {}


class Happened(BaseModel):
    """A line of the history."""

    model_config = ConfigDict(extra="forbid")

    time: datetime
    schedule: str
    event: Event
    why: str = ""
    """What brought it about: time, data, asked for, goes on."""
    run: str | None = None
    """The run's name, where it can be told."""
    command: list[str] = []
    seconds: float | None = None
    error: str | None = None
    log: str | None = None


class ScheduleFolder:
    """The folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self) -> dict[str, Kept]:
        """Every schedule, by name. Raises ScheduleError for a file that is not the scheduler's."""
        path = self.folder / "state.json"
        try:
            return _State.model_validate_json(path.read_text(encoding="utf-8")).schedules
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, ValidationError) as error:
            raise ScheduleError(
                f"{path} cannot be read: {error}. Mend it, or remove it: then pauses and times that were missed are "
                "forgotten"
            ) from error

    @contextmanager
    def change(self) -> Iterator[dict[str, Kept]]:
        """Every schedule, to be changed in place; written when the block ends well. Others wait meanwhile."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "state.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            schedules = self.read()
            yield schedules
            write_text_atomically(
                self.folder / "state.json", _State(schedules=schedules).model_dump_json(indent=1) + "\n"
            )

    @contextmanager
    def change_one(self, name: str) -> Iterator[Kept]:
        """One schedule, to be changed in place. Raises ScheduleError where there is none of that name."""
        with self.change() as schedules:
            if name not in schedules:
                raise ScheduleError(no_such(name, schedules))
            yield schedules[name]

    def tell(self, name: str, event: Event, **more: Any) -> Happened:
        """Add to the history."""
        happened = Happened(time=datetime.now(UTC), schedule=name, event=event, **more)
        line = happened.model_dump_json(exclude_defaults=True) + "\n"
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
        return happened

    def history(self, name: str | None = None) -> list[Happened]:
        """What happened, oldest first. Lines that a power cut left unfinished are passed over."""
        try:
            lines = (self.folder / "history.jsonl").read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return []
        found = []
        for line in lines:
            try:
                found.append(Happened.model_validate(json.loads(line)))
            except (ValueError, ValidationError):
                continue
        return [one for one in found if name is None or one.schedule == name]

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

    def at_work(self) -> bool:
        """Whether a scheduler is at work here."""
        with self.lock("scheduler.lock") as held:
            return held is None


def no_such(name: str | None, schedules: dict[str, Kept]) -> str:
    """What to say of a schedule that is not there, or not named."""
    if not schedules:
        return "there is no schedule on this machine yet: longhaul schedule run --config FILE"
    known = ", ".join(schedules)
    if name is None:
        return f"which one? There are {known}"
    return f"there is no schedule {name!r} here; there are {known}, and `longhaul schedule run --config FILE` adds one"
