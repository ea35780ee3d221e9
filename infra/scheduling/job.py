"""What a scheduler runs, and when."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from apscheduler.triggers.base import BaseTrigger

from infra.scheduling.config import ScheduleConfig


@dataclass(frozen=True)
class Job:
    """A schedule with what it runs."""

    name: str
    config: str
    """The file that says so."""
    schedule: ScheduleConfig
    command: Sequence[str]
    digest: Callable[[], str]
    """The digest of the data; raises StoreError where they cannot be read."""
    notify: Callable[[str, str], None]
    """Reports a failure that the run cannot have reported itself: the error, and the log's path."""


class JobTimes(BaseTrigger):
    """A schedule's times, for APScheduler."""

    def __init__(self, schedule: ScheduleConfig) -> None:
        self._cron, self._timezone = schedule.times, schedule.timezone

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime | None:
        return self._cron.next(self._timezone, previous_fire_time or now)
