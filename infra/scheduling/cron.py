"""Times by five cron fields, read as Argo's CronWorkflow reads them: a definition means the same on a cluster and here.

APScheduler computes the times. What it reads otherwise is settled before it sees the fields: it counts weekdays from
Monday, where cron has 0 for Sunday, and it asks for day of month *and* day of week, where cron is content with either
once both are restricted.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from apscheduler.triggers.cron import CronTrigger

WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
DAYS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
"""Most days of each month."""

PART = re.compile(r"(\*|\w+)(?:-(\w+))?(?:/(\d+))?", re.ASCII)


@dataclass(frozen=True)
class Field:
    """One of the five."""

    name: str
    least: int
    most: int
    words: Mapping[str, int]

    def values(self, text: str) -> tuple[int, ...]:
        """The values that the text allows, in order. Raises ValueError naming the field."""
        values: set[int] = set()
        for part in text.split(","):
            match = PART.fullmatch(part)
            if match is None or (match[1] == "*" and match[2]):
                raise ValueError(f"{self.name} {text!r}: {part!r} is none of *, N, N-M and */STEP")
            step = int(match[3] or 1)
            first = self.least if match[1] == "*" else self._number(match[1], text)
            # As cron has it, N/STEP continues from N to the end.
            to_the_end = match[1] == "*" or match[3]
            last = self._number(match[2], text) if match[2] else self.most if to_the_end else first
            if last < first or step == 0:
                raise ValueError(
                    f"{self.name} {text!r}: {part!r} is empty: a range goes upwards, in steps of 1 or more"
                )
            values.update(range(first, last + 1, step))
        return tuple(sorted(values))

    def _number(self, word: str, text: str) -> int:
        value = self.words.get(word.lower(), int(word) if word.isdecimal() else -1)
        if not self.least <= value <= self.most:
            names = f", or {'|'.join(self.words)}" if self.words else ""
            raise ValueError(f"{self.name} {text!r}: {word!r} is not in {self.least} to {self.most}{names}")
        return value


FIELDS = (
    Field("minute", 0, 59, {}),
    Field("hour", 0, 23, {}),
    Field("day of month", 1, 31, {}),
    Field("month", 1, 12, {name: number for number, name in enumerate(MONTHS, 1)}),
    Field("day of week", 0, 6, {name: number for number, name in enumerate(WEEKDAYS)}),
)


@dataclass(frozen=True)
class Cron:
    """The times at which the five fields hold."""

    minute: tuple[int, ...]
    hour: tuple[int, ...]
    day: tuple[int, ...]
    month: tuple[int, ...]
    weekday: tuple[int, ...]
    """0 is Sunday."""
    either: bool
    """Day of month and day of week are both restricted: one of them is enough."""

    @classmethod
    def parse(cls, text: str) -> "Cron":
        """From five fields. Raises ValueError naming the field, also for days that never come."""
        fields = text.split()
        if len(fields) != len(FIELDS):
            names = ", ".join(field.name for field in FIELDS)
            raise ValueError(f"{text!r} has {len(fields)} fields; expected five: {names}, as in '0 3 * * 1'")
        minute, hour, day, month, weekday = (field.values(part) for field, part in zip(FIELDS, fields, strict=True))
        either = not fields[2].startswith("*") and not fields[4].startswith("*")
        cron = cls(minute, hour, day, month, weekday, either)
        if not either and not any(cron.day[0] <= DAYS[month - 1] for month in cron.month):
            raise ValueError(f"{text!r} never comes: month {fields[3]} has no day {fields[2]}")
        return cron

    def next(self, timezone: str, after: datetime) -> datetime | None:
        """The first time after a time, in UTC; None where none comes any more. `timezone` is an IANA name.

        A time that the clock skips in spring comes as much later as the clock was put forward; one that it shows twice
        in autumn comes twice.
        """
        # Asked in UTC: within an hour that comes twice, two times of one zone are compared by what the clock shows.
        just_after = after.astimezone(UTC) + timedelta(microseconds=1)
        times = (trigger.get_next_fire_time(None, just_after) for trigger in _triggers(self, timezone))
        return min((time.astimezone(UTC) for time in times if time is not None), default=None)


@cache
def _triggers(cron: Cron, timezone: str) -> "list[CronTrigger]":
    from apscheduler.triggers.cron import CronTrigger

    shared = {"minute": _listed(cron.minute), "hour": _listed(cron.hour), "month": _listed(cron.month)}
    days = {"day": _listed(cron.day)}
    weekdays = {"day_of_week": ",".join(WEEKDAYS[number] for number in cron.weekday)}
    each = [days, weekdays] if cron.either else [days | weekdays]
    return [CronTrigger(**shared, **one, second=0, timezone=timezone) for one in each]


def _listed(values: tuple[int, ...]) -> str:
    return ",".join(map(str, values))
