"""Times by a line of cron, by the rules of robfig/cron 3.0.1, which Argo uses: a definition means the same on a cluster
and on one machine.

Where these rules differ from other crons:
- A day has to match both day fields if one of them holds a `*` or `?` by itself, else one of the two is enough. A `*`
  with a step above 1 does not count: `0 0 */2 * 1` is every odd day *or* Monday, `0 0 1 * 1,*` the first of a month.
- 7 is not Sunday, and ranges do not wrap around.
- A time that the clock skips in spring does not come that day; one that it shows twice in autumn comes twice.
- `@every 1h30m` counts from the time before.

tests/infra/scheduling/test_cron.py has a table of lines with the times that robfig/cron gives.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
DAYS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
"""Most days of each month."""
YEARS = 5
"""Years that are searched for a time."""

DESCRIPTORS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
EVERY = "@every "
SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ns": 1e-9}
DURATION = re.compile(r"(\d+\.?\d*|\.\d+)(h|ms|m|s|us|µs|μs|ns)", re.ASCII)
INTEGER = re.compile(r"\+?\d+", re.ASCII)


@dataclass(frozen=True)
class Field:
    """One of the five."""

    name: str
    least: int
    most: int
    words: Mapping[str, int]

    def values(self, text: str) -> tuple[frozenset[int], bool]:
        """The values that the text allows, and whether a `*` or `?` leaves the field open. Raises ValueError naming the
        field."""
        values: set[int] = set()
        is_open = False
        for part in filter(None, text.split(",")):
            span, *steps = part.split("/")
            low, *ends = span.split("-")
            step = self._integer(steps[0], text) if steps else 1
            if low in ("*", "?"):
                # What follows a `*` with a hyphen is ignored, as robfig/cron does.
                first, last = self.least, self.most
                is_open = is_open or step <= 1
            else:
                first = self._number(low, text)
                # N/STEP continues from N to the end.
                last = self._number(ends[0], text) if ends else self.most if steps else first
            if len(steps) > 1 or (len(ends) > 1 and low not in ("*", "?")):
                raise ValueError(f"{self.name} {text!r}: {part!r} is none of *, ?, N, N-M and */STEP")
            if last < first or step == 0:
                raise ValueError(
                    f"{self.name} {text!r}: {part!r} is empty: a range goes upwards, in steps of 1 or more"
                )
            values.update(range(first, last + 1, step))
        return frozenset(values), is_open

    def _number(self, word: str, text: str) -> int:
        value = self.words.get(word.lower())
        if value is None:
            value = self._integer(word, text)
        if not self.least <= value <= self.most:
            raise ValueError(f"{self.name} {text!r}: {word!r} is not in {self._range()}")
        return value

    def _integer(self, word: str, text: str) -> int:
        if INTEGER.fullmatch(word) is None or len(word) > 18:
            raise ValueError(f"{self.name} {text!r}: {word!r} is not a whole number in {self._range()}")
        return int(word)

    def _range(self) -> str:
        return f"{self.least} to {self.most}" + (f", or {'|'.join(self.words)}" if self.words else "")


FIELDS = (
    Field("minute", 0, 59, {}),
    Field("hour", 0, 23, {}),
    Field("day of month", 1, 31, {}),
    Field("month", 1, 12, {name: number for number, name in enumerate(MONTHS, 1)}),
    Field("day of week", 0, 6, {name: number for number, name in enumerate(WEEKDAYS)}),
)


@dataclass(frozen=True)
class Interval:
    """`@every DURATION`."""

    length: timedelta

    def next(self, timezone: str, after: datetime) -> datetime:
        """The time after a time, in UTC, at a whole second."""
        return (after.astimezone(UTC) + self.length).replace(microsecond=0)


@dataclass(frozen=True)
class Cron:
    """The times at which the five fields hold."""

    minute: frozenset[int]
    hour: frozenset[int]
    day: frozenset[int]
    month: frozenset[int]
    weekday: frozenset[int]
    """0 is Sunday."""
    either: bool
    """Day of month and day of week are both restricted: one of them is enough."""

    @staticmethod
    def parse(text: str) -> "Cron | Interval":
        """From five fields or a descriptor (@daily). Raises ValueError naming the field, also for days that never
        come."""
        if text.startswith("@"):
            if text.startswith(EVERY):
                return Interval(_duration(text))
            if text not in DESCRIPTORS:
                known = ", ".join(DESCRIPTORS)
                raise ValueError(f"{text!r} is not known: expected five fields, or one of {known}, @every 1h30m")
            return Cron.parse(DESCRIPTORS[text])
        if text.startswith(("TZ=", "CRON_TZ=")):
            raise ValueError(f"{text!r} names a time zone: put it into the key `timezone`")
        fields = text.split()
        if len(fields) != len(FIELDS):
            names = ", ".join(field.name for field in FIELDS)
            raise ValueError(f"{text!r} has {len(fields)} fields; expected five: {names}, as in '0 3 * * 1'")
        parsed = [field.values(part) for field, part in zip(FIELDS, fields, strict=True)]
        (minute, _), (hour, _), (day, open_day), (month, _), (weekday, open_weekday) = parsed
        either = not open_day and not open_weekday
        by_day = any(number <= DAYS[one - 1] for number in day for one in month)
        if not minute or not hour or not month or not (by_day or weekday if either else by_day and weekday):
            raise ValueError(f"{text!r} never comes: correct its fields")
        return Cron(minute, hour, day, month, weekday, either)

    def next(self, timezone: str, after: datetime) -> datetime | None:
        """The first time after a time, in UTC; None where none comes within five years. `timezone` is an IANA name."""
        clock = _Clock(ZoneInfo(timezone), after.astimezone(UTC).replace(microsecond=0) + timedelta(seconds=1))
        limit = clock.local.year + YEARS
        while clock.local.year <= limit:
            if self._advance(clock):
                return clock.time
        return None

    def _advance(self, clock: "_Clock") -> bool:
        """Move to a time that matches: False where a larger field changed on the way, so that it has to be checked
        again."""
        steps: tuple[tuple[Callable[[datetime], bool], Callable[[], None], Callable[[datetime], bool]], ...] = (
            (lambda at: at.month in self.month, clock.next_month, lambda at: at.month == 1),
            (self._has_day, clock.next_day, lambda at: at.day == 1),
            (lambda at: at.hour in self.hour, clock.next_hour, lambda at: at.hour == 0),
            (lambda at: at.minute in self.minute, clock.next_minute, lambda at: at.minute == 0),
            (lambda at: at.second == 0, clock.next_second, lambda at: at.second == 0),
        )
        for matches, move, starts_over in steps:
            while not matches(clock.local):
                move()
                if starts_over(clock.local):
                    return False
        return True

    def _has_day(self, at: datetime) -> bool:
        days = at.day in self.day, at.isoweekday() % 7 in self.weekday
        return any(days) if self.either else all(days)


class _Clock:
    """A time that moves forward by one unit of a time zone's clock, to where that unit begins.

    Hours and shorter units are lengths of time, so that an hour that a clock shows twice is passed twice; days and
    months go by the calendar.
    """

    def __init__(self, zone: ZoneInfo, time: datetime) -> None:
        self._zone = zone
        self._moved = False
        self._set(time)

    def _set(self, time: datetime) -> None:
        self.time, self.local = time, time.astimezone(self._zone)

    def _start(self, time: datetime) -> None:
        """Go back to where the unit begins, before the first move; after it, smaller units are at their start."""
        if not self._moved:
            self._moved = True
            self._set(time)

    def next_month(self) -> None:
        self._start(self._at(self.local.year, self.local.month, 1))
        at = self.local
        self._set(self._at(at.year, at.month + 1, at.day, at.hour, at.minute, at.second))

    def next_day(self) -> None:
        self._start(self._at(self.local.year, self.local.month, self.local.day))
        at = self.local
        self._set(self._at(at.year, at.month, at.day + 1, at.hour, at.minute, at.second))
        if hour := self.local.hour:  # a day without a midnight
            self._set(self.time + timedelta(hours=24 - hour if hour > 12 else -hour))

    def next_hour(self) -> None:
        self._start(self._at(self.local.year, self.local.month, self.local.day, self.local.hour))
        self._set(self.time + timedelta(hours=1))

    def next_minute(self) -> None:
        self._start(self.time.replace(second=0))
        self._set(self.time + timedelta(minutes=1))

    def next_second(self) -> None:
        self._moved = True
        self._set(self.time + timedelta(seconds=1))

    def _at(self, year: int, month: int, day: int, hour: int = 0, minute: int = 0, second: int = 0) -> datetime:
        """When the clock shows this, in UTC; days and months beyond their range count on.

        Of a time that the clock skips or shows twice, the one that Go's `time.Date` takes, by the same two look-ups.
        """
        first = datetime(year + (month - 1) // 12, (month - 1) % 12 + 1, 1, tzinfo=UTC)
        reading = first + timedelta(days=day - 1, hours=hour, minutes=minute, seconds=second)
        offset = self._offset(reading)
        return reading - (offset if self._offset(reading - offset) == offset else self._offset(reading - offset))

    def _offset(self, time: datetime) -> timedelta:
        return time.astimezone(self._zone).utcoffset() or timedelta()


def _duration(text: str) -> timedelta:
    """The length of `@every`, in whole seconds, at least one. Raises ValueError."""
    duration = text.removeprefix(EVERY)
    amount = duration.removeprefix("+") if duration.startswith("+") else duration
    parts = DURATION.findall(amount)
    if not parts or "".join(number + unit for number, unit in parts) != amount:
        raise ValueError(f"{text!r}: {duration!r} is not a length of time: expected one like 30m, 12h or 1h30m")
    seconds = int(sum(float(number) * SECONDS[unit] for number, unit in parts))
    if seconds > 366 * 86400 * YEARS:
        raise ValueError(f"{text!r}: {duration!r} is more than {YEARS} years")
    return timedelta(seconds=max(1, seconds))
